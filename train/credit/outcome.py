"""GRPO's credit: one number a trajectory, z-scored in its group and given to every token that it sampled.

The number is everything that the trajectory earned: outcomes plus the sum of its turn rewards, each with its weight.
With outcome rewards alone this is GRPO (Shao et al. 2024, arXiv:2402.03300); with turn rewards in the config it is the
arm "trajectory-level process reward", which knows how much a path earned but not where.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Unit
from rewards.score import Scores
from train.credit.baseline import standardise
from train.credit.group import Group, to_rows
from train.credit.row import Row


def outcome_advantages(returns: NDArray[np.float64], *, scale: bool = True) -> NDArray[np.float64]:
    """`(R - mean) / (std + 1e-4)` over a group, equal to TRL's numbers; `scale=False` leaves the division out.

    returns: `[num_trajectories]`, NaN takes no part. Returns the same shape, NaN where NaN. A group of one, and a group
    of equal returns, gives exactly 0.

    >>> outcome_advantages(np.array([1.0, 0.0, 0.0, 0.0])).round(3)
    array([ 1.5, -0.5, -0.5, -0.5])
    """
    return standardise(returns, scale=scale)


class Outcome:
    """`outcome`: GRPO over everything that a trajectory earned. Takes no parameters."""

    scale = True

    def __call__(self, unit: Unit, scores: Mapping[str, Scores], weights: Mapping[str, float]) -> list[Row]:
        """One row a trajectory, with the same advantage on all its sampled tokens."""
        return to_rows(unit, scores, weights, self._advantages)

    def _advantages(self, group: Group) -> NDArray[np.float64]:
        advantages = outcome_advantages(group.returns, scale=self.scale)
        return np.repeat(advantages[:, None], group.num_turns.max(), axis=1)
