"""What each process of a crew runs: plain classes with what Ray adds to them, and the board of the newest weights."""

import asyncio
import os
import re
import time
import traceback
import zlib
from collections.abc import Awaitable, Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import GetTimeoutError, ObjectLostError, RayActorError

from agent.engine import Completion, SamplingParams
from agent.trajectory import Trajectory
from envs.engine_server import EngineGone, EngineServer
from envs.episode import EpisodeSpec
from envs.episode_worker import EpisodeWorker, WorkerHealth
from envs.packed_weights import PackedWeights, unpack
from envs.retrieval_replicas import ReplicaClient, ReplicaGone, ReplicaSettings, RetrievalServer
from retrieval.passage import Hit, Passage
from retrieval.retriever import Retriever

if TYPE_CHECKING:
    import torch

    from agent.engine import Engine

AskEngine = Callable[[str, Sequence[int], SamplingParams], Awaitable[Completion]]
"""Asks the engine of a unit once; `envs.engine_server.RemoteActor` takes it."""

MakeWorker = Callable[[AskEngine, ReplicaClient | None], EpisodeWorker]
"""Makes the worker of a process around the call that asks an engine, and the replicas' client where there are any."""

LOST = (RayActorError, ObjectLostError)
"""What a call ends with whose process has died, or whose answer was lost with its node: asking again may help."""

_PAUSE_S = 0.2
"""Before an actor that is being started again is asked again."""
_PAUSE_OF_SUCCESSOR_S = 1.0
"""Before a process is given up that could not begin: what it lacks may be there a little later."""


@contextmanager
def successor_tries_again() -> Iterator[None]:
    """Around the making of an actor. Where a successor cannot be made, its process ends, so that Ray starts the next:
    what it lacks may still be held by who died (a GPU's memory, a port), and an actor whose making has raised is lost
    for good. An actor that has never been is not tried again: its error is the person's.
    """
    try:
        yield
    except Exception:
        if not ray.get_runtime_context().was_current_actor_reconstructed:
            raise
        traceback.print_exc()
        time.sleep(_PAUSE_OF_SUCCESSOR_S)
        os._exit(1)


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
        self._first: asyncio.Task[None] | None = None

        def latest() -> "tuple[list[tuple[str, torch.Tensor]], int] | None":
            newest = _of_board(self._board, timeout_s)
            if newest is None:
                return None
            [reference], version = newest
            return list(unpack(ray.get(reference))), version

        with successor_tries_again():
            self._board: Any = ray.get_actor(board_name)
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

    def __init__(self, open_retriever: Callable[[], Retriever]) -> None:
        with successor_tries_again():
            super().__init__(open_retriever)


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
    except LOST as error:
        raise ReplicaGone(str(error).splitlines()[0]) from None
    except GetTimeoutError:
        raise TimeoutError from None


class RayWorker:
    """An `EpisodeWorker` in an actor."""

    def __init__(
        self, make: MakeWorker, engine_names: Sequence[str], retriever_names: Sequence[str], asking: ReplicaSettings
    ) -> None:
        self._lost: dict[int, asyncio.Task[None]] = {}
        """Engines that have died, and the wait for each one's successor."""
        with successor_tries_again():
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
        i = engine_of(key, len(self._engines), self._lost)
        try:
            completion: Completion = await self._engines[i].generate.remote(prompt_ids, params, key)
            return completion
        except LOST as error:
            if i not in self._lost:
                self._lost[i] = asyncio.create_task(until_it_answers(self._engines[i]))
                self._lost[i].add_done_callback(lambda _: self._lost.pop(i))
            raise EngineGone(str(error).splitlines()[0]) from None


def engine_of(key: str, count: int, lost: Container[int] = ()) -> int:
    """Which of `count` engines an action's key belongs to: a unit's episodes share an engine, whose prefix cache they
    fill for each other. Of the lost ones' units each goes to the next that lives; where none does, it stays.
    """
    unit = key.rsplit("/", 1)[0].rsplit("-sample", 1)[0]  # an evaluation's episode is a unit of one
    number = re.search(r"-unit(\d+)", unit)  # the numbers of a step's units follow each other: they spread evenly
    first = (int(number[1]) if number else zlib.crc32(unit.encode())) % count
    order = [(first + step) % count for step in range(count)]
    return next((i for i in order if i not in lost), first)


async def until_it_answers(actor: Any) -> None:
    """Wait for a successor."""
    while True:
        with suppress(RayActorError):
            await actor.health.remote()
            return
        await asyncio.sleep(_PAUSE_S)
