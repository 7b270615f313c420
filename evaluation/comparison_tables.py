"""The tables of a comparison, for the page and for the terminal alike."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.block_differences import aligned_fields
from evaluation.comparison import Comparison, mean_over_sets
from evaluation.evaluation_file import EvaluationFile
from evaluation.evaluation_suite import EvaluationSuite
from evaluation.figure_names import direction, figure_label, is_cost
from evaluation.power import questions_needed
from evaluation.regressions import ChangedQuestion, cut_text
from evaluation.report_parts import Cell, Measure, Table
from evaluation.run_difference import RunDifference
from evaluation.significance import bootstrap_interval

MAX_CELL_CHARS = 400
"""Of a text in a table of questions: an answer can be a page, and golden answers hundreds of aliases."""

_HASH = re.compile(r"\b[0-9a-f]{40,}\b")

STAR = "✱"
"""Behind a difference that is significant after the correction."""


def differences_table(comparison: Comparison) -> Table:
    """One row a tested difference: the difference with interval and mark, the p-values of every test, and the means."""
    several = len(comparison.runs) > 2
    rows: list[list[Cell]] = [
        [
            _row_name(comparison, one),
            _difference(comparison, one),
            p_text(one.p_holm),
            one.n,
            one.first_mean,
            one.second_mean,
            f"{one.first_only} : {one.second_only}" if one.first_only is not None else "–",
            p_text(one.p),
            p_text(one.p_mcnemar),
            p_text(one.p_bootstrap),
        ]
        for one in comparison.differences
        if one.p is not None
    ]
    first, second = ("first", "second") if several or len(comparison.runs) < 2 else comparison.names
    return Table(
        title="Differences and tests",
        columns=[
            "figure",
            "difference",
            "p (Holm)",
            "questions",
            first,
            second,
            "only one right",
            "p (randomisation)",
            "p (McNemar)",
            "p (bootstrap)",
        ],
        rows=rows,
        note=f"{_star_note(comparison, len(rows))} Difference: second run minus first, with its 95 % paired bootstrap "
        "interval. Holm's correction is of the randomisation test, which is exact (McNemar's) where every figure is "
        "right or wrong. Only one right: questions that only the first : only the second run answers right.",
    )


def short_table(comparison: Comparison) -> Table:
    """The tested differences in the width of a terminal: difference, corrected p-value, and what the questions show."""
    rows: list[list[Cell]] = [
        [
            _row_name(comparison, one),
            _difference(comparison, one),
            p_text(one.p_holm),
            one.n,
            one.visible,
            one.needed,
        ]
        for one in comparison.differences
        if one.p is not None
    ]
    return Table(
        title=f"Differences ({STAR} significant at {comparison.alpha:g} after Holm)",
        columns=["figure", "difference", "p (Holm)", "questions", "they show", "it needs"],
        rows=rows,
    )


def _star_note(comparison: Comparison, num_tests: int) -> str:
    corrected = f"Holm's correction over all {num_tests} tests of this table"
    if not comparison.is_ranked:
        return f"Nothing is marked, because the runs may not be ranked; p (Holm) has {corrected}."
    return f"{STAR} significant at {comparison.alpha:g} after {corrected}."


def figures_table(comparison: Comparison, question_set: str | None = None) -> Table:
    """Every figure of every run, and of two runs their difference; of one set, or (None) as the mean over sets."""
    runs = comparison.runs
    two = len(runs) == 2
    names = list(dict.fromkeys(figure for run in runs for file in run.sets.values() for figure in file.figures))
    rows: list[list[Cell]] = []
    for figure in names:
        cells: list[Cell] = []
        for run in runs:
            files = [run.sets[question_set]] if question_set else list(run.sets.values())
            cells.append(_run_cell(comparison, run, files, figure))
        if all(isinstance(cell, Measure) and cell.value is None for cell in cells):
            continue
        if two:
            one = comparison.found(figure, question_set or comparison.headline_set, runs[0].name, runs[1].name)
            cells.append(_difference(comparison, one) if one is not None else None)
        rows.append([figure_label(figure), *cells])
    for figure in _other_costs(comparison, question_set):
        files = [run.sets[question_set or next(iter(run.sets))] for run in runs]
        values: list[Cell] = [_number(file.summary.get(figure)) for file in files]
        rows.append([figure_label(figure), *values, *([None] if two else [])])
    difference = [f"{runs[1].name} minus {runs[0].name}"] if two else []
    where = f" on {question_set}" if question_set else ", mean over question sets" if comparison.is_suite else ""
    return Table(title=f"All figures{where}", columns=["figure", *comparison.names, *difference], rows=rows)


def needed_table(comparison: Comparison) -> Table | None:
    """Per tested set: the smallest difference that its questions show, and the questions that given ones need."""
    tested = [one for one in comparison.differences if one.spread is not None]
    if not tested:
        return None
    rows: list[list[Cell]] = []
    for one in tested:
        assert one.spread is not None
        row: list[Cell] = [_row_name(comparison, one), one.n, one.visible, one.difference, one.power]
        row.append(one.needed if one.needed is not None else "–")
        for points in comparison.points:
            needed = questions_needed(
                points,
                one.spread,
                power=comparison.power,
                alpha=comparison.alpha,
                binary=one.first_only is not None,
            )
            row.append(needed)
        rows.append(row)
    return Table(
        title="How many questions a difference needs",
        columns=[
            "figure",
            "questions",
            "smallest visible",
            "seen here",
            "power for it",
            "needed for it",
            *(f"for {points * 100:g} points" for points in comparison.points),
        ],
        rows=rows,
        note=f"With power {comparison.power:g} at {comparison.alpha:g}, two-sided, one test, for runs that differ on "
        "as many questions as these do (Connor 1987; for shares the paired z-test), or on as many more as a difference "
        "of that size takes.",
    )


def fields_table(comparison: Comparison) -> Table | None:
    """What differs between the comparability blocks, and what follows from it; None where nothing does."""
    if not comparison.fields:
        return None
    meaning = {
        "compared": "what is compared",
        "circumstance": "forbids a ranking (strict)" if comparison.strict else "stated",
        "unknown": "no file says",
        "decides": "forbids a ranking",
    }
    rows: list[list[Cell]] = [
        [one.field, *map(_short, one.values), "allowed, stated" if one.is_allowed else meaning[one.kind]]
        for one in comparison.fields
    ]
    return Table(
        title="What differs between the runs", columns=["field", *comparison.names, "what it means"], rows=rows
    )


def blocks_table(comparison: Comparison) -> Table:
    """The comparability blocks field by field: the value that all share, or each run's own."""
    blocks = [_block(run) for run in comparison.runs]
    rows: list[list[Cell]] = []
    for field, values in aligned_fields(blocks):
        same = len(set(values)) == 1
        rows.append([field, *([values[0], *("same" for _ in values[1:])] if same else values)])
    return Table(title="Comparability blocks", columns=["field", *comparison.names], rows=rows)


