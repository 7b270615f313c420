"""Branches: what is trained of a fork is what it sampled itself, against the others of its group.

`A_j = (r_j - mean) / (std + 1e-4)` over the trajectories of one `group_id`, on the tokens from `fork_turn` on. The
shared prefix is context: it belongs to the parent's row, and would otherwise get the gradient of every fork.

- Candidates of one step (SLATE): all leave the same parent at the same turn, so what happened before is common to all
  and is left out of `r`: the truncated, step-level advantage. SLATE adds 1e-6 to the deviation, the house 1e-4, which
  at step rewards of -1, 0 and 1 moves no advantage by a thousandth.
- Refinements (SmartSearch): they fork at different turns, or not at all, and are compared by all that they earned.

A trajectory without `fork_turn` is trained on all its tokens.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Unit
from rewards.score import Scores
from train.credit.group import Group, check_unit, to_rows
from train.credit.lineage import first_own_turn
from train.credit.outcome import outcome_advantages
from train.credit.parameters import switch
from train.credit.row import Row


def own_returns(group: Group, first_own: NDArray[np.int64]) -> NDArray[np.float64]:
    """What each trajectory earned from its first own turn on, its outcome included: `[num_trajectories]`.

    first_own: `[num_trajectories]`. NaN where no reward says anything of what is the trajectory's own.
    """
    own = np.arange(group.num_turns.max()) >= first_own[:, None]
    total, applies = np.zeros(len(first_own)), np.zeros(len(first_own), dtype=bool)
    for component in group.components:
        turns = np.where(own, component.turns, np.nan)
        total += component.weight * (np.nan_to_num(component.outcome) + np.nansum(turns, axis=1))
        applies |= ~np.isnan(component.outcome) | ~np.isnan(turns).all(axis=1)
    return np.where(applies, total, np.nan)


def branch_advantages(
    returns: NDArray[np.float64], first_own: NDArray[np.int64], num_turns: NDArray[np.int64], *, scale: bool = True
) -> NDArray[np.float64]:
    """`(r - mean) / (std + 1e-4)` on every turn from the first own one on: `[num_trajectories, max_turns]`.

    returns, first_own and num_turns: `[num_trajectories]`. NaN on the shared prefix, where there is no turn, and all
    along a trajectory whose return is NaN. `scale=False` leaves the division out.

    >>> branch_advantages(np.array([1.0, 0.0]), np.array([0, 1]), np.array([2, 2])).round(2)
    array([[ 0.71,  0.71],
           [  nan, -0.71]])
    """
    turns = np.arange(num_turns.max(initial=0))
    own = (turns >= first_own[:, None]) & (turns < num_turns[:, None])
    return np.where(own, outcome_advantages(returns, scale=scale)[:, None], np.nan)


class Branch:
    """`branch`, for units of kind branch_tree. `scale` divides by the group's deviation."""

    def __init__(self, *, scale: bool = True) -> None:
        self.scale = switch("scale", scale)

    def __call__(self, unit: Unit, scores: Mapping[str, Scores], weights: Mapping[str, float]) -> list[Row]:
        """One row a trajectory, over the tokens from its fork on; one that sampled nothing after it has no row."""
        check_unit("branch", unit, "branch_tree")
        return to_rows(unit, scores, weights, self._advantages)

    def _advantages(self, group: Group) -> NDArray[np.float64]:
        forks = {(trajectory.parent_id, trajectory.fork_turn) for trajectory in group.trajectories}
        first_own = np.array([first_own_turn(trajectory) for trajectory in group.trajectories], dtype=np.int64)
        returns = own_returns(group, first_own) if len(forks) == 1 else group.returns
        idle = [not any(turn.action_ids for turn in t.turns[first_own_turn(t) :]) for t in group.trajectories]
        returns = np.where(idle, np.nan, returns)
        return branch_advantages(returns, first_own, group.num_turns, scale=self.scale)
