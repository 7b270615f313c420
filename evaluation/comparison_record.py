"""A comparison as data: the entries of report.json, and the columns of report.csv."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from evaluation.comparison import Comparison
from evaluation.evaluation_suite import EvaluationSuite


def comparison_record(comparison: Comparison) -> dict[str, Any]:
    """The entries of report.json: summaries and blocks by run, every difference, every differing field, the verdict."""
    return {
        "runs": {run.name: {name: file.summary for name, file in run.sets.items()} for run in comparison.runs},
        "blocks": {run.name: {name: file.comparability for name, file in run.sets.items()} for run in comparison.runs},
        "ranked": comparison.is_ranked,
        "measures": list(comparison.measures),
        "alpha": comparison.alpha,
        "power": comparison.power,
        "differences": [asdict(one) for one in comparison.differences],
        "fields": [{**asdict(one), "forbids": one.forbids(strict=comparison.strict)} for one in comparison.fields],
        "left_out": list(comparison.left_out),
    }


def question_rows(comparison: Comparison) -> dict[str, list[Any]]:
    """Columns of report.csv: set, id, texts where known, then every figure, answer and finish reason of every run."""
    columns: dict[str, list[Any]] = {"question_set": [], "question_id": []}
    first = comparison.runs[0]
    for name, file in first.sets.items():
        columns["question_set"] += [name] * file.num_questions
        columns["question_id"] += file.question_ids
    for column in ("question", "kind", "num_hops", "golden_answers"):
        found = [_text_column(comparison.runs, name, column) for name in first.sets]
        if any(any(value is not None for value in values) for values in found):
            columns[column] = [value for values in found for value in values]
    for run in comparison.runs:
        shared = [
            f for f in next(iter(run.sets.values())).figures if all(f in file.figures for file in run.sets.values())
        ]
        for figure in shared:
            columns[f"{run.name}: {figure}"] = [v for file in run.sets.values() for v in file.figures[figure].tolist()]
        for column in ("answers", "finish_reasons"):
            if all(column in file.texts for file in run.sets.values()):
                columns[f"{run.name}: {column}"] = [
                    " | ".join("" if value is None else str(value) for value in values)
                    for file in run.sets.values()
                    for values in file.texts[column]
                ]
    return columns


def _text_column(runs: Sequence[EvaluationSuite], name: str, column: str) -> list[Any]:
    file = next((run.sets[name] for run in runs if column in run.sets[name].texts), None)
    values = file.texts[column] if file else [None] * runs[0].sets[name].num_questions
    return [" | ".join(map(str, value)) if isinstance(value, list) else value for value in values]
