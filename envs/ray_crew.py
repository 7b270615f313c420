"""The crew of a run on Ray: engines, episode workers and the board of the newest weights, each an actor.

Actors are named, checked by a heartbeat, and started again by Ray when their process or their node dies; an engine that
hangs without dying is killed, which is the same. A new engine reads the newest weights from the board before it
samples. What an actor was doing when it died is done again by whoever asked for it (`RayEpisodes`, `RemoteActor`), so
that nothing of the run is lost with it. Everything that the crew starts ends with it.
"""

import asyncio
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayActorError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from agent.engine import Completion, SamplingParams
from agent.trajectory import Trajectory
from envs.engine_server import EngineGone, EngineHealth, EngineServer
from envs.episode import EpisodeSpec
from envs.episode_worker import EpisodeWorker, WorkerHealth, stall_report
from envs.packed_weights import PackedWeights, pack, unpack

if TYPE_CHECKING:
    import torch

    from agent.engine import Engine

_MANY = 10_000
"""Calls that an actor takes at once: episodes are bounded by their pools, not by Ray."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrewSettings:
    """How many actors there are, what each takes, and when one counts as dead."""

    engines: int = 1
    workers: int = 2
    engine_cpus: float = 1.0
    engine_gpus: float = 0.0
    worker_cpus: float = 0.5
    heartbeat_s: float = 2.0
    heartbeat_timeout_s: float = 30.0
    engine_silence_s: float = 300.0
    start_timeout_s: float = 300.0
    close_timeout_s: float = 10.0


class WeightBoard:
    """Keeps a reference to the newest weights and their version."""

    def __init__(self) -> None:
        self._newest: tuple[list[Any], int] | None = None

    def put(self, reference: list[Any], version: int) -> None:
        """Replace what is kept; the reference comes in a list, so that Ray does not fetch what it refers to."""
        if self._newest is None or version >= self._newest[1]:
            self._newest = (reference, version)

    def latest(self) -> tuple[list[Any], int] | None:
        """The newest, or None."""
        return self._newest


class RayEngine(EngineServer):
    """An `EngineServer` whose weights come through Ray's object store."""

    def __init__(self, open_engine: Callable[[], "Engine"], board: Any) -> None:
        def latest() -> tuple[list[tuple[str, "torch.Tensor"]], int] | None:
            newest = ray.get(board.latest.remote())
            if newest is None:
                return None
            [reference], version = newest
            return list(unpack(ray.get(reference))), version

        super().__init__(open_engine, latest)

    async def take_weights(self, packed: PackedWeights, version: int) -> int:
        """As `update_weights`, from what the object store holds."""
        return await self.update_weights(list(unpack(packed)), version)


class RayWorker:
    """An `EpisodeWorker` in an actor."""

    def __init__(
        self, make: Callable[[Callable[..., Awaitable[Completion]]], EpisodeWorker], engines: Sequence[Any]
    ) -> None:
        self._engines = engines
        self._worker = make(self._ask_engine)

    async def play(self, spec: EpisodeSpec) -> Trajectory:
        """Play one episode."""
        return await self._worker.play(spec)

    async def health(self) -> WorkerHealth:
        """What the worker is at."""
        return await self._worker.health()

    async def close(self) -> None:
        """Release what it holds."""
        await self._worker.close()

    async def _ask_engine(self, key: str, prompt_ids: Sequence[int], params: SamplingParams) -> Completion:
        unit = key.rsplit("-sample", 1)[0]
        engine = self._engines[zlib.crc32(unit.encode()) % len(self._engines)]  # a unit shares a prefix cache
        try:
            return await engine.generate.remote(prompt_ids, params, key)
        except RayActorError as error:
            raise EngineGone(str(error).splitlines()[0]) from None


