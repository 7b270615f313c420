"""Units: episodes of one question that are sampled, scored and learnt from together.

A unit sampler says which episodes a unit begins with, and goes on from what they brought until the unit is whole. It
plays in rounds: all episodes of a round are submitted at once and awaited together. Ids and seeds follow from names
alone (the unit's id and key, the wording, the turn, the sample), never from what came first, so that a resume samples
the same. Here are the units without branches; `envs.branching` and `envs.tree_sampling` have the others.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import NOT_THE_POLICYS_FAULT, Trajectory, Unit
from envs.actor import stable_seed
from envs.episode import EpisodeSpec
from envs.question import Question


class Episodes(Protocol):
    """Where episodes are played."""

    def submit(self, specs: Sequence[EpisodeSpec]) -> Sequence[asyncio.Future[Trajectory]]:
        """Start episodes, all at once for whoever batches them; one future each, in order."""
        ...


class Scorer(Protocol):
    """What the run's own rewards and credit say of trajectories whose unit is not whole yet. It remembers nothing."""

    async def advantages(self, unit: Unit) -> NDArray[np.float64]:
        """The advantage of each trajectory's last sampled tokens, NaN where it has none: `[num_trajectories]`."""
        ...

    async def turn_scores(self, unit: Unit, component: str) -> list[NDArray[np.float64]]:
        """One component's turn scores: `[num_turns_i]` for each trajectory, NaN where it does not apply."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitTask:
    """Which unit is to be sampled. `key` is what all its seeds follow from; an id may differ where the key does not."""

    id: str
    question: Question
    key: tuple[int | str, ...]

    def seed(self, *names: int | str) -> int:
        """The seed of something in this unit, by its name."""
        return stable_seed(*self.key, *names)


class UnitSampler(Protocol):
    """Samples units of one kind."""

    def opening(self, task: UnitTask) -> list[EpisodeSpec]:
        """The episodes that a unit begins with."""
        ...

    async def complete(self, task: UnitTask, opened: Sequence[Trajectory], episodes: Episodes) -> Unit:
        """Go on from the opening's trajectories, in their order, until the unit is whole."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSampler:
    """`samples` episodes that ask the question as it is: one group. Costs `samples` episodes."""

    samples: int

    def opening(self, task: UnitTask) -> list[EpisodeSpec]:
        """All episodes."""
        return [
            EpisodeSpec(
                id=f"{task.id}-sample{sample:02d}",
                question=task.question,
                unit_id=task.id,
                group_id=task.id,
                sample=sample,
                seed=task.seed(sample),
            )
            for sample in range(self.samples)
        ]

    async def complete(self, task: UnitTask, opened: Sequence[Trajectory], episodes: Episodes) -> Unit:
        """They are the unit."""
        return Unit(kind="group", trajectories=tuple(opened))


@dataclass(frozen=True, slots=True, kw_only=True)
class ParaphraseSetSampler:
    """Con-RAG's unit (arXiv:2510.04392): `samples` episodes of each of the first `wordings` wordings of a question.

    View 0 is the question itself. Each wording is a group with a baseline of its own; rewards see all of them. Every
    episode searches for itself. A question with fewer wordings is asked in those that it has. Costs `wordings *
    samples` episodes.
    """

    wordings: int
    samples: int

    def opening(self, task: UnitTask) -> list[EpisodeSpec]:
        """All episodes, wording by wording."""
        return [
            EpisodeSpec(
                id=f"{task.id}-view{view:02d}-sample{sample:02d}",
                question=task.question,
                view=view,
                unit_id=task.id,
                group_id=f"{task.id}-view{view}",
                sample=sample,
                seed=task.seed("view", view, sample),
            )
            for view in range(min(self.wordings, 1 + len(task.question.paraphrases)))
            for sample in range(self.samples)
        ]

    async def complete(self, task: UnitTask, opened: Sequence[Trajectory], episodes: Episodes) -> Unit:
        """They are the unit."""
        return Unit(kind="paraphrase_set", trajectories=tuple(opened))


async def play_round(episodes: Episodes, specs: Sequence[EpisodeSpec]) -> list[Trajectory]:
    """Play these episodes together; the trajectories come in the order of the specs.

    The first exception gives the others up and is raised as it is.
    """
    futures = episodes.submit(specs)
    try:
        return list(await asyncio.gather(*futures))
    finally:
        for future in futures:
            future.cancel()


def is_lost(trajectory: Trajectory) -> bool:
    """True if an outage ended this trajectory."""
    return trajectory.finish_reason in NOT_THE_POLICYS_FAULT


def whole_episodes(unit: Unit, sampled: Sequence[tuple[EpisodeSpec, Trajectory]]) -> float:
    """What a unit has cost, counted in whole episodes: the sum of `own / whole` over everything sampled for it.

    `own` are the turns that were sampled, those of a shared prefix left out. `whole` are the turns of a whole episode:
    the trajectory's own number; where it was cut, or its unit holds candidates that were cut, those of the unit's
    longest trajectory. So a plain episode counts 1, a branch unit with k candidates a step counts k however many steps
    it has, and a fork at turn 2 of 4 counts 1/2. Episodes that were sampled and are no part of the unit count too.
    """
    longest = max(1, *(trajectory.num_turns for trajectory in unit.trajectories))
    has_cuts = any(trajectory.finish_reason == "cut" for trajectory in unit.trajectories)
    total = 0.0
    for spec, trajectory in sampled:
        if not spec.prefix_turns and not has_cuts and trajectory.finish_reason != "cut":
            total += 1.0
        else:
            of_whole = has_cuts or trajectory.finish_reason == "cut"
            own = trajectory.num_turns - len(spec.prefix_turns)
            total += own / (longest if of_whole else max(1, trajectory.num_turns))
    return total
