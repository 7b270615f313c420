"""Scores and credit of a unit, made once however often they are asked for.

Whether a group teaches anything is seen in its rows: where every advantage is 0 (all samples right, or all wrong) there
is no gradient. DAPO (arXiv:2503.14476, section 3.2) samples others in their place; the rollouts ask `teaches` of each
complete unit, and the loop finds the same judgement when the unit arrives.

Scores are kept, credit is not where weights have changed since: a unit that was sampled ahead is learnt from with the
weights of the step that takes it.
"""

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Unit
from envs.question import Question
from rewards.compose import Composition, ScoredUnit
from rewards.score import Scores
from train.credit.checked import credited_rows
from train.credit.group import failed_trajectories
from train.credit.row import CreditEstimator, Row
from train.judge_outage import JudgeGuard, JudgeReading


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Scores by reward name as credit got them, and the rows that it made of them, with the time that took.

    raw: scores before gates; gates: of each gated reward 1 open, 0 closed, NaN untold: `[num_trajectories]`.
    num_failed: trajectories that left their group because a verdict failed.
    """

    scores: Mapping[str, Scores]
    rows: list[Row]
    num_failed: int = 0
    credit_seconds: float = 0.0
    raw: Mapping[str, Scores] = field(default_factory=dict)
    gates: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def teaches(self) -> bool:
        """True if some trained token has an advantage."""
        return any(bool(((row.advantages != 0) & (row.loss_mask == 1)).any()) for row in self.rows)


class UnitJudge:
    """Judges units; thread-safe, for rollouts and learner live on two threads.

    `keeps` False: what `teaches` finds is not kept for `judge`, which another process is asked. `guard` pauses a step
    whose judges fail.
    """

    def __init__(
        self,
        rewards: Composition,
        estimator: CreditEstimator,
        questions: Mapping[str, Question],
        *,
        keeps: bool = True,
        guard: JudgeGuard | None = None,
    ) -> None:
        self._keeps = keeps
        self._rewards = rewards
        self._estimator = estimator
        self._questions = questions
        self._guard = guard
        self._lock = Lock()
        self._kept: dict[str, tuple[ScoredUnit, Judged, int]] = {}
        self._credit_seconds = 0.0

    def teaches(self, unit: Unit) -> bool:
        """Judge a unit that `judge` will be asked for, unless it teaches nothing.

        Where judges fail, a unit is said to teach, and is not kept: what it lacks says nothing of its question, and the
        step that takes it scores it again.
        """
        with self._lock:
            scored = self._score(unit)
            is_failing = self._guard is not None and self._guard.is_failing
            judged, step = self._credited(unit, scored), self._rewards.step
        if is_failing or _leave_nothing([judged]):
            return True
        if judged.teaches and self._keeps:
            self._kept[unit.id] = scored, judged, step
        return judged.teaches

    def forget(self, unit_id: str) -> None:
        """`judge` will not be asked for this unit: it is sampled again under another id."""
        self._kept.pop(unit_id, None)

    def judge(self, unit: Unit) -> Judged:
        """Scores and rows of a unit, at the weights of now."""
        kept = self._kept.pop(unit.id, None)
        with self._lock:
            if kept and kept[2] == self._rewards.step:
                return kept[1]
            judged = self._credited(unit, kept[0] if kept else self._score(unit))
        self._credit_seconds += judged.credit_seconds
        return judged

    def judge_step(self, units: Sequence[Unit], step: int) -> list[Judged]:
        """Scores and rows of all units that this process scores for a step; scored again where too many verdicts fail,
        or leave none of their trajectories.

        Raises:
            RolloutFailure: judges fail for longer than the guard's patience.
        """
        if self._guard is None:
            return [self.judge(unit) for unit in units]
        with self._lock:
            before = deepcopy(self._rewards.state_dict())
            kept = {unit.id: self._kept[unit.id] for unit in units if unit.id in self._kept}
        while True:
            judged = [self.judge(unit) for unit in units]
            if not self._guard.is_failing and not _leave_nothing(judged):
                self._guard.answered()
                return judged
            self._guard.wait(step)
            with self._lock:
                self._rewards.unscore(before)
                self._kept.update(kept)

    def preview(self, unit: Unit, *, credit: bool = True) -> Judged:
        """Judge a unit that is not whole yet, of which no count and no state of a reward remembers anything; without
        `credit` it has no rows.
        """
        with self._lock:
            before = deepcopy(self._rewards.state_dict())
            try:
                scored = self._rewards.score_apart(unit, self._questions)
                if credit:
                    return self._credited(unit, scored)
                return Judged(scores=scored.raw, rows=[], raw=scored.raw, gates=scored.gates)
            finally:
                self._rewards.unscore(before)

    def take_credit_seconds(self) -> float:
        """Seconds of `judge` that were credit's and not the rewards', since the last call."""
        seconds, self._credit_seconds = self._credit_seconds, 0.0
        return seconds

    def take_reading(self) -> JudgeReading | None:
        """What language-model judges were asked since the last call; None where no reward has one."""
        return self._guard.take_reading() if self._guard else None

    def _score(self, unit: Unit) -> ScoredUnit:
        scored = self._rewards.score_apart(unit, self._questions)
        if self._guard:
            self._guard.look()
        return scored

    def _credited(self, unit: Unit, scored: ScoredUnit) -> Judged:
        scores = self._rewards.for_credit(scored)
        weights = self._rewards.weights
        start = time.perf_counter()
        rows = credited_rows(self._estimator, unit, scores, weights)
        seconds = time.perf_counter() - start
        return Judged(
            scores=scores,
            rows=rows,
            num_failed=int(failed_trajectories(unit, scores, weights).sum()),
            credit_seconds=seconds,
            raw=scored.raw,
            gates=scored.gates,
        )


def _leave_nothing(judged: Sequence[Judged]) -> bool:
    """True if verdicts failed, and no unit has anything to learn from."""
    return any(one.num_failed for one in judged) and not any(one.rows for one in judged)
