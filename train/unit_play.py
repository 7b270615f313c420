"""One unit while it is played: the door through which its sampler submits, which books every episode.

What a unit samples is told to the ledger, whether it becomes a part of the unit or not, and counted in whole episodes,
so that methods are compared at what they have sampled.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from agent.trajectory import Trajectory, Unit
from envs.episode import EpisodeSpec
from envs.units import Episodes, UnitSampler, UnitTask, whole_episodes

Tell = Callable[..., None]
"""`tell(event, **fields)`, as `train.ledger.Ledger.write`."""


class UnitPlay:
    """Plays one unit to its end. Its opening is submitted by the caller, with that of others.

    Args:
        task, sampler: the unit, and who samples it.
        episodes: where the rounds after the opening are played.
        tell: is told of each trajectory.
        noise: share of the unit's searches that find nothing which helps.
    """

    def __init__(
        self, task: UnitTask, sampler: UnitSampler, episodes: Episodes, tell: Tell, *, noise: float = 0.0
    ) -> None:
        self.task = task
        self._noise = noise
        self.opening = self._noisy(sampler.opening(task))
        """The episodes that the unit begins with."""
        self._sampler = sampler
        self._episodes = episodes
        self._tell = tell
        self._sampled: list[tuple[EpisodeSpec, Trajectory]] = []
        self._futures: list[asyncio.Future[Trajectory]] = []

    def submit(self, specs: Sequence[EpisodeSpec]) -> Sequence[asyncio.Future[Trajectory]]:
        """A further round of the unit."""
        specs = self._noisy(specs)
        self._tell("extended", unit=self.task.id, trajectories=[spec.id for spec in specs])
        futures = self._episodes.submit(specs)
        self._watch(specs, futures)
        return futures

    async def play(self, opening: Sequence[asyncio.Future[Trajectory]]) -> tuple[Unit, float]:
        """The unit, and what it cost in whole episodes. `opening` are the futures of its opening."""
        self._watch(self.opening, opening)
        try:
            opened = await asyncio.gather(*opening)
            unit = await self._sampler.complete(self.task, opened, self)
            return unit, whole_episodes(unit, self._sampled)
        finally:
            for future in self._futures:
                future.cancel()

    def _noisy(self, specs: Sequence[EpisodeSpec]) -> list[EpisodeSpec]:
        return [replace(spec, noise=self._noise) for spec in specs]

    def _watch(self, specs: Sequence[EpisodeSpec], futures: Sequence[asyncio.Future[Trajectory]]) -> None:
        self._futures += futures
        for spec, future in zip(specs, futures, strict=True):
            future.add_done_callback(partial(self._accepted, spec))

    def _accepted(self, spec: EpisodeSpec, done: asyncio.Future[Trajectory]) -> None:
        if not done.cancelled() and done.exception() is None:
            self._sampled.append((spec, done.result()))
            self._tell("accepted", unit=spec.unit_id, trajectory=spec.id, finish=done.result().finish_reason)
