"""The only door to rollouts: `next_units(step, rank, world_size)`.

Which questions a unit asks, and with which seeds, follows from (seed, unit number) alone, so a resumed run asks what
the killed one would have asked. How far units run ahead of the learner is `train.admission`'s book; where their
episodes are played is `envs.episode_pool`'s business (one event loop) or `envs.workers`' (many processes): this file
only starts units, gathers their trajectories, and hands whole batches out.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from agent.trajectory import Trajectory, Unit
from envs.actor import stable_seed
from envs.episode import EpisodeSpec
from envs.question import Question
from train.admission import Admission, AdmissionState
from train.ledger import Ledger


class Episodes(Protocol):
    """Where episodes are played."""

    def submit(self, specs: Sequence[EpisodeSpec]) -> Sequence[asyncio.Future[Trajectory]]:
        """Start episodes, all at once for whoever batches them; one future each, in order."""
        ...


class QuestionOrder:
    """The question of each unit: every epoch is a fresh seeded permutation."""

    def __init__(self, questions: Sequence[Question], *, seed: int) -> None:
        if not questions:
            raise ValueError("there is no question to train on")
        self._questions = questions
        self._seed = seed
        self._epoch = -1
        self._permutation = np.empty(0, dtype=np.int64)

    def __getitem__(self, number: int) -> Question:
        """The question of a unit, counted from 0; there is no last one."""
        epoch, position = divmod(number, len(self._questions))
        if epoch != self._epoch:
            self._permutation = np.random.default_rng([self._seed, epoch]).permutation(len(self._questions))
            self._epoch = epoch
        return self._questions[int(self._permutation[position])]


class Rollouts:
    """Samples units, at most `max_staleness` policy versions ahead. Everything runs on one event loop.

    Args:
        order: whose `order[number]` is the question of a unit.
        episodes: where they are played.
        units_per_step: units that a step takes.
        samples_per_unit: trajectories of a unit.
        seed: of all sampling.
        max_staleness: versions that a unit may be older than the step that takes it; 0 is the synchronous loop.
        keep: asked of each complete unit; a unit that it refuses is counted, and another one is sampled in its place.
        ledger: told of every unit and trajectory.
        version: of the policy that samples first.
        state: of a checkpoint.
    """

    def __init__(
        self,
        *,
        order: QuestionOrder,
        episodes: Episodes,
        units_per_step: int,
        samples_per_unit: int,
        seed: int,
        max_staleness: int = 0,
        keep: Callable[[Unit], bool] | None = None,
        ledger: Ledger | None = None,
        version: int = 0,
        state: AdmissionState | None = None,
    ) -> None:
        self._order = order
        self._episodes = episodes
        self._per_step = units_per_step
        self._samples = samples_per_unit
        self._seed = seed
        self._keep = keep
        self._ledger = ledger
        self._version = version
        self._admission = Admission(units_per_step=units_per_step, max_staleness=max_staleness, state=state)
        self._running: dict[int, asyncio.Task[Unit]] = {}
        self._complete: dict[int, Unit] = {}
        self._batches: dict[int, list[Unit]] = {}
        self._lock = asyncio.Lock()
        self.rejected = 0
        """Complete units that `keep` refused, so far."""

    @property
    def state(self) -> AdmissionState:
        """What a checkpoint keeps."""
        return self._admission.state

    def specs(self, number: int) -> list[EpisodeSpec]:
        """The episodes of a unit. Ids name the step that a synchronous run would take it in."""
        step, place = divmod(number, self._per_step)
        unit_id = f"step{step:06d}-unit{place:03d}"
        return [
            EpisodeSpec(
                id=f"{unit_id}-sample{sample:02d}",
                question=self._order[number],
                view=0,
                unit_id=unit_id,
                group_id=unit_id,
                sample=sample,
                seed=stable_seed(self._seed, step, place, sample),
            )
            for sample in range(self._samples)
        ]

    def set_version(self, version: int) -> None:
        """The policy has new weights: units that waited for them start."""
        self._version = version
        self._start()

    async def next_units(self, step: int, rank: int = 0, world_size: int = 1) -> list[Unit]:
        """A step's units that belong to a rank, dealt whole. Ranks may ask in any order, and again.

        Raises:
            Exception: whatever an episode raised that is no ending of an episode; the others are given up.
        """
        async with self._lock:
            if step not in self._batches:
                batch = await self._gather(step)
                self._batches = {earlier: units for earlier, units in self._batches.items() if earlier >= step - 1}
                self._batches[step] = batch
        return self._batches[step][rank::world_size]

    async def close(self) -> None:
        """Give up what still runs."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        self._running.clear()

    def _start(self) -> None:
        """Start every unit that may; all episodes are submitted together, so that a round of theirs is one batch."""
        numbers = self._admission.admit(self._version)
        of_unit = {number: self.specs(number) for number in numbers}
        for specs in of_unit.values():
            self._tell("started", unit=specs[0].unit_id, version=self._version, trajectories=[s.id for s in specs])
        futures = iter(self._episodes.submit([spec for specs in of_unit.values() for spec in specs]) if numbers else ())
        for number, specs in of_unit.items():
            mine = [next(futures) for _ in specs]
            self._running[number] = asyncio.create_task(self._unit(specs, mine))

    async def _unit(self, specs: Sequence[EpisodeSpec], futures: Sequence[asyncio.Future[Trajectory]]) -> Unit:
        for spec, future in zip(specs, futures, strict=True):
            future.add_done_callback(partial(self._accepted, spec))
        try:
            return Unit(kind="group", trajectories=tuple(await asyncio.gather(*futures)))
        finally:
            for future in futures:
                future.cancel()

    def _accepted(self, spec: EpisodeSpec, done: asyncio.Future[Trajectory]) -> None:
        if not done.cancelled() and done.exception() is None:
            self._tell("accepted", unit=spec.unit_id, trajectory=spec.id, finish=done.result().finish_reason)

    async def _gather(self, step: int) -> list[Unit]:
        while True:
            self._start()
            numbers = self._admission.take(step)
            if numbers is not None:
                break
            if not self._running:
                raise ValueError(f"step {step} was asked for while the policy's version is {self._version}")
            await asyncio.wait(self._running.values(), return_when=asyncio.FIRST_COMPLETED)
            self._collect()
        units = [self._complete.pop(number) for number in numbers]
        for unit in units:
            self._tell("taken", unit=unit.id, step=step)
        return units

    def _collect(self) -> None:
        """Book the units that are complete, in the order of their numbers: chance must not order them."""
        for number in sorted(number for number, task in self._running.items() if task.done()):
            unit = self._running.pop(number).result()
            self._admission.finish(number)
            if self._keep is None or self._keep(unit):
                self._complete[number] = unit
            else:
                self._admission.reject(number)
                self.rejected += 1
                self._tell("rejected", unit=unit.id, why="its rewards have no spread")

    def _tell(self, event: str, **fields: object) -> None:
        if self._ledger is not None:
            self._ledger.write(event, **fields)  # type: ignore[arg-type]