def _block(run: EvaluationSuite) -> dict[str, Any]:
    if len(run.sets) == 1:
        return next(iter(run.sets.values())).comparability
    return {
        f"{name} · {field}": value for name, file in run.sets.items() for field, value in file.comparability.items()
    }


def ranking_table(comparison: Comparison) -> Table:
    """Runs by the first measure, best first where they may be ranked, and which others each is better than."""
    measure, where = comparison.measures[0], comparison.headline_set
    means = {run.name: mean_over_sets(run, measure) for run in comparison.runs}
    names = list(comparison.names)
    if comparison.is_ranked:
        names.sort(key=lambda name: (math.isnan(means[name]), -direction(measure) * means[name]))
    rows: list[list[Cell]] = []
    for name in names:
        run = next(run for run in comparison.runs if run.name == name)
        better = [other for other in names if beats(comparison, name, other)]
        row: list[Cell] = [name, run.num_questions, _run_cell(comparison, run, list(run.sets.values()), measure)]
        if comparison.is_suite:
            row += [_run_cell(comparison, run, [file], measure) for file in run.sets.values()]
        rows.append([*row, ", ".join(better) or "–"] if comparison.is_ranked else row)
    sets = list(comparison.runs[0].sets) if comparison.is_suite else []
    label = figure_label(measure)
    last = [f"significantly {'cheaper' if is_cost(measure) else 'better'} than"] if comparison.is_ranked else []
    return Table(
        title=f"{label}, {where}" if comparison.is_suite else label,
        columns=["run", "questions", "mean over sets" if sets else "mean", *sets, *last],
        rows=rows,
    )


