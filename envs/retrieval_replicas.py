"""Retrieval behind a process boundary: what a replica's process runs, and what an episode's process asks.

`RetrievalServer` holds any retriever and is plain Python: Ray makes an actor of it (`envs.ray_crew`), a test calls it
directly. What several episode workers ask at one time becomes one search. `ReplicaClient` is the side of the episodes:
the batcher and the document reader that are used over an index in the process, over replicas instead of an index. A
search goes to the replica that has least to do; one that has died or is silent is passed over, and where there is no
other the search waits for its successor, as long as `timeout_s` and `retries` allow. What stays without an answer is a
RetrievalError, so the episode ends as `retrieval_outage`.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeVar

from retrieval.access import DocumentReader
from retrieval.batcher import MicroBatcher
from retrieval.passage import Hit, Passage
from retrieval.retriever import RetrievalError, Retriever
from retrieval.title import MAX_PASSAGES_PER_TITLE

_PAUSE_S = 0.25
"""Before replicas that have died are asked again."""
_SERVER_TIMEOUT_S = 600.0
"""Of one search in a replica: whoever asked gives up long before."""


Answer = TypeVar("Answer", list[Hit], Passage)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaHealth:
    """What a health check reads. `silent_s` is how long no call has ended while some run, else 0."""

    running: int
    finished: int
    silent_s: float


class RetrievalServer:
    """Serves one retriever; searches run on threads, never on the event loop. Use from one event loop.

    Args:
        open_retriever: opens the retriever; called once, here, in the process that serves.
        max_in_flight: batches searched at the same time.
    """

    def __init__(self, open_retriever: Callable[[], Retriever], *, max_in_flight: int = 4) -> None:
        self._retriever = open_retriever()
        # Two attempts, so that a batch in which one query fails is searched in halves and fails nobody else's.
        self._batcher = MicroBatcher(
            self._retriever, timeout_s=_SERVER_TIMEOUT_S, retries=1, backoff_s=0.0, max_in_flight=max_in_flight
        )
        self._running = 0
        self._finished = 0
        self._last_finish = time.monotonic()

    @cached_property
    def _reader(self) -> DocumentReader:
        return DocumentReader(self._retriever, timeout_s=_SERVER_TIMEOUT_S)

    async def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The best `k` hits of every query, as `Retriever.search`."""
        with self._counted():
            return await self._batcher.search_many(queries, k)

    async def open_document(self, name: str) -> list[Passage]:
        """The passages of the document with this id or title, none where there is no such document.

        Raises:
            ValueError: the retriever finds passages and opens no documents.
        """
        with self._counted():
            return await self._reader.open(name)

    async def health(self) -> ReplicaHealth:
        """What this replica is at."""
        silent = time.monotonic() - self._last_finish if self._running else 0.0
        return ReplicaHealth(running=self._running, finished=self._finished, silent_s=silent)

    async def close(self) -> None:
        """Close the retriever; what is being searched is given up with the process."""
        close = getattr(self._retriever, "close", None)
        if close is not None and not self._running:  # never under a search that reads a mapped file
            close()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._running == 0:
            self._last_finish = time.monotonic()
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._finished += 1
            self._last_finish = time.monotonic()


class ReplicaGone(Exception):
    """The replica's process has died or cannot be reached; another may answer, or its successor."""


class Replica(Protocol):
    """One replica as a worker sees it. Calls block, and are made from threads."""

    def search(self, queries: Sequence[str], k: int, *, timeout_s: float) -> list[list[Hit]]:
        """As `RetrievalServer.search`.

        Raises:
            ReplicaGone: see there.
            TimeoutError: no answer in time.
        """
        ...

    def open_document(self, name: str, *, timeout_s: float) -> list[Passage]:
        """As `RetrievalServer.open_document`; raises as `search`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSettings:
    """How searches of one worker are batched, and how long one may take; the names of `MicroBatcher`'s arguments."""

    window_s: float = 0.0
    max_batch: int = 256
    timeout_s: float = 30.0
    retries: int = 2


