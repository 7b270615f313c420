"""Episodes in a process of their own: one event loop, many episodes, and a clear account of who waits for whom.

Plain Python, which Ray makes an actor of (`envs.ray_crew`) and a test uses as it is. The process needs a tokenizer, the
protocol and a retriever, and no model: it imports neither torch nor vLLM (`envs.without_torch`), so it starts in two
seconds and hundreds fit on a host.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from agent.engine import Completion
from agent.protocol import AgentProtocol
from agent.trajectory import Trajectory
from envs.actor import ActionRequest, Actor
from envs.episode import Documents, EpisodeSpec, Search
from envs.episode_pool import EpisodePool
from envs.search_env import EpisodeLimits
from retrieval.passage import Hit, Passage

_LAG_PERIOD_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What an episode waits for, and since when."""

    episode: str
    whom: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHealth:
    """What a health check reads: live episodes, the longest waits, and how late the event loop is.

    `loop_lag_s` is the largest delay of a timer since the last check.
    """

    live: int
    finished: int
    loop_lag_s: float
    waits: tuple[Wait, ...]


class Waits:
    """Who waits for whom at this moment."""

    def __init__(self) -> None:
        self._since: dict[object, tuple[str, str, float]] = {}

    @contextmanager
    def on(self, episode: str, whom: str) -> Iterator[None]:
        """Book a wait for as long as the block lasts."""
        key = object()
        self._since[key] = (episode, whom, time.monotonic())
        try:
            yield
        finally:
            del self._since[key]

    def longest(self, count: int) -> tuple[Wait, ...]:
        """The waits that have lasted longest."""
        now = time.monotonic()
        oldest = sorted(self._since.values(), key=lambda wait: wait[2])[:count]
        return tuple(Wait(episode=episode, whom=whom, seconds=now - since) for episode, whom, since in oldest)


class LoopLag:
    """Measures how late an event loop is: timers that ring later than they were set for."""

    def __init__(self) -> None:
        self._largest = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, on the running loop; again is no harm."""
        if self._task is None:
            self._task = asyncio.create_task(self._measure())

    def take(self) -> float:
        """The largest delay since the last call, in seconds."""
        largest, self._largest = self._largest, 0.0
        return largest

    def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _measure(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(_LAG_PERIOD_S)
            self._largest = max(self._largest, time.monotonic() - before - _LAG_PERIOD_S)


@dataclass(kw_only=True)
class EpisodeWorker:
    """Plays episodes. Use from one event loop, and `close` it.

    Args:
        actor: samples the policy.
        search: of the retriever that the episodes ask.
        protocol, tokenizer, limits: of the environment.
        documents: opens documents, for a protocol that offers `open`.
        max_concurrent: episodes at once.
        on_close: awaited at the end.
    """

    actor: Actor
    search: Search
    protocol: AgentProtocol
    tokenizer: PreTrainedTokenizerBase
    limits: EpisodeLimits
    documents: Documents | None = None
    max_concurrent: int = 64
    on_close: Callable[[], Awaitable[Any]] | None = None
    _pool: EpisodePool = field(init=False)
    _waits: Waits = field(init=False, default_factory=Waits)
    _lag: LoopLag = field(init=False, default_factory=LoopLag)
    _live: int = field(init=False, default=0)
    _finished: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._pool = EpisodePool(
            actor=_WatchedActor(self.actor, self._waits),
            search=self._watched_search,
            protocol=self.protocol,
            tokenizer=self.tokenizer,
            limits=self.limits,
            documents=None if self.documents is None else self._watched_documents,
            max_concurrent=self.max_concurrent,
        )

    async def play(self, spec: EpisodeSpec) -> Trajectory:
        """Play one episode to its end.

        Raises:
            ValueError: the same episode is being played here, or its prompt does not fit.
        """
        self._lag.start()
        self._live += 1
        try:
            [future] = self._pool.submit([spec])
            return await future
        finally:
            self._live -= 1
            self._finished += 1

    async def health(self) -> WorkerHealth:
        """What this worker is at."""
        self._lag.start()
        return WorkerHealth(
            live=self._live, finished=self._finished, loop_lag_s=self._lag.take(), waits=self._waits.longest(8)
        )

    async def close(self) -> None:
        """Give up what is being played, and release the retriever."""
        self._lag.stop()
        await self._pool.close()
        if self.on_close is not None:
            await self.on_close()

    async def _watched_search(self, query: str, k: int) -> list[Hit]:
        with self._waits.on(query[:80], "retriever"):
            return await self.search(query, k)

    async def _watched_documents(self, name: str) -> list[Passage]:
        assert self.documents is not None
        with self._waits.on(name[:80], "documents"):
            return await self.documents(name)


class _WatchedActor:
    """An actor whose waits are booked."""

    def __init__(self, actor: Actor, waits: Waits) -> None:
        self._actor = actor
        self._waits = waits
        self.episode = actor.episode

    @property
    def context_window(self) -> int | None:
        return self._actor.context_window

    async def act(self, request: ActionRequest) -> Completion:
        with self._waits.on(request.key, "engine"):
            return await self._actor.act(request)


class Stalls:
    """Tells waits that have lasted too long: who waits, where, for whom, since when. Each is told once it has lasted
    `longer_than_s`, and again whenever it has lasted twice as long as when it was told last.
    """

    def __init__(self, longer_than_s: float) -> None:
        self._longer_than_s = longer_than_s
        self._told: dict[tuple[str, str, str], float] = {}

    def lines(self, health: Sequence[tuple[str, WorkerHealth]]) -> list[str]:
        """One line for each wait that is to be told now; a wait that is not among these has ended."""
        lines, told = [], {}
        for name, state in health:
            for wait in state.waits:
                key = (name, wait.episode, wait.whom)
                before = self._told.get(key, 0.0)
                if wait.seconds < before:  # the same again, which began anew
                    before = 0.0
                if wait.seconds > self._longer_than_s and wait.seconds >= 2 * before:
                    lines.append(f"{wait.episode} on {name} has waited {wait.seconds:.0f} s for the {wait.whom}")
                    before = wait.seconds
                if before:
                    told[key] = before
        self._told = told
        return lines
