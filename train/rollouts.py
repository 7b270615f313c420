"""The only door to rollouts: `next_units(step, rank, world_size)`.

Which questions a unit asks, and with which seeds, follows from (seed, unit number) alone, so a resumed run asks what
the killed one would have asked. Which episodes make a unit is `envs.units`' business; how far units run ahead of the
learner is `train.admission`'s book; where their episodes are played is `envs.episode_pool`'s (one event loop) or
`envs.ray_episodes`' (many processes): this file only starts units, gathers them, and hands whole batches out.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from agent.trajectory import Unit
from envs.rounds import Rounds
from envs.units import Episodes, UnitSampler, UnitTask
from train.admission import Admission, AdmissionState
from train.ledger import Ledger
from train.outage import OutageGuard, RolloutFailure, lost_all, lost_any
from train.question_order import QuestionOrder
from train.unit_play import UnitPlay


class Rollouts:
    """Samples units, at most `max_staleness` policy versions ahead. Everything runs on one event loop.

    Args:
        order: whose `order[number]` is the question of a unit.
        episodes: where they are played.
        units_per_step: units that a step takes.
        sampler: says which episodes make a unit.
        seed: of all sampling.
        max_staleness: versions that a unit may be older than the step that takes it; 0 is the synchronous loop.
        total_steps: of the run; nothing is sampled for steps beyond. None: the run has no end.
        keep: asked of each complete unit; a unit that it refuses is counted, and another one is sampled in its place.
        forget: told the id of a unit that `keep` was asked of and that is sampled again nevertheless, after an outage.
        max_rejected: units that one step may refuse.
        guard: pauses the run where a step's trajectories had no answer; without one they leave their groups.
        ledger: told of every unit and trajectory.
        version: of the policy that samples first.
        state: of a checkpoint.
        noise: share of noisy searches in the units of a step, by the step that a synchronous run would take them in.
        in_step: units that go on in rounds wait for each other, so that what an engine batches depends on ids alone.
    """

    def __init__(
        self,
        *,
        order: QuestionOrder,
        episodes: Episodes,
        units_per_step: int,
        sampler: UnitSampler,
        seed: int,
        max_staleness: int = 0,
        total_steps: int | None = None,
        keep: Callable[[Unit], bool] | None = None,
        forget: Callable[[str], None] = lambda unit_id: None,
        max_rejected: int | None = None,
        guard: OutageGuard | None = None,
        ledger: Ledger | None = None,
        version: int = 0,
        state: AdmissionState | None = None,
        noise: Callable[[int], float] = lambda step: 0.0,
        in_step: bool = False,
    ) -> None:
        self._order = order
        self._rounds = Rounds(episodes) if in_step else None
        self._episodes: Episodes = self._rounds or episodes
        self._directly = episodes
        self._per_step = units_per_step
        self._sampler = sampler
        self._seed = seed
        self._noise = noise
        self._keep = keep
        self._forget = forget
        self._guard = guard
        self._ledger = ledger
        self._version = version
        self._max_staleness = max_staleness
        self._max_rejected = max_rejected
        self._admission = Admission(
            units_per_step=units_per_step, max_staleness=max_staleness, total_steps=total_steps, state=state
        )
        self._running: dict[int, asyncio.Task[tuple[Unit, float]]] = {}
        self._complete: dict[int, Unit] = {}
        self._costs: dict[int, float] = {}
        self._unasked: set[int] = set()
        self._attempts: Counter[int] = Counter()
        self._is_paused = False
        self._batches: dict[int, list[Unit]] = {}
        self._lock = asyncio.Lock()
        self._asking: set[asyncio.Task[Any]] = set()
        self.rejected = state.rejected if state else 0
        """Complete units that `keep` refused, so far."""
        self.sampled_again = state.put_back if state else 0
        """Units that an outage spoiled, so far: each was sampled again."""

    @property
    def state(self) -> AdmissionState:
        """What a checkpoint keeps."""
        return self._admission.state

    def task(self, number: int) -> UnitTask:
        """A unit by its number. Its id names the step that a synchronous run would take it in, and which time it is
        that it is sampled; its seeds do not, so that a unit after an outage is what it would have been without.
        """
        step, place = divmod(number, self._per_step)
        unit_id = f"step{step:06d}-unit{place:03d}"
        if again := self._attempts[number]:
            unit_id += f"-again{again}"
        return UnitTask(id=unit_id, question=self._order[number], key=(self._seed, step, place))

    def set_version(self, version: int) -> None:
        """The policy has new weights: units that run ahead of it start; a synchronous loop asks for its own."""
        self._version = version
        if self._max_staleness:
            self._start()

    def readings(self) -> dict[str, float]:
        """Figures for the metrics, so far: units that were complete and refused, or spoiled by an outage; and what has
        been sampled for all units that are done with, in whole episodes.
        """
        return {
            "groups/rejected": float(self.rejected),
            "groups/sampled_again": float(self.sampled_again),
            "sampled_trajectories": self._admission.spent,
        }

    async def next_units(self, step: int, rank: int = 0, world_size: int = 1) -> list[Unit]:
        """A step's units that belong to a rank, dealt whole. Ranks may ask in any order, and again.

        Raises:
            RolloutFailure: `max_rejected` units were refused, or an outage lasted longer than the guard's patience.
            Exception: whatever an episode raised that is no ending of an episode; the others are given up.
        """
        asking = asyncio.current_task()
        assert asking is not None
        self._asking.add(asking)
        try:
            async with self._lock:
                if step not in self._batches:
                    batch = await self._gather(step)
                    self._batches = {earlier: units for earlier, units in self._batches.items() if earlier >= step - 1}
                    self._batches[step] = batch
            return self._batches[step][rank::world_size]
        finally:
            self._asking.discard(asking)

    async def close(self) -> None:
        """Give up what still runs, and who still waits for units: a thread that was interrupted has left its call."""
        given_up = [*self._asking, *self._running.values()]
        for task in given_up:
            task.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        self._running.clear()

    def _start(self) -> None:
        """Start every unit that may; all episodes are submitted together, so that a round of theirs is one batch."""
        if self._is_paused:
            return
        numbers = self._admission.admit(self._version)
        plays = {number: self._play(number) for number in numbers}
        for play in plays.values():
            ids = [spec.id for spec in play.opening]
            self._tell("started", unit=play.task.id, version=self._version, trajectories=ids)
        specs = [spec for play in plays.values() for spec in play.opening]
        futures = iter(self._directly.submit(specs) if specs else ())
        for number, play in plays.items():
            held = ExitStack()
            if self._rounds is not None:
                held.enter_context(self._rounds.unit())
            task = self._running[number] = asyncio.create_task(play.play([next(futures) for _ in play.opening]))
            task.add_done_callback(lambda _, held=held: held.close())  # type: ignore[misc]

    def _play(self, number: int) -> UnitPlay:
        noise = self._noise(number // self._per_step)
        return UnitPlay(self.task(number), self._sampler, self._episodes, self._tell, noise=noise)

    async def _gather(self, step: int) -> list[Unit]:
        rejected_before = self.rejected
        while True:
            if self._max_rejected is not None and self.rejected - rejected_before > self._max_rejected:
                raise RolloutFailure(
                    f"step {step} refused {self.rejected - rejected_before} groups whose rewards have no spread "
                    "(rollout.zero_variance: resample): the questions are all too easy or too hard for the policy, or "
                    "the rewards tell no sample from another; raise rollout.samples_per_question, change the questions "
                    "or rewards, or set rollout.zero_variance: keep"
                )
            self._start()
            numbers = self._admission.choose(step)
            if numbers is not None:
                if await self._may_be_learnt_from(step, numbers):
                    break
                continue
            if not self._running:
                raise ValueError(f"step {step} was asked for while the policy's version is {self._version}")
            until = asyncio.FIRST_COMPLETED if self._rounds is None else asyncio.ALL_COMPLETED
            await asyncio.wait(self._running.values(), return_when=until)
            self._collect()
        self._admission.settle(numbers)
        for number in numbers:
            self._admission.spend(self._costs.pop(number))
        units = [self._complete.pop(number) for number in numbers]
        for unit in units:
            self._tell("taken", unit=unit.id, step=step)
        return units

    async def _may_be_learnt_from(self, step: int, numbers: Sequence[int]) -> bool:
        """False if some of the units that a step was to take are sampled again, or others in their place."""
        units = [self._complete[number] for number in numbers]
        if self._guard is None or not self._guard.is_outage(units):
            if self._guard is not None:
                self._guard.answered()
            return not [number for number in self._unasked.intersection(numbers) if not self._is_kept(number)]
        self._is_paused = True
        try:
            self._put_back()
            await self._guard.wait(step, units)
            self._collect()
            self._put_back()  # also what ran ahead into the outage
        finally:
            self._is_paused = False
        return False

    def _put_back(self) -> None:
        """Have every complete unit that an outage spoiled sampled again."""
        for number in [number for number, unit in self._complete.items() if lost_any(unit)]:
            unit = self._complete.pop(number)
            self._unasked.discard(number)
            self._admission.put_back(number)
            self._admission.spend(self._costs.pop(number))
            self._attempts[number] += 1
            self.sampled_again += 1
            self._forget(unit.id)
            self._tell("rejected", unit=unit.id, why="outage")

    def _is_kept(self, number: int) -> bool:
        """Ask `keep` of a complete unit; one that it refuses is booked and forgotten."""
        self._unasked.discard(number)
        if self._keep is None or self._keep(self._complete[number]):
            return True
        self._admission.reject(number)
        self._admission.spend(self._costs.pop(number))
        self.rejected += 1
        self._tell("rejected", unit=self._complete.pop(number).id, why="its rewards have no spread")
        return False

    def _collect(self) -> None:
        """Book the units that are complete, in the order of their numbers: chance must not order them."""
        for number in sorted(number for number, task in self._running.items() if task.done()):
            unit, self._costs[number] = self._running.pop(number).result()
            self._admission.finish(number)
            self._complete[number] = unit
            if lost_all(unit) or (self._guard is not None and self._guard.is_outage([unit])):
                self._unasked.add(number)  # what it lacks says nothing of its question: the guard sees it first
            else:
                self._is_kept(number)

    def _tell(self, event: str, **fields: object) -> None:
        if self._ledger is not None:
            self._ledger.write(event, **fields)  # type: ignore[arg-type]
