"""A contamination check for people and files: counts, examples, and what a run answers with and without the overlap."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console

from evaluation.contamination import Contamination
from evaluation.evaluation_file import EvaluationFile
from evaluation.report_parts import Cell, Measure, Table
from evaluation.significance import bootstrap_interval
from evaluation.terminal_table import terminal_table


def counts_table(found: Contamination) -> Table:
    """One row a sign: how many evaluation questions show it."""
    counts = found.record()
    signs: list[tuple[str, str]] = [
        ("same question", "same_question"),
        ("  and a golden answer of it", "same_question_and_answer"),
        (f"shares a run of {found.n} words", "any_shared_ngram"),
        ("same id", "same_id"),
        (f"contaminated: same, or {found.share:.0%} of its {found.n}-grams in one", "contaminated"),
    ]
    rows: list[list[Cell]] = [[label, counts[key], counts[key] / found.num_questions] for label, key in signs]
    return Table(
        title=f"{found.num_questions:,} questions beside {found.num_training:,} training questions",
        columns=["sign", "questions", "share"],
        rows=rows,
    )


def example_lines(found: Contamination, *, limit: int = 5) -> list[str]:
    """The surest overlaps, each as a line on what is shared, with both texts and the shared words below it
    (which may stand in another wording of either)."""
    lines = []
    for one in found.contaminated[:limit]:
        shared = "the same question" if one.same_question else f"{one.shared_with_one:.0%} of its {found.n}-grams"
        answer = ", and its answer" if one.same_question_and_answer else ""
        lines += [
            f"{one.question_id} · {one.training_id}: {shared}{answer}",
            f"    evaluation: {one.question}",
            f"    training:   {one.training}",
        ]
        if not one.same_question:
            lines.append(f"    shared:     {one.example}")
    if (more := len(found.contaminated) - limit) > 0:
        lines.append(f"and {more:,} more; --json FILE writes all of them")
    return lines


def clean_figures(file: EvaluationFile, found: Contamination, measure: str = "em") -> dict[str, Any]:
    """A run's mean over the contaminated and over the other questions, each with its 95 % bootstrap interval.

    Raises:
        ValueError: the run has no such figure, or none of the questions that were checked.
    """
    if measure not in file.figures:
        raise ValueError(f"{file.path} has no figure {measure!r}; it has {', '.join(file.figures)}")
    checked, dirty = set(found.question_ids), {one.question_id for one in found.contaminated}
    if not checked & set(file.question_ids):
        raise ValueError(
            f"{file.path} answers none of the questions that were checked; give the file that it was asked"
        )
    result: dict[str, Any] = {}
    for name, wanted in (("all", checked), ("clean", checked - dirty), ("contaminated", dirty)):
        rows = [row for row, question_id in enumerate(file.question_ids) if question_id in wanted]
        values = file.figures[measure][rows]
        values = values[~np.isnan(values)]
        low, high = bootstrap_interval(values)
        mean = float(values.mean()) if values.size else float("nan")
        result |= {f"{name}_n": int(values.size), name: mean, f"{name}_low": low, f"{name}_high": high}
    return result


def clean_table(figures: dict[str, dict[str, Any]], measure: str) -> Table:
    """One row a run: all questions, those without overlap, and those with."""
    rows: list[list[Cell]] = []
    for name, own in figures.items():
        row: list[Cell] = [name]
        for part in ("all", "clean", "contaminated"):
            row += [own[f"{part}_n"], Measure(value=own[part], low=own[f"{part}_low"], high=own[f"{part}_high"])]
        rows.append(row)
    columns = ["run", "questions", f"{measure}, all", "without overlap", measure, "with overlap", measure]
    return Table(title=f"{measure} with and without them", columns=columns, rows=rows)


def overlap_record(found: Contamination) -> dict[str, Any]:
    """Counts, settings, and every overlap with both texts, as JSON types."""
    return {
        **found.record(),
        "overlaps": [{**asdict(one), "contaminated": one.is_contaminated(found.share)} for one in found.overlaps],
    }


def print_overlap(found: Contamination, tables: Sequence[Table], console: Console) -> None:
    """Print the counts, examples where there are any, further tables, and what was left out."""
    console.print(terminal_table(counts_table(found)))
    for line in example_lines(found):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    for table in tables:
        console.print(terminal_table(table))
    if found.num_common:
        console.print(
            f"{found.num_common:,} n-grams stand in more than {found.max_common} training questions and do not count: "
            "a template's",
            soft_wrap=True,
            highlight=False,
        )
    if found.num_too_short:
        console.print(
            f"{found.num_too_short:,} questions have fewer than {found.n} words and were compared as a whole",
            soft_wrap=True,
            highlight=False,
        )
