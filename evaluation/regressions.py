"""What got worse, question by question: what the second run lost that the first had, with both trajectories."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agent.trajectory import Trajectory
from envs.question import Question
from evaluation.evaluation_file import EvaluationFile
from evaluation.evaluation_suite import EvaluationSuite
from evaluation.examples import make_example
from evaluation.report_parts import Example, ExamplePair
from evaluation.trajectory_store import TrajectoryStore, read_trajectories

MAX_PASSAGE_CHARS = 1500
MAX_THOUGHT_CHARS = 4000
TIE_BREAKERS: tuple[str, ...] = ("em", "f1", "support_recall")
"""Among equal losses of the measure, the larger loss of these comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedQuestion:
    """One question whose figure differs: where it stands, both values of the measure, and what both answered.

    `answers` and `finish_reasons` are those of each run's first sample; None where its file does not say.
    """

    question_set: str
    row: int
    question_id: str
    question: str | None
    golden_answers: tuple[str, ...]
    values: tuple[float, float]
    answers: tuple[str | None, str | None]
    finish_reasons: tuple[str | None, str | None]

    @property
    def difference(self) -> float:
        """Second minus first."""
        return self.values[1] - self.values[0]


def changed_questions(first: EvaluationSuite, second: EvaluationSuite, measure: str) -> list[ChangedQuestion]:
    """Every question on which the runs differ by `measure`, the worst loss of the second run first.

    Both have the same sets and questions in the same order.
    """
    found: list[tuple[tuple[float, ...], ChangedQuestion]] = []
    for name, before in first.sets.items():
        after = second.sets[name]
        order = [measure, *(other for other in TIE_BREAKERS if other != measure and other in before.figures)]
        differences = {m: np.nan_to_num(after.figures[m] - before.figures[m]) for m in order if m in after.figures}
        for row in np.flatnonzero(differences[measure]):
            key = tuple(float(values[row]) for values in differences.values())
            found.append((key, _changed(name, int(row), before, after, measure)))
    found.sort(key=lambda pair: (pair[0], pair[1].question_set, pair[1].row))
    return [changed for _, changed in found]


def regression_pairs(
    first: EvaluationSuite, second: EvaluationSuite, changes: Sequence[ChangedQuestion], measure: str
) -> list[ExamplePair]:
    """The questions with both trajectories as turn cards, where they lie beside the evaluation files."""
    stores = _Stores()
    return [
        ExamplePair(
            title=change.question or f"question {change.question_id}",
            note=f"{change.question_id} · {measure} {change.values[0]:.3g} → {change.values[1]:.3g}",
            first=_example(stores, first, change, 0),
            second=_example(stores, second, change, 1),
        )
        for change in changes
    ]


class _Stores:
    """Trajectory folders, each opened once, with the first entry of every question."""

    def __init__(self) -> None:
        self._opened: dict[Path, tuple[TrajectoryStore, dict[str, int]] | None] = {}

    def read(self, file: EvaluationFile, question_id: str) -> Trajectory | None:
        """The first trajectory of a question; None where it is not there or cannot be read."""
        folder = file.trajectories
        if folder is None:
            return None
        if folder not in self._opened:
            try:
                store = read_trajectories(folder)
            except FileNotFoundError:
                self._opened[folder] = None
            else:
                places: dict[str, int] = {}
                for place, entry in enumerate(store.entries):
                    places.setdefault(entry.question_id, place)
                self._opened[folder] = (store, places)
        opened = self._opened[folder]
        if opened is None or question_id not in opened[1]:
            return None
        try:
            return opened[0].read(opened[1][question_id]).trajectory
        except (KeyError, ValueError):
            return None


def _changed(name: str, row: int, before: EvaluationFile, after: EvaluationFile, measure: str) -> ChangedQuestion:
    texts = before.texts if "question" in before.texts else after.texts
    return ChangedQuestion(
        question_set=name,
        row=row,
        question_id=before.question_ids[row],
        question=texts["question"][row] if "question" in texts else None,
        golden_answers=tuple(texts["golden_answers"][row]) if "golden_answers" in texts else (),
        values=(float(before.figures[measure][row]), float(after.figures[measure][row])),
        answers=(_first(before, "answers", row), _first(after, "answers", row)),
        finish_reasons=(_first(before, "finish_reasons", row), _first(after, "finish_reasons", row)),
    )


def _first(file: EvaluationFile, column: str, row: int) -> str | None:
    values = file.texts.get(column)
    samples = values[row] if values else None
    return samples[0] if samples else None


def _example(stores: _Stores, run: EvaluationSuite, change: ChangedQuestion, which: int) -> Example | None:
    file = run.sets[change.question_set]
    trajectory = stores.read(file, change.question_id)
    if trajectory is None:
        return None
    texts = file.texts
    question = Question(
        id=change.question_id,
        text=change.question or "(the file does not say what was asked)",
        golden_answers=change.golden_answers,
        supporting_ids=tuple(texts["supporting_ids"][change.row]) if "supporting_ids" in texts else (),
    )
    example = make_example(trajectory, question, label=run.name)
    turns = [
        replace(
            turn,
            thought=_cut(turn.thought, MAX_THOUGHT_CHARS),
            passages=[replace(p, text=_cut(p.text, MAX_PASSAGE_CHARS)) for p in turn.passages],
        )
        for turn in example.turns
    ]
    return replace(example, em=float(file.figures["em"][change.row]) if "em" in file.figures else None, turns=turns)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} characters more)"
