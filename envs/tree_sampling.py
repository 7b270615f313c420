"""Trees: whole trajectories of one question that fork from each other, so that each shared turn has several ends.

A node of the tree is a turn with everything before it, a leaf is a whole trajectory. A fork at turn f of a trajectory
goes on from its turns before f; the turns from `fork_turn` on are the leaf's own. Each point (leaf, own turn) is forked
at most once and then has `branching` children, the leaf's own going-on among them. Leaves are added in rounds until
there are enough; a trajectory that an outage ended is not forked. Where no point is left (every trajectory is one turn
long), a further leaf is a fresh trajectory without a parent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from agent.trajectory import Trajectory, Unit
from envs.episode import EpisodeSpec
from envs.units import Episodes, UnitTask, is_lost, play_round

Fork = Literal["random", "every_turn"]
Point = tuple[int, int]
"""(leaf, turn): where a leaf can be forked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSampler:
    """`leaves` trajectories, `roots` of them from the prompt and the others forks.

    `fork` is `random`: points are drawn with equal chances; or `every_turn`: the points of earlier leaves first, turn
    by turn. Costs `leaves` whole trajectories less the prefixes that they share.
    """

    leaves: int
    roots: int
    branching: int
    fork: Fork

    def opening(self, task: UnitTask) -> list[EpisodeSpec]:
        """The roots."""
        return [self._leaf(task, number) for number in range(min(self.roots, self.leaves))]

    async def complete(self, task: UnitTask, opened: Sequence[Trajectory], episodes: Episodes) -> Unit:
        """Round after round of forks."""
        leaves = list(opened)
        forked: set[Point] = set()
        number_of_rounds = 0
        while len(leaves) < self.leaves:
            missing = self.leaves - len(leaves)
            points = self._chosen(task, leaves, forked, number_of_rounds, missing)
            forked.update(points)
            parents: list[Point | None] = []
            for point in points:
                parents += [point] * (self.branching - 1)
            parents = parents[:missing] or [None] * missing
            specs = [
                self._leaf(task, len(leaves) + i, None if point is None else (leaves[point[0]], point[1]))
                for i, point in enumerate(parents)
            ]
            leaves += await play_round(episodes, specs)
            number_of_rounds += 1
        return Unit(kind="branch_tree", trajectories=tuple(leaves))

    def _chosen(
        self, task: UnitTask, leaves: Sequence[Trajectory], forked: set[Point], round_number: int, missing: int
    ) -> list[Point]:
        """The points that are forked in a round: no more than the leaves that are missing ask for."""
        points = [
            (number, turn)
            for number, leaf in enumerate(leaves)
            if not is_lost(leaf)
            for turn in range((leaf.fork_turn or 0) + 1, leaf.num_turns)
            if (number, turn) not in forked
        ]
        wanted = min(len(points), -(-missing // (self.branching - 1)))
        if self.fork == "every_turn":
            return points[:wanted]
        rng = np.random.default_rng(task.seed("fork", round_number))
        return [points[i] for i in sorted(rng.choice(len(points), size=wanted, replace=False))] if wanted else []

    def _leaf(self, task: UnitTask, number: int, fork: tuple[Trajectory, int] | None = None) -> EpisodeSpec:
        parent, turn = fork if fork is not None else (None, None)
        return EpisodeSpec(
            id=f"{task.id}-leaf{number:02d}",
            question=task.question,
            unit_id=task.id,
            group_id=task.id,
            parent_id=None if parent is None else parent.id,
            fork_turn=turn,
            sample=number,
            seed=task.seed("leaf", number),
            prefix_turns=() if parent is None else parent.turns[:turn],
        )
