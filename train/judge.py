"""Scores and credit of a unit, made once however often they are asked for.

Whether a group teaches anything is seen in its rows: where every advantage is 0 (all samples right, or all wrong) there
is no gradient. DAPO (arXiv:2503.14476, section 3.2) samples others in their place; the rollouts ask `teaches` of each
complete unit, and the loop finds the same judgement when the unit arrives.
"""

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
    """Scores by reward name, and the rows that credit made of them."""

    scores: Mapping[str, Scores]
    rows: list[Row]

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

    def teaches(self, unit: Unit) -> bool:
        """Judge a unit that `judge` will be asked for, unless it teaches nothing."""
        judged = self._judged(unit)
        if judged.teaches and self._keeps:
            self._kept[unit.id] = judged
        return judged.teaches

    def judge(self, unit: Unit) -> Judged:
        """Scores and rows of a unit."""
        return self._kept.pop(unit.id, None) or self._judged(unit)

    def _judged(self, unit: Unit) -> Judged:
        with self._lock:
            scores = self._rewards.score(unit, self._questions)
            return Judged(scores=scores, rows=self._estimator(unit, scores, self._rewards.weights))