class RayCrew:
    """Starts the actors, keeps them alive and ends them. Use from one event loop, with `async with`.

    Args:
        open_engine: makes the engine, in an engine's process.
        make_worker: makes the worker, in a worker's process, around the call that asks an engine.
        settings: numbers, resources and deadlines.
        name: of the run; prefix of the actors' names.
        tell: is told in one line what a person should know: an actor that was replaced, who waits for whom.

    Raises:
        TimeoutError: the cluster has no room for the actors, or they did not start in time.
    """

    def __init__(
        self,
        *,
        open_engine: Callable[[], "Engine"],
        make_worker: Callable[[Callable[..., Awaitable[Completion]]], EpisodeWorker],
        settings: CrewSettings,
        name: str,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._open_engine = open_engine
        self._make_worker = make_worker
        self._settings = settings
        self._name = name
        self._tell = tell
        self._group: PlacementGroup | None = None
        self._board: Any = None
        self._watch: asyncio.Task[None] | None = None
        self._reference: Any = None
        self.engines: list[Any] = []
        self.workers: list[Any] = []
        self.replaced = 0
        """Actors that were killed because they did not answer, or were silent."""

    async def __aenter__(self) -> "RayCrew":
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _start(self) -> None:
        settings = self._settings
        bundles = [{"CPU": settings.engine_cpus, "GPU": settings.engine_gpus}] * settings.engines
        bundles += [{"CPU": settings.worker_cpus}] * settings.workers
        wanted = [{key: value for key, value in bundle.items() if value} for bundle in bundles]
        self._group = placement_group(wanted, strategy="PACK", name=f"{self._name}-crew")
        if not await asyncio.to_thread(self._group.wait, settings.start_timeout_s):
            raise TimeoutError(
                f"the cluster has no room for {settings.engines} engines of {settings.engine_cpus:g} CPUs and "
                f"{settings.engine_gpus:g} GPUs, and {settings.workers} workers of {settings.worker_cpus:g} CPUs, "
                f"within {settings.start_timeout_s:g} s; it has {ray.available_resources()}"
            )
        self._board = ray.remote(WeightBoard).options(name=f"{self._name}-board", num_cpus=0).remote()
        for i in range(settings.engines):
            options = self._options(i, f"engine-{i}", settings.engine_cpus, settings.engine_gpus, {})
            self.engines.append(ray.remote(RayEngine).options(**options).remote(self._open_engine, self._board))
        light = {"WAYMARK_WITHOUT_TORCH": "1"}
        for i in range(settings.workers):
            options = self._options(settings.engines + i, f"worker-{i}", settings.worker_cpus, 0, light)
            self.workers.append(ray.remote(RayWorker).options(**options).remote(self._make_worker, self.engines))
        async with asyncio.timeout(settings.start_timeout_s):
            await asyncio.gather(*(actor.health.remote() for actor in (*self.engines, *self.workers)))
        self._watch = asyncio.create_task(self._keep_alive())

    def _options(self, bundle: int, name: str, cpus: float, gpus: float, env: dict[str, str]) -> dict[str, Any]:
        assert self._group is not None
        threads = str(max(1, int(cpus)))
        limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), threads)
        return {
            "name": f"{self._name}-{name}",
            "num_cpus": cpus,
            "num_gpus": gpus,
            "max_restarts": -1,
            "max_task_retries": 0,
            "max_concurrency": _MANY,
            "runtime_env": {"env_vars": {**limits, **env}},
            "scheduling_strategy": PlacementGroupSchedulingStrategy(
                placement_group=self._group, placement_group_bundle_index=bundle
            ),
        }

    async def update_weights(self, named: Iterable[tuple[str, "torch.Tensor"]], version: int) -> None:
        """Give every engine new weights; when it returns, all that live sample with them. One that is being started
        again reads them from the board.
        """
        reference = ray.put(pack(named))
        await self._board.put.remote([reference], version)
        answers = await asyncio.gather(
            *(engine.take_weights.remote(reference, version) for engine in self.engines), return_exceptions=True
        )
        self._reference = reference  # the one before may be freed now
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, RayActorError):
                raise answer

    async def health(self) -> tuple[list[EngineHealth | None], list[WorkerHealth | None]]:
        """What every actor is at; None where one did not answer in time."""
        engines = await asyncio.gather(*(self._ask(engine) for engine in self.engines))
        workers = await asyncio.gather(*(self._ask(worker) for worker in self.workers))
        return engines, workers

    async def _ask(self, actor: Any) -> Any:
        try:
            async with asyncio.timeout(self._settings.heartbeat_timeout_s):
                return await actor.health.remote()
        except TimeoutError:
            return None
        except RayActorError as error:
            return error

    async def _keep_alive(self) -> None:
        """Kill what does not answer or is silent; Ray starts it again."""
        settings = self._settings
        while True:
            await asyncio.sleep(settings.heartbeat_s)
            engines, workers = await self.health()
            for i, state in enumerate(engines):
                if state is None:
                    self._replace(self.engines[i], f"engine {i} did not answer for {settings.heartbeat_timeout_s:g} s")
                elif isinstance(state, EngineHealth) and state.silent_s > settings.engine_silence_s:
                    self._replace(self.engines[i], f"engine {i} finished nothing for {state.silent_s:.0f} s")
            named = []
            for i, health in enumerate(workers):
                if health is None:
                    self._replace(self.workers[i], f"worker {i} did not answer for {settings.heartbeat_timeout_s:g} s")
                elif isinstance(health, WorkerHealth):
                    named.append((f"worker {i}", health))
            for line in stall_report(named, longer_than_s=settings.engine_silence_s / 2):
                self._tell(line)

    def _replace(self, actor: Any, why: str) -> None:
        self.replaced += 1
        self._tell(f"{why}: it is started again")
        ray.kill(actor, no_restart=False)

    async def close(self) -> None:
        """End every actor, within `close_timeout_s`: politely, then at once."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        actors = [*self.workers, *self.engines]
        deadline = time.monotonic() + self._settings.close_timeout_s / 2
        if actors:
            pending = [asyncio.ensure_future(actor.close.remote()) for actor in actors]
            await asyncio.wait(pending, timeout=max(0.0, deadline - time.monotonic()))
        for actor in [*actors, *([self._board] if self._board is not None else [])]:
            ray.kill(actor, no_restart=True)
        if self._group is not None:
            remove_placement_group(self._group)
        self.engines, self.workers, self._board, self._group = [], [], None, None
