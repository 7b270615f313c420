"""A figure by type of question and by number of hops, for every run, with the paired difference between two.

Groups are small and many, so their intervals describe and test nothing: looking for the group with the largest
difference always finds one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evaluation.evaluation_suite import EvaluationSuite
from evaluation.report_parts import Cell, Measure, Table
from evaluation.significance import bootstrap_interval

Grouping = Literal["kind", "num_hops"]

GROUPINGS: dict[Grouping, str] = {"kind": "By type of question", "num_hops": "By number of hops"}
MAX_GROUPS = 24
NOT_ANNOTATED = "not annotated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Questions of one kind: how many they are, the figure of each run with its interval, and of two runs the
    difference (second minus first).
    """

    name: str
    num_questions: int
    measures: tuple[Measure, ...]
    difference: Measure | None = None


def groups_of(runs: Sequence[EvaluationSuite], grouping: Grouping, measure: str) -> list[Group]:
    """The groups, hops in ascending order and types by size; all sets together. Empty where nothing is annotated.

    Beyond `MAX_GROUPS` the smallest are one group.
    """
    labels: list[Any] = []
    for name, file in runs[0].sets.items():
        texts = next((run.sets[name].texts for run in runs if grouping in run.sets[name].texts), {})
        labels += texts.get(grouping) or [None] * file.num_questions
    if all(label is None for label in labels):
        return []
    columns = [np.concatenate([file.figures[measure] for file in run.sets.values()]) for run in runs]
    rows: dict[Any, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    if grouping == "num_hops":
        ordered = sorted(rows, key=lambda label: (label is None, label or 0))
    else:
        ordered = sorted(rows, key=lambda label: (label is None, -len(rows[label]), str(label)))
    kept, rest = ordered[:MAX_GROUPS], ordered[MAX_GROUPS:]
    found = [_group(_label(label, grouping), columns, rows[label]) for label in kept]
    if rest:
        others = [row for label in rest for row in rows[label]]
        found.append(_group(f"{len(rest)} others", columns, others))
    return found


def breakdown_table(groups: Sequence[Group], names: Sequence[str], title: str) -> Table:
    """One row a group: its size, the figure of each run, and the difference of two."""
    two = len(names) == 2
    rows: list[list[Cell]] = [
        [group.name, group.num_questions, *group.measures, *([group.difference] if two else [])] for group in groups
    ]
    difference = [f"{names[1]} minus {names[0]}"] if two else []
    return Table(title=title, columns=["", "questions", *names, *difference], rows=rows)


def _group(name: str, columns: Sequence[NDArray[np.float64]], rows: list[int]) -> Group:
    values = [column[rows] for column in columns]
    return Group(
        name=name,
        num_questions=len(rows),
        measures=tuple(_measure(own) for own in values),
        difference=_measure(values[1] - values[0], signed=True) if len(values) == 2 else None,
    )


def _measure(values: NDArray[np.float64], *, signed: bool = False) -> Measure:
    """Mean and 95 % bootstrap interval of a group; empty where nothing applies."""
    applies = values[~np.isnan(values)]
    if not applies.size:
        return Measure(value=None)
    low, high = bootstrap_interval(applies, num_resamples=1000)
    return Measure(value=float(applies.mean()), low=low, high=high, signed=signed)


def _label(label: Any, grouping: Grouping) -> str:
    if label is None:
        return NOT_ANNOTATED
    return f"{label} hop{'s' if label != 1 else ''}" if grouping == "num_hops" else str(label)
