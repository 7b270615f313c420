"""What a reward says of a unit: one number a turn, one a trajectory, NaN where it does not apply or is not known."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """One reward's scores of one unit.

    turn: one array per trajectory, `[num_turns_i]`; outcome: `[num_trajectories]`. NaN means "does not apply".
    failed: `[num_trajectories]`, True where a NaN stands for a score that applies and is not known, because the verdict
    of a judge failed; None where none did. Such a NaN is never worth 0: credit leaves the trajectory out, as one that
    an outage ended, where the reward has a weight.
    Infinite values are refused here, at the boundary, because one of them poisons a batch.
    """

    turn: tuple[NDArray[np.float64], ...]
    outcome: NDArray[np.float64]
    failed: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if len(self.turn) != len(self.outcome):
            raise ValueError(f"scores for {len(self.turn)} trajectories by turn but {len(self.outcome)} by outcome")
        flags = None if self.failed is None else np.asarray(self.failed)
        if flags is not None and (flags.shape != np.shape(self.outcome) or flags.dtype != bool):
            raise ValueError(
                f"failed is {self.failed!r}; it must tell of each of {len(self.outcome)} trajectories, true or false, "
                "whether a verdict failed"
            )
        if np.isinf(self.outcome).any() or any(np.isinf(t).any() for t in self.turn):
            raise ValueError("a reward returned an infinite value; return NaN where it does not apply")

    @property
    def has_failed(self) -> NDArray[np.bool_]:
        """`failed`, all False where it is None: `[num_trajectories]`."""
        return np.zeros(len(self.outcome), dtype=bool) if self.failed is None else self.failed

    @staticmethod
    def of_outcome(unit: Unit, outcome: NDArray[np.float64], *, failed: NDArray[np.bool_] | None = None) -> "Scores":
        """Scores that speak of whole trajectories only."""
        turns = tuple(np.full(t.num_turns, np.nan) for t in unit.trajectories)
        return Scores(turn=turns, outcome=np.asarray(outcome, dtype=np.float64), failed=failed)

    @staticmethod
    def of_turns(unit: Unit, turns: list[NDArray[np.float64]], *, failed: NDArray[np.bool_] | None = None) -> "Scores":
        """Scores that speak of turns only. Raises ValueError where a length is not the trajectory's turn count."""
        for trajectory, values in zip(unit.trajectories, turns, strict=True):
            if len(values) != trajectory.num_turns:
                raise ValueError(f"trajectory {trajectory.id} has {trajectory.num_turns} turns, scored {len(values)}")
        by_turn = tuple(np.asarray(t, dtype=np.float64) for t in turns)
        return Scores(turn=by_turn, outcome=np.full(len(turns), np.nan), failed=failed)


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
