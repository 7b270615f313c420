"""The base of SubSearch's two rewards: they pay only what failed, by a weight that decays as the policy learns."""

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


class FailedAttemptReward(ABC):
    """outcome = share * beta_t * quality * (1 - EM). Subclasses write `quality`, in [0, 1]."""

    name: str
    needs: frozenset[str] = frozenset({"golden_answers"})

    def __init__(self, *, share: float, schedule: Mapping[str, Any] | None) -> None:
        self.share = finite_parameter(self.name, "share", share)
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
            values[i] = 0.0 if match else weight * self.quality(trajectory, question)
        self.shaping.observe(matches)
        return Scores.of_outcome(unit, values)

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """0 for a right answer; up to share * beta at its largest for a wrong one."""
        del max_turns
        return Bounds(low=0.0, high=0.0 if correct else self.share * self.shaping.settings.beta)

    def state_dict(self) -> dict[str, Any]:
        """The schedule's state, as JSON values."""
        return self.shaping.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.shaping.load_state_dict(state)
