"""Scores and credit of a unit, made once however often they are asked for.

Whether a group teaches anything is seen in its rows: where every advantage is 0 (all samples right, or all wrong) there
is no gradient. DAPO (arXiv:2503.14476, section 3.2) samples others in their place; the rollouts ask `teaches` of each
complete unit, and the loop finds the same judgement when the unit arrives.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock

from agent.trajectory import Unit
from envs.question import Question
from rewards.compose import Composition
from rewards.score import Scores
from train.credit.row import CreditEstimator, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Scores by reward name, and the rows that credit made of them, with the time that took."""

    scores: Mapping[str, Scores]
    rows: list[Row]
    credit_seconds: float = 0.0

    @property
    def teaches(self) -> bool:
        """True if some trained token has an advantage."""
        return any(bool(((row.advantages != 0) & (row.loss_mask == 1)).any()) for row in self.rows)


class UnitJudge:
    """Judges units; thread-safe, for rollouts and learner live on two threads.

    `keeps` False: what `teaches` finds is not kept for `judge`, which another process is asked.
    """

    def __init__(
        self,
        rewards: Composition,
        estimator: CreditEstimator,
        questions: Mapping[str, Question],
        *,
        keeps: bool = True,
    ) -> None:
        self._keeps = keeps
        self._rewards = rewards
        self._estimator = estimator
        self._questions = questions
        self._lock = Lock()
        self._kept: dict[str, Judged] = {}
        self._credit_seconds = 0.0

    def teaches(self, unit: Unit) -> bool:
        """Judge a unit that `judge` will be asked for, unless it teaches nothing."""
        judged = self._judged(unit)
        if judged.teaches and self._keeps:
            self._kept[unit.id] = judged
        return judged.teaches

    def judge(self, unit: Unit) -> Judged:
        """Scores and rows of a unit."""
        if kept := self._kept.pop(unit.id, None):
            return kept
        judged = self._judged(unit)
        self._credit_seconds += judged.credit_seconds
        return judged

    def _judged(self, unit: Unit) -> Judged:
        with self._lock:
            scores = self._rewards.score(unit, self._questions)
            start = time.perf_counter()
            rows = self._estimator(unit, scores, self._rewards.weights)
            return Judged(scores=scores, rows=rows, credit_seconds=time.perf_counter() - start)

    def take_credit_seconds(self) -> float:
        """Seconds of `judge` that were credit's and not the rewards', since the last call."""
        seconds, self._credit_seconds = self._credit_seconds, 0.0
        return seconds
