"""REINFORCE leave-one-out: a trajectory's return less the mean return of the OTHER samples of its group.

`A_i = R_i - mean_{j != i} R_j = n / (n - 1) * (R_i - mean R)`, not divided by the deviation (Ahmadian et al. 2024,
arXiv:2402.14740). The numbers are those of TRL's RLOOTrainer with its defaults.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Unit
from rewards.score import Scores
from train.credit.baseline import standardise
from train.credit.group import Group, to_rows
from train.credit.row import Row


def rloo_advantages(returns: NDArray[np.float64]) -> NDArray[np.float64]:
    """`R_i` less the mean of the others, over a group.

    returns: `[num_trajectories]`, NaN takes no part. Returns the same shape, NaN where NaN. A group of one, and a group
    of equal returns, gives exactly 0.

    >>> rloo_advantages(np.array([1.0, 0.0, np.nan, 0.0])).round(3)
    array([ 1. , -0.5,  nan, -0.5])
    """
    count = int((~np.isnan(returns)).sum())
    return standardise(returns, scale=False) * (count / max(count - 1, 1))


class Rloo:
    """`rloo`: everything that a trajectory earned, less what the others of its group earned. Takes no parameters."""

    def __call__(self, unit: Unit, scores: Mapping[str, Scores], weights: Mapping[str, float]) -> list[Row]:
        """One row a trajectory, with the same advantage on all its sampled tokens."""
        return to_rows(unit, scores, weights, self._advantages)

    def _advantages(self, group: Group) -> NDArray[np.float64]:
        return np.repeat(rloo_advantages(group.returns)[:, None], group.num_turns.max(), axis=1)
