"""Two bases for rewards that look at one trajectory at a time, which is nearly all of them.

They do what every reward has to do and is easily forgotten: NaN for an episode that ended in an outage, NaN where the
question lacks an annotation, no outcome for a candidate that was cut. A subclass states `name` and `needs`
and writes one pure method.
"""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Trajectory, Unit
from envs.question import Question
from rewards.annotation import is_scorable, missing_fields, question_of
from rewards.reward import Questions
from rewards.score import Scores, checked_number


class OutcomeReward(ABC):
    """A reward that gives one number to a whole trajectory. Subclasses write `outcome`."""

    name: str
    needs: frozenset[str] = frozenset()

    @abstractmethod
    def outcome(self, trajectory: Trajectory, question: Question) -> float:
        """The score of one trajectory that did not end in an outage, its question fully annotated."""

    def __call__(self, unit: Unit, questions: Questions) -> Scores:
        """Score every trajectory of a unit: outcome `[num_trajectories]`, every turn NaN."""
        values = np.full(len(unit.trajectories), np.nan)
        for i, trajectory in enumerate(unit.trajectories):
            question = question_of(trajectory, questions)
            has_outcome = is_scorable(trajectory) and trajectory.finish_reason != "cut"
            if has_outcome and not missing_fields(question, self.needs):
                values[i] = checked_number(self.outcome(trajectory, question))
        return Scores.of_outcome(unit, values)


class TurnReward(ABC):
    """A reward that gives a number to each turn. Subclasses write `turns`."""

    name: str
    needs: frozenset[str] = frozenset()

    @abstractmethod
    def turns(self, trajectory: Trajectory, question: Question) -> NDArray[np.float64]:
        """The scores `[num_turns]` of one trajectory that did not end in an outage, its question fully annotated."""

    def __call__(self, unit: Unit, questions: Questions) -> Scores:
        """Score every turn of a unit: turn[i] `[num_turns_i]`, every outcome NaN."""
        values: list[NDArray[np.float64]] = []
        for trajectory in unit.trajectories:
            question = question_of(trajectory, questions)
            if is_scorable(trajectory) and not missing_fields(question, self.needs):
                found = self.turns(trajectory, question)
                if np.ndim(found) != 1:
                    shown = "None" if found is None else f"{type(found).__name__} of {np.ndim(found)} dimensions"
                    raise ValueError(f"`turns` returned {shown}; return one number per turn")
                values.append(np.asarray(found, dtype=np.float64))
            else:
                values.append(np.full(trajectory.num_turns, np.nan))
        return Scores.of_turns(unit, values)
