"""A comparison (or one run) as a page with its JSON and CSV: verdict, tests, breakdowns, costs, what got worse.

A page that may not rank still shows every figure, under the fields that forbid a ranking.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.breakdown import GROUPINGS, breakdown_table, groups_of
from evaluation.comparison import Comparison
from evaluation.comparison_charts import difference_chart, finish_chart, group_chart
from evaluation.comparison_record import comparison_record, question_rows
from evaluation.comparison_tables import (
    beats,
    blocks_table,
    changes_table,
    differences_table,
    fields_table,
    figures_table,
    needed_table,
    ranking_table,
)
from evaluation.comparison_verdict import verdict_lines
from evaluation.evaluation_file import FILE
from evaluation.evaluation_suite import EvaluationSuite
from evaluation.figure_names import figure_label, is_cost
from evaluation.regressions import changed_questions, regression_pairs
from evaluation.report import controls_table, format_difference, format_number, write_report
from evaluation.report_parts import Arm, Measure, Report, Section, Table, Tile

NUM_PAIRS = 20
"""Questions that got worse, shown with both trajectories."""


def write_comparison(
    out: str | Path,
    comparison: Comparison,
    *,
    arms: Sequence[Arm] = (),
    num_pairs: int = NUM_PAIRS,
    viewer: str | None = None,
) -> Path:
    """Write `report.html`, `report.json` and `report.csv` (one line a question) into `out`; returns the page's path.

    Raises:
        ValueError: `out` is the folder of an evaluation, whose own report would be lost; or as `comparison_page`.
    """
    if (Path(out) / FILE).exists():
        raise ValueError(f"{out} holds an evaluation and its own report; give --out another folder")
    return write_report(out, comparison_page(comparison, arms=arms, num_pairs=num_pairs, viewer=viewer))


def comparison_page(
    comparison: Comparison, *, arms: Sequence[Arm] = (), num_pairs: int = NUM_PAIRS, viewer: str | None = None
) -> Report:
    """The page of a comparison. `arms` are training runs whose curves are drawn too; `viewer` is the address of a
    `waymark view` of the runs, which the worst regressions then link to.

    Raises:
        ValueError: `viewer` is no address of a web server.
    """
    names = comparison.names
    sections = [
        _verdict(comparison),
        *_needed(comparison),
        _figures(comparison),
        *breakdown_sections(comparison),
        *finish_sections(comparison),
        *_costs(comparison),
        *_controls(comparison),
        *_regressions(comparison, num_pairs, viewer),
        *_blocks(comparison),
    ]
    return Report(
        title=_title(names),
        summary_lines=verdict_lines(comparison),
        tiles=_tiles(comparison),
        sections=sections,
        arms=arms,
        comparability=_single_block(comparison),
        figures=comparison_record(comparison),
        per_question=question_rows(comparison),
    )


def _title(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"Evaluation of {names[0]}"
    return f"{names[1]} against {names[0]}" if len(names) == 2 else f"{len(names)} runs side by side"


def _verdict(comparison: Comparison) -> Section:
    if len(comparison.runs) == 1:
        return Section(title="Result", tables=[ranking_table(comparison)] if comparison.is_suite else [])
    several = len(comparison.runs) > 2
    tested = [one for one in comparison.differences if one.p is not None]
    chart = difference_chart(
        tested,
        "Differences with 95 % intervals" + ("; filled where significant" if comparison.is_ranked else ""),
        several_pairs=several,
        ranked=comparison.is_ranked,
    )
    fields = fields_table(comparison)
    tables = [ranking_table(comparison)] if several or comparison.is_suite else []
    return Section(
        title="Result" if comparison.is_ranked else "Side by side, not ranked",
        charts=[chart] if chart else [],
        tables=[*tables, differences_table(comparison), *([fields] if fields else [])],
    )


def _needed(comparison: Comparison) -> list[Section]:
    table = needed_table(comparison)
    return [Section(title="How many questions a difference needs", tables=[table])] if table else []


def _figures(comparison: Comparison) -> Section:
    tables = [figures_table(comparison)] if not comparison.is_suite else []
    if comparison.is_suite:
        tables = [figures_table(comparison), *(figures_table(comparison, name) for name in comparison.runs[0].sets)]
    return Section(
        title="Figures",
        note="Means, with 95 % bootstrap intervals over questions under them. Differences of figures that are not "
        "tested have an interval and no mark.",
        tables=tables,
        folded=comparison.is_suite,
    )


def breakdown_sections(comparison: Comparison) -> list[Section]:
    """The first measure by type of question and by hops; empty where neither is annotated."""
    measure = comparison.measures[0]
    label = figure_label(measure)
    charts, tables = [], []
    for grouping, title in GROUPINGS.items():
        groups = groups_of(comparison.runs, grouping, measure)
        if not groups:
            continue
        chart = group_chart(f"group-{grouping}", title, groups, comparison.names, label)
        charts += [chart] if chart else []
        tables.append(breakdown_table(groups, comparison.names, f"{label}, {title.lower()}"))
    if not tables:
        return []
    note = "Intervals are over the questions of a group; differences between groups are not tested."
    return [Section(title="By type and hops", note=note, charts=charts, tables=tables)]


def finish_sections(comparison: Comparison) -> list[Section]:
    """How the episodes of every run ended."""
    reasons = {run.name: finish_reasons(run) for run in comparison.runs}
    chart = finish_chart(reasons)
    return [Section(title="How episodes ended", charts=[chart])] if chart else []


def _costs(comparison: Comparison) -> list[Section]:
    table = figures_table(comparison)
    wanted = {
        figure_label(name)
        for run in comparison.runs
        for file in run.sets.values()
        for name in (*file.figures, *file.summary)
        if is_cost(name)
    }
    rows = [row for row in table.rows if row[0] in wanted]
    return [Section(title="Costs", tables=[Table(title="Costs", columns=table.columns, rows=rows)])] if rows else []


def _controls(comparison: Comparison) -> list[Section]:
    tables = []
    for run in comparison.runs:
        for name, file in run.sets.items():
            table = controls_table(file.controls)
            if table is not None:
                title = f"{run.name} on {name}" if comparison.is_suite else run.name
                tables.append(Table(title=title, columns=table.columns, rows=table.rows, note=table.note))
    note = "The same questions with one thing changed."
    return [Section(title="Controls", note=note, tables=tables, folded=len(tables) > 2)] if tables else []


def _regressions(comparison: Comparison, num_pairs: int, viewer: str | None) -> list[Section]:
    if len(comparison.runs) != 2:
        return []
    first, second = comparison.runs
    measure = comparison.measures[0]
    changes = changed_questions(first, second, measure)
    worse = [change for change in changes if change.gain < 0]
    better = len(changes) - len(worse)
    note = (
        f"{second.name} loses {len(worse):,} questions to {first.name} and wins {better:,} ({figure_label(measure)}). "
        f"The {min(num_pairs, len(worse))} worst losses open to both trajectories."
    )
    if not worse:
        return [Section(title="What got worse", note=f"No question got worse; {better:,} got better.")]
    return [
        Section(
            title="What got worse",
            note=note,
            pairs=regression_pairs(first, second, worse[:num_pairs], measure, viewer=viewer),
            tables=[changes_table(changes, comparison.names, measure)],
            folded=True,
        )
    ]


def _tiles(comparison: Comparison) -> list[Tile]:
    measure = comparison.measures[0]
    label = figure_label(measure)
    if len(comparison.runs) > 4:
        return []
    table = ranking_table(comparison)
    tiles = []
    for row in table.rows:
        cell = row[2]
        assert isinstance(cell, Measure)
        interval = f" · {format_number(cell.low)} to {format_number(cell.high)}" if cell.low is not None else ""
        tiles.append(Tile(label=str(row[0]), value=format_number(cell.value), detail=f"{label}{interval}"))
    if len(comparison.runs) == 2:
        first, second = comparison.names
        one = comparison.found(measure, comparison.headline_set, first, second)
        if one is not None:
            told = (
                "not ranked" if not comparison.is_ranked else "significant" if one.is_significant else "not significant"
            )
            wins = beats(comparison, second, first)
            is_marked = comparison.is_ranked and one.is_significant and not is_cost(measure)
            tone = "" if not is_marked else "good" if wins else "bad"
            tiles.append(
                Tile(
                    label=f"{second} minus {first}",
                    value=format_difference(one.difference),
                    detail=f"{format_difference(one.low)} to {format_difference(one.high)} · {told}",
                    tone=tone,  # type: ignore[arg-type]
                )
            )
    tiles.append(
        Tile(
            label="Questions", value=f"{comparison.runs[0].num_questions:,}", detail=", ".join(comparison.runs[0].sets)
        )
    )
    return tiles


def finish_reasons(run: EvaluationSuite) -> dict[str, int]:
    """Episodes by finish reason over all sets, of the questions compared where the files say which ended how."""
    counts: dict[str, int] = {}
    for file in run.sets.values():
        rows = file.texts.get("finish_reasons")
        if rows is not None:
            for reason in (reason for samples in rows for reason in samples):
                counts[reason] = counts.get(reason, 0) + 1
        else:
            for reason, count in (file.summary.get("finish_reasons") or {}).items():
                counts[reason] = counts.get(reason, 0) + count
    return counts


def _single_block(comparison: Comparison) -> Mapping[str, Any]:
    """The block of a single evaluation; those of several stand side by side in a section of their own."""
    files = [file for run in comparison.runs for file in run.sets.values()]
    return files[0].comparability if len(files) == 1 else {}


def _blocks(comparison: Comparison) -> list[Section]:
    if not comparison.is_suite and len(comparison.runs) == 1:
        return []
    note = "Figures may be compared where these entries agree."
    return [Section(title="Comparability", note=note, tables=[blocks_table(comparison)], folded=True)]
