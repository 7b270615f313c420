"""The base of SubSearch's two rewards: they shape only what failed, by a weight that decays as the policy learns.

SubSearch adds share * beta_t * quality * (1 - EM) to EM in one sum. Here every component stands alone, may be
normalised alone, and would then say that failing is better than being right. So a right answer gets what a perfect
search that failed could get, share * beta_t: a constant, whatever its own searches were. Both sums order alike.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from agent.trajectory import Trajectory, Unit
from envs.question import Question
from rewards.annotation import is_scorable, missing_fields, question_of
from rewards.answer import exact_match, has_answer
from rewards.bounds import Bounds
from rewards.failure_shaping import FailureShaping
from rewards.reward import Questions, finite_parameter
from rewards.score import Scores

_NOTHING = Bounds(low=0.0, high=0.0)


class FailedAttemptReward(ABC):
    """outcome = share * beta_t * (quality * (1 - EM) + EM), without the last EM where `pay_right` is false.

    Subclasses write `quality`, in [0, 1].
    """

    name: str
    needs: frozenset[str] = frozenset({"golden_answers"})

    def __init__(self, *, share: float, pay_right: bool, schedule: Mapping[str, Any] | None) -> None:
        if not isinstance(pay_right, bool):
            raise ValueError(f"reward {self.name}: pay_right must be true or false, got {pay_right!r}")
        if not isinstance(schedule, Mapping | None):
            raise ValueError(f"reward {self.name}: schedule must be settings such as {{beta: 0.2}}, got {schedule!r}")
        self.share = finite_parameter(self.name, "share", share)
        self.pay_right = pay_right
        self.shaping = FailureShaping(self.name, schedule or {})

    @abstractmethod
    def quality(self, trajectory: Trajectory, question: Question) -> float:
        """How good the searching of one trajectory was, in [0, 1], whatever came of it."""

    def __call__(self, unit: Unit, questions: Questions) -> Scores:
        """Score a unit with the weight of this step: outcome `[num_trajectories]`; then let the gate see its EM."""
        weight = self.share * self.shaping.beta
        values = np.full(len(unit.trajectories), np.nan)
        matches: list[float] = []
        for i, trajectory in enumerate(unit.trajectories):
            question = question_of(trajectory, questions)
            applies = is_scorable(trajectory) and trajectory.finish_reason != "cut"
            if not applies or missing_fields(question, self.needs):
                continue
            match = exact_match(trajectory.final_answer, question.golden_answers) if has_answer(trajectory) else 0.0
            matches.append(match)
            values[i] = weight * (float(self.pay_right) if match else self.quality(trajectory, question))
        self.shaping.observe(matches)
        return Scores.of_outcome(unit, values)

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """Over the whole schedule: a wrong answer up to share * beta, a right one never below share * floor, or 0."""
        del max_turns
        settings = self.shaping.settings
        high = self.share * settings.beta
        if not correct:
            return Bounds(low=0.0, high=high)
        return Bounds(low=self.share * min(settings.floor, settings.beta), high=high) if self.pay_right else _NOTHING

    def state_dict(self) -> dict[str, Any]:
        """The schedule's state, as JSON values."""
        return self.shaping.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.shaping.load_state_dict(state)