class Replicas:
    """Several replicas as one blocking retriever. Thread-safe.

    Args:
        replicas: at least one.
        timeout_s: longest time that one call may take, other replicas and successors of dead ones included.
        open_attempts: times that a document is asked for where there was no answer in that time; a search is asked
            again by its batcher.
    """

    prefix_depth = 0
    """How deep the first hits of a deeper search are those of a shallower one is known to the replicas only."""

    def __init__(self, replicas: Sequence[Replica], *, timeout_s: float, open_attempts: int = 1) -> None:
        if not replicas:
            raise ValueError("there is no replica to ask; give one or more, or open the retriever in this process")
        self._replicas = list(replicas)
        self._timeout_s = timeout_s
        self._open_attempts = open_attempts
        self._lock = threading.Lock()
        self._load = [0] * len(self._replicas)
        self._avoided_until = [0.0] * len(self._replicas)
        self._turn = os.getpid()  # workers begin with different replicas
        self._closed = threading.Event()
        self.asked_again = 0
        """Calls that another replica, or a successor, was asked again."""

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The best `k` hits of every query.

        Raises:
            RetrievalError: no replica answered in time.
        """
        return self._ask(lambda replica, seconds: replica.search(queries, k, timeout_s=seconds))

    def open_document(self, key: str, limit: int = MAX_PASSAGES_PER_TITLE) -> list[Passage]:
        """At most `limit` passages of the document with this id or title; raises as `search`."""

        def call(replica: Replica, seconds: float) -> list[Passage]:
            return replica.open_document(key, timeout_s=seconds)

        for _ in range(self._open_attempts - 1):
            with suppress(RetrievalError):
                return self._ask(call)[:limit]
        return self._ask(call)[:limit]

    def close(self) -> None:
        """Let calls that wait for a successor fail now."""
        self._closed.set()

    def _ask(self, call: Callable[[Replica, float], list[Answer]]) -> list[Answer]:
        until = time.monotonic() + self._timeout_s
        last = "none was free"
        while (left := until - time.monotonic()) > 0 and not self._closed.is_set():
            i, is_avoided = self._begin()
            try:
                if is_avoided:  # every replica was lost a moment ago
                    self._closed.wait(min(_PAUSE_S, left))
                    left = until - time.monotonic()
                return call(self._replicas[i], max(left, 0.001))
            except ReplicaGone as error:
                last = f"the last was: {error}"
                self._avoid(i, _PAUSE_S)
                self.asked_again += 1
            except TimeoutError:
                last = "the last did not answer"
                self._avoid(i, self._timeout_s)
            finally:
                with self._lock:
                    self._load[i] -= 1
        raise RetrievalError(f"no retrieval replica of {len(self._replicas)} answered in {self._timeout_s:g} s; {last}")

    def _begin(self) -> tuple[int, bool]:
        """Choose the replica that has least to do of those that were not lost a moment ago, and count the call."""
        with self._lock:
            now, count = time.monotonic(), len(self._replicas)
            self._turn += 1
            i = min(
                range(count),
                key=lambda i: (self._avoided_until[i] > now, self._load[i], (i - self._turn) % count),
            )
            self._load[i] += 1
            return i, self._avoided_until[i] > now

    def _avoid(self, i: int, seconds: float) -> None:
        with self._lock:
            self._avoided_until[i] = time.monotonic() + seconds


class ReplicaClient:
    """Searches and opens documents for the episodes of one worker; gives what an index in this process gives.

    Use from one event loop, and `close` it.
    """

    def __init__(self, replicas: Sequence[Replica], settings: ReplicaSettings | None = None) -> None:
        settings = settings or ReplicaSettings()
        in_flight = 4 * len(replicas)
        self._replicas = Replicas(replicas, timeout_s=settings.timeout_s, open_attempts=settings.retries + 1)
        self._batcher = MicroBatcher(
            self._replicas,  # type: ignore[arg-type]  # a batcher only searches
            window_s=settings.window_s,
            max_batch=settings.max_batch,
            timeout_s=settings.timeout_s,
            retries=settings.retries,
            max_in_flight=in_flight,
        )
        self._reader = DocumentReader(self._replicas, timeout_s=self._batcher.deadline_s, max_in_flight=4 * in_flight)

    @property
    def asked_again(self) -> int:
        """Calls that another replica, or a successor, was asked again."""
        return self._replicas.asked_again

    async def search(self, query: str, k: int) -> list[Hit]:
        """The best `k` hits of one query.

        Raises:
            RequestError: the retriever refuses this query or `k`.
            RetrievalError: no answer within the deadline and retries.
        """
        return await self._batcher.search(query, k)

    async def documents(self, name: str) -> list[Passage]:
        """The passages of the document with this id or title, none where there is no such document.

        Raises:
            RetrievalError: no answer in time.
        """
        return await self._reader.open(name)

    async def close(self) -> None:
        """Give up what waits."""
        self._replicas.close()
        await self._batcher.close()
