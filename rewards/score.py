"""What a reward says of a unit: one number a turn, one a trajectory, NaN where it does not apply."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """One reward's scores of one unit.

    turn: one array per trajectory, `[num_turns_i]`; outcome: `[num_trajectories]`. NaN means "does not apply".
    Infinite values are refused here, at the boundary, because one of them poisons a batch.
    """

    turn: tuple[NDArray[np.float64], ...]
    outcome: NDArray[np.float64]

    def __post_init__(self) -> None:
        if len(self.turn) != len(self.outcome):
            raise ValueError(f"scores for {len(self.turn)} trajectories by turn but {len(self.outcome)} by outcome")
        if np.isinf(self.outcome).any() or any(np.isinf(t).any() for t in self.turn):
            raise ValueError("a reward returned an infinite value; return NaN where it does not apply")

    @staticmethod
    def of_outcome(unit: Unit, outcome: NDArray[np.float64]) -> "Scores":
        """Scores that speak of whole trajectories only."""
        turns = tuple(np.full(t.num_turns, np.nan) for t in unit.trajectories)
        return Scores(turn=turns, outcome=np.asarray(outcome, dtype=np.float64))

    @staticmethod
    def of_turns(unit: Unit, turns: list[NDArray[np.float64]]) -> "Scores":
        """Scores that speak of turns only. Raises ValueError where a length is not the trajectory's turn count."""
        for trajectory, values in zip(unit.trajectories, turns, strict=True):
            if len(values) != trajectory.num_turns:
                raise ValueError(f"trajectory {trajectory.id} has {trajectory.num_turns} turns, scored {len(values)}")
        return Scores(turn=tuple(np.asarray(t, dtype=np.float64) for t in turns), outcome=np.full(len(turns), np.nan))


def checked_number(score: Any) -> float:
    """One score as a float.

    Raises:
        ValueError: it is no number, such as a text or None.
    """
    try:
        return float(score)
    except (TypeError, ValueError):
        raise ValueError(
            f"a score is {score!r}, which is no number; return a number, or NaN where the reward does not apply"
        ) from None
