"""What each process of a crew runs: plain classes with what Ray adds to them, and the board of the newest weights."""

import asyncio
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from agent.engine import Completion, SamplingParams
from agent.trajectory import Trajectory
from envs.engine_server import EngineGone, EngineServer
from envs.episode import EpisodeSpec
from envs.episode_worker import EpisodeWorker, WorkerHealth
from envs.packed_weights import PackedWeights, unpack
from envs.retrieval_replicas import ReplicaClient, ReplicaGone, ReplicaSettings, RetrievalServer
from retrieval.passage import Hit, Passage

if TYPE_CHECKING:
    import torch

    from agent.engine import Engine

AskEngine = Callable[[str, Sequence[int], SamplingParams], Awaitable[Completion]]
"""Asks the engine of a unit once; `envs.engine_server.RemoteActor` takes it."""

MakeWorker = Callable[[AskEngine, ReplicaClient | None], EpisodeWorker]
"""Makes the worker of a process around the call that asks an engine, and the replicas' client where there are any."""

_PAUSE_S = 0.2
"""Before a board that is being started again is asked again."""


class WeightBoard:
    """Keeps a reference to the newest weights and their version. One that was started again waits to be told."""

    def __init__(self) -> None:
        self._newest: tuple[list[Any], int] | None = None
        self._knows = asyncio.Event()
        if not ray.get_runtime_context().was_current_actor_reconstructed:
            self._knows.set()

    async def put(self, reference: list[Any], version: int) -> None:
        """Replace what is kept; the reference comes in a list, so that Ray does not fetch what it refers to."""
        if self._newest is None or version >= self._newest[1]:
            self._newest = (reference, version)
        self._knows.set()

    async def nothing_yet(self) -> None:
        """There were no weights that could be told again."""
        self._knows.set()

    async def health(self) -> bool:
        """False if what was kept was lost with a process, and has not been told again."""
        return self._knows.is_set()

    async def latest(self) -> tuple[list[Any], int] | None:
        """The newest, or None where there has been none."""
        await self._knows.wait()
        return self._newest


class RayEngine(EngineServer):
    """An `EngineServer` whose weights come through Ray's object store."""

    def __init__(self, open_engine: Callable[[], "Engine"], board_name: str, timeout_s: float) -> None:
        board: Any = ray.get_actor(board_name)
        self._board = board
        self._first: asyncio.Task[None] | None = None

        def latest() -> "tuple[list[tuple[str, torch.Tensor]], int] | None":
            newest = _of_board(board, timeout_s)
            if newest is None:
                return None
            [reference], version = newest
            return list(unpack(ray.get(reference))), version

        super().__init__(open_engine, latest)

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams, key: str) -> Completion:
        """Sample one completion; the first one looks at the board once more, because weights may have been given out
        while this process was being started and could not take them.
        """
        if self._first is None:
            self._first = asyncio.create_task(self._look_again())
        with self._at_work():
            await asyncio.shield(self._first)
        return await super().generate(prompt_ids, params, key)

    async def take_weights(self, packed: PackedWeights, version: int) -> int:
        """As `update_weights`, from what the object store holds."""
        return await self.update_weights(list(unpack(packed)), version)

    async def _look_again(self) -> None:
        newest = await self._told_by_board()
        if newest is not None and newest[1] > self._engine.version:
            await self.take_weights(await newest[0][0], newest[1])

    async def _told_by_board(self) -> tuple[list[Any], int] | None:
        """What the board has, once it lives: a request must not fail because the board is being started again."""
        while True:
            try:
                newest: tuple[list[Any], int] | None = await self._board.latest.remote()
                return newest
            except RayActorError:
                await asyncio.sleep(_PAUSE_S)


def _of_board(board: Any, timeout_s: float) -> tuple[list[Any], int] | None:
    """What the board has, from a constructor, which must not fail because the board is being started again too."""
    until = time.monotonic() + timeout_s
    while True:
        try:
            newest: tuple[list[Any], int] | None = ray.get(board.latest.remote(), timeout=timeout_s)
            return newest
        except RayActorError:
            if time.monotonic() > until:
                raise
            time.sleep(_PAUSE_S)


class RayRetriever(RetrievalServer):
    """A `RetrievalServer` in an actor."""


class RayReplica:
    """A replica of the crew, as a worker's threads ask it."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def search(self, queries: Sequence[str], k: int, *, timeout_s: float) -> list[list[Hit]]:
        """As `Replica.search`."""
        found: list[list[Hit]] = _wait(self._actor.search.remote(queries, k), timeout_s)
        return found

    def open_document(self, name: str, *, timeout_s: float) -> list[Passage]:
        """As `Replica.open_document`."""
        passages: list[Passage] = _wait(self._actor.open_document.remote(name), timeout_s)
        return passages


def _wait(answer: Any, timeout_s: float) -> Any:
    try:
        return ray.get(answer, timeout=timeout_s)
    except RayActorError as error:
        raise ReplicaGone(str(error).splitlines()[0]) from None
    except GetTimeoutError:
        raise TimeoutError from None


class RayWorker:
    """An `EpisodeWorker` in an actor."""

    def __init__(
        self, make: MakeWorker, engine_names: Sequence[str], retriever_names: Sequence[str], asking: ReplicaSettings
    ) -> None:
        self._engines = [ray.get_actor(name) for name in engine_names]
        replicas = [RayReplica(ray.get_actor(name)) for name in retriever_names]
        self._replicas = ReplicaClient(replicas, asking) if replicas else None
        self._worker = make(self._ask_engine, self._replicas)

    async def play(self, spec: EpisodeSpec) -> Trajectory:
        """Play one episode."""
        return await self._worker.play(spec)

    async def health(self) -> WorkerHealth:
        """What the worker is at."""
        return await self._worker.health()

    async def close(self) -> None:
        """Release what it holds."""
        await self._worker.close()
        if self._replicas is not None:
            await self._replicas.close()

    async def _ask_engine(self, key: str, prompt_ids: Sequence[int], params: SamplingParams) -> Completion:
        unit = key.rsplit("/", 1)[0].rsplit("-sample", 1)[0]  # an evaluation's episode is a unit of one
        engine = self._engines[zlib.crc32(unit.encode()) % len(self._engines)]  # a unit shares a prefix cache
        try:
            completion: Completion = await engine.generate.remote(prompt_ids, params, key)
            return completion
        except RayActorError as error:
            raise EngineGone(str(error).splitlines()[0]) from None
