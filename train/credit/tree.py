"""Credit on a tree of forks: a node is worth the mean of its leaves, its advantage is that less its parent's worth.

A node is a stretch of turns that the same leaves have in common; leaves are whole trajectories, worth all that they
earned, each counted once. What every leaf shares is the root and gets 0; without a common turn the prompt is the root.

A shared stretch stands in many trajectories and is trained in ONE row, that of the first leaf that has it: the summed
coefficient of each of its tokens is the node's advantage. `weigh_leaves` multiplies the advantage by the number of the
node's leaves, which is what the stretch would get in sum if every leaf trained it with a copy of its own.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Unit
from rewards.score import Scores
from train.credit.baseline import EPSILON, moments_of
from train.credit.group import Group, check_unit, to_rows
from train.credit.lineage import owners_of
from train.credit.parameters import switch
from train.credit.row import Row


def tree_advantages(
    owners: Sequence[Sequence[int]],
    returns: NDArray[np.float64],
    *,
    weigh_leaves: bool = False,
    scale: bool = False,
) -> NDArray[np.float64]:
    """`V(node) - V(parent)` on the turns that a trajectory trains: `[num_trajectories, max_turns]`, NaN elsewhere.

    owners: for each trajectory and turn the position of the trajectory that sampled the turn; returns:
    `[num_trajectories]`, NaN for one that is no leaf (an outage, or nothing to score it by). `scale` divides by the
    deviation of all leaves plus 1e-4. Exactly 0 where all leaves of the parent are worth the same.

    >>> tree_advantages([(0, 0), (0, 1), (2,)], np.array([1.0, 0.0, 0.0])).round(2)
    array([[ 0.17,  0.5 ],
           [  nan, -0.5 ],
           [-0.33,   nan]])

    Raises:
        ValueError: an infinite return.
    """
    moments = moments_of(returns)
    factor = 1.0 / (float(moments.deviation) + EPSILON) if scale else 1.0
    everyone = [i for i in range(len(owners)) if not np.isnan(returns[i])]
    leaves: dict[tuple[int, int], list[int]] = {}
    for leaf in everyone:
        for turn, owner in enumerate(owners[leaf]):
            leaves.setdefault((owner, turn), []).append(leaf)
    result = np.full((len(owners), max(map(len, owners), default=0)), np.nan)
    for leaf in everyone:
        here, advantage = everyone, 0.0
        for turn, owner in enumerate(owners[leaf]):
            below = leaves[owner, turn]
            if len(below) < len(here):  # leaves only ever leave, so fewer of them are another node
                advantage = _mean(returns, below) - _mean(returns, here) if _differ(returns, here) else 0.0
                here = below
            if below[0] == leaf:
                result[leaf, turn] = factor * advantage * (len(below) if weigh_leaves else 1)
    return result


class Tree:
    """`tree`, for units of kind branch_tree whose leaves share one group_id; see `tree_advantages` for parameters."""

    def __init__(self, *, weigh_leaves: bool = False, scale: bool = False) -> None:
        self.weigh_leaves = switch("weigh_leaves", weigh_leaves)
        self.scale = switch("scale", scale)

    def __call__(self, unit: Unit, scores: Mapping[str, Scores], weights: Mapping[str, float]) -> list[Row]:
        """At most one row a leaf, over the tokens that no earlier leaf has, with one advantage per node."""
        check_unit("tree", unit, "branch_tree")
        if groups := sorted({t.group_id for t in unit.trajectories})[1:]:
            raise ValueError(
                f"credit tree needs leaves that share one group_id, but unit {unit.id!r} has {len(groups) + 1} groups: "
                "candidates that are compared step by step take credit branch"
            )
        owners = owners_of(unit.trajectories)
        places = {trajectory.id: i for i, trajectory in enumerate(unit.trajectories)}

        def advantages(group: Group) -> NDArray[np.float64]:
            members = [places[trajectory.id] for trajectory in group.trajectories]
            returns = np.full(len(unit.trajectories), np.nan)
            returns[members] = group.returns
            spread = tree_advantages(owners, returns, weigh_leaves=self.weigh_leaves, scale=self.scale)
            return spread[members, : group.has_turn.shape[1]]  # a lost leaf may have been the longest

        return to_rows(unit, scores, weights, advantages)


def _mean(returns: NDArray[np.float64], leaves: Sequence[int]) -> float:
    return float(returns[list(leaves)].mean())


def _differ(returns: NDArray[np.float64], leaves: Sequence[int]) -> bool:
    values = returns[list(leaves)]
    return bool((values != values[0]).any())
