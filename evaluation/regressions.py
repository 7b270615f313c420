"""What got worse, question by question: what the second run lost that the first had, with both trajectories."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import numpy as np

from agent.trajectory import Trajectory
from envs.question import Question
from evaluation.evaluation_file import EvaluationFile
from evaluation.evaluation_suite import EvaluationSuite
from evaluation.examples import make_example
from evaluation.figure_names import direction
from evaluation.report_parts import Example, ExamplePair
from evaluation.trajectory_store import TrajectoryStore, read_trajectories
from evaluation.viewer.runs import run_key
from rewards.answer import exact_match

MAX_PASSAGE_CHARS = 1500
MAX_THOUGHT_CHARS = 4000
MAX_QUESTION_CHARS = 1000
TIE_BREAKERS: tuple[str, ...] = ("em", "f1", "support_recall")
"""Among equal losses of the measure, the larger loss of these comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedQuestion:
    """One question whose figure differs: where it stands, both values of the measure, and what both answered.

    `answers` and `finish_reasons` are those of each run's first sample; None where its file does not say. `direction`
    is -1 for a measure of which less is better.
    """

    question_set: str
    row: int
    question_id: str
    question: str | None
    golden_answers: tuple[str, ...]
    values: tuple[float, float]
    answers: tuple[str | None, str | None]
    finish_reasons: tuple[str | None, str | None]
    direction: float = 1.0

    @property
    def gain(self) -> float:
        """How much better the second run is on it; below 0 where it got worse."""
        return self.direction * (self.values[1] - self.values[0])


def changed_questions(first: EvaluationSuite, second: EvaluationSuite, measure: str) -> list[ChangedQuestion]:
    """Every question on which the runs differ by `measure`, the worst loss of the second run first.

    Both have the same sets and questions in the same order.
    """
    found: list[tuple[tuple[float, ...], ChangedQuestion]] = []
    for name, before in first.sets.items():
        after = second.sets[name]
        order = [measure, *(other for other in TIE_BREAKERS if other != measure and other in before.figures)]
        differences = {
            m: direction(m) * np.nan_to_num(after.figures[m] - before.figures[m]) for m in order if m in after.figures
        }
        for row in np.flatnonzero(differences[measure]):
            key = tuple(float(values[row]) for values in differences.values())
            found.append((key, _changed(name, int(row), before, after, measure)))
    found.sort(key=lambda pair: (pair[0], pair[1].question_set, pair[1].row))
    return [changed for _, changed in found]


def regression_pairs(
    first: EvaluationSuite,
    second: EvaluationSuite,
    changes: Sequence[ChangedQuestion],
    measure: str,
    *,
    viewer: str | None = None,
) -> list[ExamplePair]:
    """The questions with both trajectories as turn cards, where they lie beside the evaluation files.

    Of several samples one is taken that shows the change, where there is one. viewer: where `waymark view` serves the
    runs, such as `http://127.0.0.1:8700`; the cards then link to their trajectories there, and the pair to both.

    Raises:
        ValueError: `viewer` is no address of a web server.
    """
    if viewer is not None and not viewer.startswith(("http://", "https://")):
        raise ValueError(f"the viewer's address is {viewer!r}; give what `waymark view` prints: http://127.0.0.1:8700")
    stores = _Stores()
    pairs = []
    for change in changes:
        left, right = (_example(stores, run, change, place, viewer) for place, run in enumerate((first, second)))
        link = ""
        if viewer is not None and left is not None and right is not None:
            keys = [_viewer_key(run.sets[change.question_set]) for run in (first, second)]
            link = f"{viewer.rstrip('/')}/compare?a={keys[0]}&b={keys[1]}&question={quote(change.question_id, safe='')}"
        pairs.append(
            ExamplePair(
                title=cut_text(change.question or f"question {change.question_id}", MAX_QUESTION_CHARS),
                note=f"{change.question_id} · {measure} {change.values[0]:.3g} → {change.values[1]:.3g}",
                first=left,
                second=right,
                link=link,
            )
        )
    return pairs


class _Stores:
    """Trajectory folders, each opened once, with the entries of every question."""

    def __init__(self) -> None:
        self._opened: dict[Path, tuple[TrajectoryStore, dict[str, list[int]]] | None] = {}

    def read(self, file: EvaluationFile, question_id: str, fits: Callable[[Trajectory], bool]) -> Trajectory | None:
        """The first trajectory of a question that fits, else the first; None where none is there or can be read."""
        folder = file.trajectories
        if folder is None:
            return None
        if folder not in self._opened:
            try:
                store = read_trajectories(folder)
            except FileNotFoundError:
                self._opened[folder] = None
            else:
                places: dict[str, list[int]] = {}
                for place, entry in enumerate(store.entries):
                    places.setdefault(entry.question_id, []).append(place)
                self._opened[folder] = (store, places)
        opened = self._opened[folder]
        if opened is None:
            return None
        found: Trajectory | None = None
        for place in opened[1].get(question_id, ()):
            try:
                trajectory = opened[0].read(place).trajectory
            except (KeyError, ValueError):
                continue  # damaged, or deleted since: the next sample may do
            if fits(trajectory):
                return trajectory
            found = found or trajectory
        return found


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
        direction=direction(measure),
    )


def _first(file: EvaluationFile, column: str, row: int) -> str | None:
    values = file.texts.get(column)
    samples = values[row] if values else None
    return samples[0] if samples else None


def _viewer_key(file: EvaluationFile) -> str:
    return quote(run_key(file.path.parent.resolve()), safe="")


def _example(
    stores: _Stores, run: EvaluationSuite, change: ChangedQuestion, which: int, viewer: str | None
) -> Example | None:
    file = run.sets[change.question_set]
    is_better = (change.gain > 0) == (which == 1)
    golds = change.golden_answers

    def shows_it(sample: Trajectory) -> bool:
        return not golds or (exact_match(sample.final_answer, golds) == 1.0) == is_better

    trajectory = stores.read(file, change.question_id, shows_it)
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
            thought=cut_text(turn.thought, MAX_THOUGHT_CHARS),
            queries=[cut_text(query, MAX_PASSAGE_CHARS) for query in turn.queries],
            answer=None if turn.answer is None else cut_text(turn.answer, MAX_PASSAGE_CHARS),
            passages=[replace(p, text=cut_text(p.text, MAX_PASSAGE_CHARS)) for p in turn.passages],
        )
        for turn in example.turns
    ]
    em = example.em if golds else float(file.figures["em"][change.row]) if "em" in file.figures else None
    link = ""
    if viewer is not None:
        link = f"{viewer.rstrip('/')}/run/{_viewer_key(file)}/trajectory?id={quote(trajectory.id, safe='')}"
    return replace(example, em=None if em is None or math.isnan(em) else em, turns=turns, link=link)


def cut_text(text: str, limit: int) -> str:
    """A text, or its beginning and how much is missing."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} characters more)"
