"""The crew of a run on Ray: engines, retrieval replicas, episode workers, and the board of the newest weights.

Each is an actor: named, checked by a heartbeat, and started again by Ray when its process or its node dies; one that
hangs without dying is killed, which is the same. A new engine reads the newest weights from the board before it
samples. What an actor was doing when it died is done again by whoever asked for it (`RayEpisodes`, `RemoteActor`,
`ReplicaClient`), so that nothing of the run is lost with it. Everything that the crew starts ends with it.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import ActorDiedError, RayActorError, RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from envs.crew_settings import CrewHealth, CrewSettings, Growing
from envs.engine_server import EngineHealth
from envs.episode_worker import Stalls, WorkerHealth
from envs.packed_weights import SharedWeights, pack
from envs.ray_actors import MakeWorker, RayEngine, RayReplica, RayRetriever, RayWorker, WeightBoard
from envs.retrieval_replicas import ReplicaClient, ReplicaHealth, ReplicaSettings
from retrieval.retriever import Retriever

if TYPE_CHECKING:
    import torch

    from agent.engine import Engine

_MANY = 10_000
"""Calls that an actor takes at once: episodes are bounded by their pools, not by Ray."""
_PAUSE_S = 0.2
"""Before an actor that is being started again is asked again."""


class RayCrew:
    """Starts the actors, keeps them alive and ends them. Use from one event loop, with `async with`.

    Args:
        open_engine: makes the engine, in an engine's process.
        make_worker: makes the worker, in a worker's process, around the call that asks an engine and the client of the
            retrieval replicas (None where `settings.retrievers` is 0).
        open_retriever: opens the retriever, in a replica's process; only where there are replicas.
        asking: how a worker batches its searches, and how long one may take.
        settings: numbers, resources and deadlines.
        name: of the run; prefix of the actors' names.
        tell: is told in one line what a person should know: an actor that was replaced, who waits for whom.

    Raises:
        ValueError: replicas without `open_retriever`.
        TimeoutError: the cluster has no room for the actors, or they did not start in time.
    """

    def __init__(
        self,
        *,
        open_engine: Callable[[], "Engine"],
        make_worker: MakeWorker,
        settings: CrewSettings,
        name: str,
        open_retriever: Callable[[], Retriever] | None = None,
        asking: ReplicaSettings | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        if settings.retrievers and open_retriever is None:
            raise ValueError(f"{settings.retrievers} retrieval replicas were asked for: give open_retriever= too")
        self._open_engine = open_engine
        self._open_retriever = open_retriever
        self._asking = asking or ReplicaSettings()
        self._make_worker = make_worker
        self._settings = settings
        self._name = name
        self._tell = tell
        self._group: PlacementGroup | None = None
        self._board: Any = None
        self._watch: asyncio.Task[None] | None = None
        self._newest: tuple[Any, int] | None = None
        self._late: dict[str, asyncio.Task[None]] = {}
        """Engines that are being given the newest weights, because they could not be reached before."""
        self._is_updating = False
        self._loop_lag_s = 0.0
        self._away = Growing(settings.start_timeout_s)
        self._stalls = Stalls(settings.engine_silence_s / 2)
        self._told: set[str] = set()
        self.engines: list[Any] = []
        self.retrievers: list[Any] = []
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
        self._group = placement_group(settings.bundles(), strategy=settings.strategy, name=f"{self._name}-crew")
        if not await asyncio.to_thread(self._group.wait, settings.start_timeout_s):
            raise TimeoutError(
                f"the cluster has no room for {settings.told()} within {settings.start_timeout_s:g} s; it has "
                f"{ray.available_resources()}"
            )
        # Beside this process, whose memory also holds what the board refers to: neither is lost without the run.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_concurrency": _MANY}
        board = ray.remote(WeightBoard).options(name=f"{self._name}-board", scheduling_strategy=here, **options)
        self._board = board.remote()
        for i in range(settings.engines):
            options = self._options(i, f"engine-{i}", settings.engine_cpus, settings.engine_gpus, {})
            engine = ray.remote(RayEngine).options(**options)
            self.engines.append(engine.remote(self._open_engine, f"{self._name}-board", settings.start_timeout_s))
        for i in range(settings.retrievers):
            bundle = settings.engines + i
            options = self._options(bundle, f"retriever-{i}", settings.retriever_cpus, settings.retriever_gpus, {})
            self.retrievers.append(ray.remote(RayRetriever).options(**options).remote(self._open_retriever))
        # By name, because a handle among a constructor's arguments is an object that a restart could miss.
        engines = [f"{self._name}-engine-{i}" for i in range(settings.engines)]
        retrievers = [f"{self._name}-retriever-{i}" for i in range(settings.retrievers)]
        light = {"WAYMARK_WITHOUT_TORCH": "1"}
        for i in range(settings.workers):
            bundle = settings.engines + settings.retrievers + i
            options = self._options(bundle, f"worker-{i}", settings.worker_cpus, 0, light)
            worker = ray.remote(RayWorker).options(**options)
            self.workers.append(worker.remote(self._make_worker, engines, retrievers, self._asking))
        starting = {asyncio.ensure_future(actor.health.remote()): name for name, actor in self._named()}
        done, late = await asyncio.wait(starting, timeout=settings.start_timeout_s, return_when=asyncio.FIRST_EXCEPTION)
        for health in late:
            health.cancel()
        for health in done:
            health.result()
        if late:
            names = ", ".join(sorted(starting[health] for health in late))
            raise TimeoutError(f"{names} did not start within {settings.start_timeout_s:g} s")
        self._watch = asyncio.create_task(self._keep_alive())

    def _named(self) -> list[tuple[str, Any]]:
        """Every actor but the board, with its name."""
        kinds = (("retriever", self.retrievers), ("worker", self.workers))
        return self._named_engines() + [(f"{kind} {i}", actor) for kind, all_ in kinds for i, actor in enumerate(all_)]

    def _named_engines(self) -> list[tuple[str, Any]]:
        return [(f"engine {i}", engine) for i, engine in enumerate(self.engines)]

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

    async def update_weights(self, named: "Iterable[tuple[str, torch.Tensor]] | SharedWeights", version: int) -> None:
        """Give every engine new weights; when it returns, all that could be reached sample with them. One that is being
        started again reads them from the board; one that is only cut off is given them at the next heartbeat after it
        answers, and until then samples with those it has, as its trajectories' versions say. Packing runs on a thread,
        and what is shared already is passed on.
        """
        if isinstance(named, SharedWeights):
            [reference] = named.reference
        else:
            reference = await asyncio.to_thread(lambda: ray.put(pack(named)))
        self._newest, before = (reference, version), self._newest
        self._is_updating = True
        try:
            await self._tell_board()
            await self._tell_engines("take_weights", reference, version)
        finally:
            self._is_updating = False
        del before  # may be freed now

    async def _tell_board(self) -> None:
        """Until it has heard: it is started again where its process dies."""
        async with asyncio.timeout(self._settings.start_timeout_s):
            while True:
                try:
                    if self._newest is None:
                        return await self._board.nothing_yet.remote()
                    return await self._board.put.remote([self._newest[0]], self._newest[1])
                except RayActorError:
                    await asyncio.sleep(_PAUSE_S)

    def replica_client(self) -> ReplicaClient | None:
        """What this process asks the replicas through, as the workers do (whether an outage is over, an evaluation); to
        be closed. None where there are none.
        """
        replicas = [RayReplica(actor) for actor in self.retrievers]
        return ReplicaClient(replicas, self._asking) if replicas else None

    async def sleep(self) -> None:
        """Have every engine give its GPU's memory to the learner."""
        await self._tell_engines("sleep")

    async def wake(self) -> None:
        """Have every engine take it back; they sample again once they have new weights."""
        await self._tell_engines("wake")

    async def _tell_engines(self, what: str, *args: Any) -> None:
        asked = (self._tell_engine(name, engine, what, *args) for name, engine in self._named_engines())
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer

    async def _tell_engine(self, name: str, engine: Any, what: str, *args: Any) -> None:
        """One that is being started again has nothing to give, and reads the newest weights itself. One that does not
        come to an end with it, perhaps because what it was sent does not arrive, is started again.
        """
        limit_s = self._settings.start_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                await getattr(engine, what).remote(*args)
        except RayActorError:
            pass
        except TimeoutError:
            self._replace(engine, f"{name} did not end `{what}` within {limit_s:g} s")

    def _bring_up_to_date(self, name: str, engine: Any) -> None:
        if not self._is_updating and name not in self._late:
            self._late[name] = asyncio.create_task(self._catch_up(name, engine))

    async def _catch_up(self, name: str, engine: Any) -> None:
        """Give an engine the newest weights, which could not be reached when they were given out."""
        assert self._newest is not None
        try:
            await self._tell_engine(name, engine, "take_weights", *self._newest)
        except Exception as error:  # it is asked again at the next beat
            self._tell_once(f"{name} could not take version {self._newest[1]} of the weights: {error!r}")
        finally:
            self._late.pop(name, None)

    async def health(self) -> CrewHealth:
        """What every actor is at."""
        engines, retrievers, workers = await asyncio.gather(
            *(
                asyncio.gather(*(self._ask(actor) for actor in actors))
                for actors in (self.engines, self.retrievers, self.workers)
            )
        )
        lags = (state.loop_lag_s for state in workers if isinstance(state, WorkerHealth))
        self._loop_lag_s = max(self._loop_lag_s, *lags, 0.0)
        return CrewHealth(engines=tuple(engines), retrievers=tuple(retrievers), workers=tuple(workers))

    def take_loop_lag_s(self) -> float:
        """How late a worker's event loop was at most since the last call, whoever has asked for its health since."""
        largest, self._loop_lag_s = self._loop_lag_s, 0.0
        return largest

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
        while True:
            await asyncio.sleep(self._settings.heartbeat_s)
            try:
                await self._check_all()
            except (RayError, TimeoutError) as error:  # whoever is to be asked is asked again at the next beat
                self._tell_once(f"a health check failed: {error!r}")

    async def _check_all(self) -> None:
        settings = self._settings
        health, board = await asyncio.gather(self.health(), self._ask(self._board))
        states = (*health.engines, *health.retrievers, *health.workers, board)
        for (name, actor), state in zip([*self._named(), ("board", self._board)], states, strict=True):
            if not isinstance(state, RayActorError):
                self._away.over(name)
            if state is None:
                self._replace(actor, f"{name} did not answer for {settings.heartbeat_timeout_s:g} s")
            elif isinstance(state, EngineHealth | ReplicaHealth) and state.silent_s > self._most_silent(state):
                self._replace(actor, f"{name} finished nothing for {state.silent_s:.0f} s")
            elif isinstance(state, ActorDiedError):
                self._tell_once(f"{name} is lost and cannot be started again: {state}")
            elif isinstance(state, RayActorError) and (away_s := self._away.told(name)) is not None:
                self._replace(
                    actor, f"{name} has not come back for {away_s:.0f} s, see its log and whether there is room"
                )
            elif isinstance(state, EngineHealth) and self._newest and state.version < self._newest[1]:
                self._bring_up_to_date(name, actor)
        if board is False:
            await self._tell_board()
        named = [(f"worker {i}", state) for i, state in enumerate(health.workers) if isinstance(state, WorkerHealth)]
        for line in self._stalls.lines(named):
            self._tell(line)

    def _most_silent(self, state: EngineHealth | ReplicaHealth) -> float:
        is_engine = isinstance(state, EngineHealth)
        return self._settings.engine_silence_s if is_engine else self._settings.retriever_silence_s

    def _replace(self, actor: Any, why: str) -> None:
        self.replaced += 1
        self._tell(f"{why}: it is started again")
        ray.kill(actor, no_restart=False)

    def _tell_once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._tell(line)

    async def close(self) -> None:
        """End every actor, within `close_timeout_s`: politely, then at once."""
        if self._watch is not None:
            watching = [self._watch, *self._late.values()]
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            self._watch = None
        actors = [actor for _, actor in self._named()]
        try:
            with suppress(TimeoutError):  # those that hang have nothing to lose
                async with asyncio.timeout(self._settings.close_timeout_s / 2):
                    await asyncio.gather(*(actor.close.remote() for actor in actors), return_exceptions=True)
        finally:
            for actor in [*actors, *([self._board] if self._board is not None else [])]:
                ray.kill(actor, no_restart=True)
            if self._group is not None:
                remove_placement_group(self._group)
            self.engines, self.retrievers, self.workers, self._board, self._group = [], [], [], None, None