def changes_table(changes: Sequence[ChangedQuestion], names: Sequence[str], measure: str, *, limit: int = 100) -> Table:
    """The worst regressions by question: what was asked, and what both runs answered."""
    worse = [change for change in changes if change.gain < 0]
    rows: list[list[Cell]] = [
        [
            change.question_id,
            cut_text(change.question or "unknown", MAX_CELL_CHARS),
            cut_text(" · ".join(change.golden_answers) or "unknown", MAX_CELL_CHARS),
            cut_text(change.answers[0] or change.finish_reasons[0] or "–", MAX_CELL_CHARS),
            cut_text(change.answers[1] or change.finish_reasons[1] or "–", MAX_CELL_CHARS),
            f"{change.values[0]:.3g} → {change.values[1]:.3g}",
        ]
        for change in worse[:limit]
    ]
    more = f" The first {limit} of {len(worse)}; report.csv has every question." if len(worse) > limit else ""
    return Table(
        title="Questions that got worse",
        columns=["id", "question", "gold", names[0], names[1], measure],
        rows=rows,
        note=f"Worst first.{more}",
    )


def beats(comparison: Comparison, name: str, other: str) -> bool:
    """True if the first measure says that one run is significantly better (of costs: cheaper) than another."""
    measure, where = comparison.measures[0], comparison.headline_set
    sign = direction(measure)
    later = comparison.found(measure, where, other, name)
    earlier = comparison.found(measure, where, name, other)
    if later is not None:
        return later.is_significant and sign * later.difference > 0
    return earlier is not None and earlier.is_significant and sign * earlier.difference < 0


def p_text(p: float | None) -> str:
    """A p-value as it is printed."""
    if p is None:
        return "–"
    return f"{p:.4f}" if p >= 0.0001 else "<0.0001"


def _row_name(comparison: Comparison, one: RunDifference) -> str:
    """The figure, with the runs where there are more than two and the set where there are several."""
    runs = [f"{one.second} minus {one.first}"] if len(comparison.runs) > 2 else []
    return " · ".join([*runs, *([one.question_set] if comparison.is_suite else []), figure_label(one.measure)])


def _short(value: str) -> str:
    """A value with every hash in it cut to its beginning."""
    return _HASH.sub(lambda found: f"{found[0][:12]}…", value)


def _difference(comparison: Comparison, one: RunDifference) -> Measure:
    is_marked = one.is_significant and comparison.is_ranked
    better = direction(one.measure) * one.difference > 0
    tone = "" if not is_marked or is_cost(one.measure) else "good" if better else "bad"
    return Measure(
        value=one.difference,
        low=one.low,
        high=one.high,
        mark=STAR if is_marked else "",
        tone=tone,  # type: ignore[arg-type]
        signed=True,
    )


def _run_cell(comparison: Comparison, run: EvaluationSuite, files: Sequence[EvaluationFile], figure: str) -> Measure:
    """A run's mean over these sets with its interval, which is the file's own for all questions of one set."""
    if any(figure not in file.figures for file in files):
        return Measure(value=None)
    means = []
    for file in files:
        values = file.figures[figure]
        values = values[~np.isnan(values)]
        if not values.size:
            return Measure(value=None)
        means.append(float(values.mean()))
    if len(files) > 1:
        return comparison.means.get(run.name, {}).get(figure) or Measure(value=float(np.mean(means)))
    file = files[0]
    low, high = file.summary.get(f"{figure}_low"), file.summary.get(f"{figure}_high")
    if low is None or high is None or file.num_questions != file.summary.get("n"):
        low, high = bootstrap_interval(file.figures[figure])
    return Measure(value=means[0], low=low, high=high)


def _has_no_rows(figure: str) -> bool:
    return is_cost(figure) or figure.startswith("boundary_")


def _other_costs(comparison: Comparison, question_set: str | None) -> list[str]:
    """What a summary has without a figure per question (a latency's percentiles, the boundary's); of one set alone."""
    if question_set is None and comparison.is_suite:
        return []
    files: list[Mapping[str, Any]] = [
        file.summary for run in comparison.runs for name, file in run.sets.items() if question_set in (None, name)
    ]
    figures = {figure for run in comparison.runs for file in run.sets.values() for figure in file.figures}
    ends = ("_low", "_high")
    names = [name for summary in files for name in summary if _has_no_rows(name) and not name.endswith(ends)]
    numbers = [
        name for name in dict.fromkeys(names) if any(_number(summary.get(name)) is not None for summary in files)
    ]
    return [name for name in numbers if name not in figures]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
