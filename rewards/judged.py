"""Two bases for rewards that may ask a judge: as those of `per_trajectory`, with all questions of a unit asked at once.

A subclass lists the requests of a trajectory, none where it goes by rules alone, and gets the scores of their verdicts
in the same order. A failed verdict is NaN, and so is what depends on it: it is never 0. Where a score is NaN for that
reason, the trajectory is marked in `Scores.failed`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Trajectory, Unit
from envs.question import Question
from rewards.annotation import is_scorable, missing_fields, question_of
from rewards.judge.judge import Judge, JudgeRequest
from rewards.reward import Questions
from rewards.score import Scores


class _Judged(ABC):
    name: str
    needs: frozenset[str] = frozenset()
    judge: Judge | None = None

    def requests(self, trajectory: Trajectory, question: Question) -> list[JudgeRequest]:
        """What the judge is asked of one trajectory; not called without a judge."""
        return []

    def _verdicts(self, unit: Unit, questions: Questions, *, cut: bool) -> list[list[float] | None]:
        """Scores of the verdicts by trajectory; None where the reward does not apply to it."""
        asked: list[list[JudgeRequest] | None] = []
        for trajectory in unit.trajectories:
            question = question_of(trajectory, questions)
            is_there = is_scorable(trajectory) and (cut or trajectory.finish_reason != "cut")
            if not is_there or missing_fields(question, self.needs):
                asked.append(None)
            else:
                asked.append(self.requests(trajectory, question) if self.judge is not None else [])
        flat = [request for requests in asked if requests for request in requests]
        verdicts = iter(self.judge.ask(flat) if self.judge is not None and flat else [])
        return [None if requests is None else [next(verdicts).score for _ in requests] for requests in asked]


class JudgedOutcomeReward(_Judged):
    """A reward that gives one number to a whole trajectory. Subclasses write `outcome`, and `requests` for a judge."""

    @abstractmethod
    def outcome(self, trajectory: Trajectory, question: Question, verdicts: Sequence[float]) -> float:
        """The score of one trajectory; `verdicts` are the scores of its requests, none without a judge."""

    def __call__(self, unit: Unit, questions: Questions) -> Scores:
        """Score every trajectory of a unit: outcome `[num_trajectories]`, every turn NaN."""
        values = np.full(len(unit.trajectories), np.nan)
        failed = np.zeros(len(unit.trajectories), dtype=bool)
        for i, verdicts in enumerate(self._verdicts(unit, questions, cut=False)):
            if verdicts is not None:
                trajectory = unit.trajectories[i]
                values[i] = self.outcome(trajectory, question_of(trajectory, questions), verdicts)
                failed[i] = _has_failed(verdicts, values[i])
        return Scores.of_outcome(unit, values, failed=failed)


class JudgedTurnReward(_Judged):
    """A reward that gives a number to each turn. Subclasses write `turns`, and `requests` for a judge."""

    @abstractmethod
    def turns(self, trajectory: Trajectory, question: Question, verdicts: Sequence[float]) -> NDArray[np.float64]:
        """The scores `[num_turns]`; `verdicts` are the scores of the trajectory's requests, none without a judge."""

    def __call__(self, unit: Unit, questions: Questions) -> Scores:
        """Score every turn of a unit: turn[i] `[num_turns_i]`, every outcome NaN."""
        values: list[NDArray[np.float64]] = []
        failed = np.zeros(len(unit.trajectories), dtype=bool)
        for i, verdicts in enumerate(self._verdicts(unit, questions, cut=True)):
            trajectory = unit.trajectories[i]
            if verdicts is None:
                values.append(np.full(trajectory.num_turns, np.nan))
            else:
                question = question_of(trajectory, questions)
                values.append(np.asarray(self.turns(trajectory, question, verdicts), dtype=np.float64))
                failed[i] = _has_failed(verdicts, values[i])
        return Scores.of_turns(unit, values, failed=failed)


def _has_failed(verdicts: Sequence[float], scores: NDArray[np.float64] | float) -> bool:
    """True if a verdict failed and a score is NaN: a mean over the verdicts that are there is a score."""
    return bool(np.isnan(verdicts).any() and np.isnan(scores).any())


def aggregated(values: NDArray[np.float64], aggregate: str) -> NDArray[np.float64]:
    """Scores of turns as they are for `sum`; for `mean` each divided by the number of turns that have one (not NaN)."""
    num_scored = int(np.count_nonzero(~np.isnan(values)))
    return values / max(num_scored, 1) if aggregate == "mean" else values
