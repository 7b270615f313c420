"""Who sampled which turn of a branch tree: the trajectories' parents, read once and checked.

A fork holds all its turns, those before `fork_turn` being its parent's, equal to the bit. So the same sampled tokens
stand in several trajectories, and whoever spreads credit over them has to know that they are the same.
"""

from collections.abc import Sequence

from agent.trajectory import Trajectory


def first_own_turn(trajectory: Trajectory) -> int:
    """The first turn that the trajectory sampled itself: `fork_turn`, or 0 where it is no fork."""
    return trajectory.fork_turn or 0


def owners_of(trajectories: Sequence[Trajectory]) -> list[tuple[int, ...]]:
    """For each trajectory and each of its turns, the position of the trajectory that sampled the turn.

    trajectories: all of a unit, those lost to an outage too (their prefixes live on in their forks). A turn's owner and
    its index name a node of the tree.

    Raises:
        ValueError: two trajectories with one id, a parent that is not in the unit or comes back to its child, a
            `fork_turn` without a parent (0 is allowed: nothing is shared) or beyond the turns of either.
    """
    places = {trajectory.id: i for i, trajectory in enumerate(trajectories)}
    if len(places) != len(trajectories):
        raise ValueError(f"{len(trajectories)} trajectories share {len(places)} ids; each needs an id of its own")
    parents = [_parent_of(trajectory, trajectories, places) for trajectory in trajectories]
    owners: dict[int, tuple[int, ...]] = {}
    waiting = list(range(len(trajectories)))
    while waiting:
        ready = [i for i in waiting if parents[i] is None or parents[i] in owners]
        if not ready:
            names = ", ".join(trajectories[i].id for i in waiting)
            raise ValueError(f"trajectories {names} descend from themselves; parents make a tree")
        for i in ready:
            parent, fork = parents[i], first_own_turn(trajectories[i])
            shared = () if parent is None else owners[parent][:fork]
            owners[i] = shared + (i,) * (trajectories[i].num_turns - fork)
        waiting = [i for i in waiting if i not in owners]
    return [owners[i] for i in range(len(trajectories))]


def _parent_of(trajectory: Trajectory, trajectories: Sequence[Trajectory], places: dict[str, int]) -> int | None:
    """The parent's position, None where nothing is shared."""
    fork = first_own_turn(trajectory)
    where = f"trajectory {trajectory.id!r} with parent {trajectory.parent_id!r} and fork_turn {trajectory.fork_turn}"
    if trajectory.parent_id is None:
        if fork:
            raise ValueError(f"{where}: a fork names its parent")
        return None
    if trajectory.fork_turn is None:
        raise ValueError(f"{where}: a trajectory with a parent says at which turn it left it")
    if trajectory.parent_id not in places:
        raise ValueError(f"{where}: the parent is not in its unit; a unit travels whole, lost members included")
    parent = places[trajectory.parent_id]
    if not 0 <= fork <= min(trajectories[parent].num_turns, trajectory.num_turns):
        raise ValueError(
            f"{where}: it has {trajectory.num_turns} turns and its parent {trajectories[parent].num_turns}; "
            "it cannot share more"
        )
    return parent
