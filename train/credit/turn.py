"""Credit per turn: a turn is worth what it and the turns after it earn, against the same turn of the other samples.

The outcome lands on the last turn, so every turn shares in it; a turn reward reaches its own turn and those before it,
never those after. With one turn everywhere this is `outcome`.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Unit
from rewards.score import Scores
from train.credit.baseline import returns_to_go, standardise
from train.credit.group import Group, to_rows
from train.credit.parameters import share, switch
from train.credit.row import Row


def turn_advantages(rewards: NDArray[np.float64], *, discount: float = 1.0, scale: bool = True) -> NDArray[np.float64]:
    """Returns to go, z-scored per turn index over the trajectories that have the turn.

    rewards: `[num_trajectories, max_turns]`, NaN where a trajectory has no such turn. The result has the same shape. A
    turn index that only one trajectory has gets exactly 0: nothing was sampled to compare it with.

    >>> turn_advantages(np.array([[0.5, 1.0], [0.0, 1.0], [0.0, np.nan]])).round(2)
    array([[ 0.87,  0.  ],
           [ 0.22,  0.  ],
           [-1.09,   nan]])
    """
    return standardise(returns_to_go(rewards, discount=discount), scale=scale)


class Turn:
    """`turn`: returns to go per turn. `discount` in [0, 1] is taken per turn; `scale` divides by the deviation."""

    def __init__(self, *, discount: float = 1.0, scale: bool = True) -> None:
        self.discount = share("discount", discount)
        self.scale = switch("scale", scale)

    def __call__(self, unit: Unit, scores: Mapping[str, Scores], weights: Mapping[str, float]) -> list[Row]:
        """One row a trajectory, with one advantage per turn on the turn's sampled tokens."""
        return to_rows(unit, scores, weights, self._advantages)

    def _advantages(self, group: Group) -> NDArray[np.float64]:
        return turn_advantages(group.rewards, discount=self.discount, scale=self.scale)
