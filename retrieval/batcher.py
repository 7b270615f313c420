"""Many coroutines ask one blocking retriever: the micro-batcher between episodes, or connections, and an index.

Queries that arrive within a window become one batch, searched in a thread, so neither a search nor a hanging one stops
the event loop, and several batches may be under way at once. A call waits for its window and for one batch to end,
whatever is asked beside it, as long as it has at most `max_batch / n` queries where `n` calls wait. Exceptions are
depths that do not go together (`batch_queue` says which) and batches that failed; docs/serving.md lists both. A batch
is answered as a whole: a slow query holds back those that share its batch, and no others. A batch that fails is
searched in halves, and these in halves, until the bad query is alone: it fails its own caller and no other, after a few
searches more and not one for each. Every wait has a deadline.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Literal

from retrieval.batch_queue import BatchQueue, Call, Part
from retrieval.passage import Hit
from retrieval.request import RequestError
from retrieval.retriever import RetrievalError, Retriever
from retrieval.search_threads import SearchesHang, SearchThreads

_MOST_ROUNDS = 32
"""Rounds of the event loop that a window of 0 seconds stays open at most."""
_MOST_HANGING = 8
"""Searches that may be left behind, for each that may be under way."""

Outcome = Literal["answered", "refused", "failed", "timed_out"]
"""What became of one search of a batch."""


class MicroBatcher:
    """Merges concurrent searches of one event loop.

    Args:
        retriever: any thread-safe `Retriever`.
        window_s: how long the first query of a batch waits for company, in seconds; 0 sends as soon as the event loop
            has nothing else that is ready to run.
        max_batch: most queries in one batch.
        timeout_s: longest time that one attempt may take, in seconds.
        retries: attempts after the first one; the k-th of them waits `backoff_s * 2**(k - 1)` seconds first. With 0 a
            batch that fails fails all its callers; otherwise a batch of many is searched in halves until each query
            has its answer or has failed alone.
        backoff_s: see `retries`.
        max_in_flight: batches searched at the same time, each in a thread of its own.
        deadline_s: longest time that a search may take in all, waiting for a free slot included, in seconds; None
            allows what the attempts and their pauses may add up to.
        max_hanging: searches that may still run after they overran `timeout_s`; beyond it every search fails at once,
            until one of them ends. None: 8 for each of `max_in_flight`.
        on_batch: called with every finished batch's number of queries, its seconds, and what became of it.
        on_hanging: called with 1 when a search is left behind, and with -1 when it ends after all; from any thread.

    A batch that overruns its timeout is not halved: its queries are tried again one by one, beside what is asked
    meanwhile. A thread that overruns cannot be stopped; it is left behind, its slot is given to the next batch, and it
    never keeps the process from ending.
    """

    def __init__(
        self,
        retriever: Retriever,
        *,
        window_s: float = 0.0,
        max_batch: int = 256,
        timeout_s: float = 30.0,
        retries: int = 2,
        backoff_s: float = 0.1,
        max_in_flight: int = 4,
        deadline_s: float | None = None,
        max_hanging: int | None = None,
        on_batch: Callable[[int, float, Outcome], None] | None = None,
        on_hanging: Callable[[int], None] = lambda change: None,
    ) -> None:
        most_hanging = _MOST_HANGING * max_in_flight if max_hanging is None else max_hanging
        for name, value, least in (
            ("window_s", window_s, 0),
            ("max_batch", max_batch, 1),
            ("retries", retries, 0),
            ("backoff_s", backoff_s, 0),
            ("max_in_flight", max_in_flight, 1),
            ("max_hanging", most_hanging, 1),
        ):
            if value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")
        for name, seconds in (("timeout_s", timeout_s), ("deadline_s", deadline_s)):
            if seconds is not None and seconds <= 0:
                raise ValueError(f"{name} is {seconds}; it must be more than 0 seconds")
        self._retriever = retriever
        self._window_s = window_s
        self._max_batch = max_batch
        self._timeout_s = timeout_s
        self._retries = retries
        self._backoff_s = backoff_s
        self._max_in_flight = max_in_flight
        self._deadline_s = deadline_s
        self._on_batch = on_batch
        self._threads = SearchThreads(most_hanging, on_hanging)
        self._prefix_depth: int | None = getattr(retriever, "prefix_depth", None)
        self._pending = BatchQueue(self._prefix_depth)
        self._running: set[asyncio.Task[None]] = set()
        self._unanswered: set[asyncio.Future[list[list[Hit]]]] = set()
        self._timer: asyncio.Handle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def deadline_s(self) -> float:
        """Longest time that a search may take, all attempts and their pauses included, in seconds."""
        if self._deadline_s is not None:
            return self._deadline_s
        return self._timeout_s * (self._retries + 1) + self._backoff_s * (2**self._retries - 1) + self._window_s

    @property
    def waiting(self) -> int:
        """Queries that have been asked and are not being searched yet."""
        return self._pending.num_queries

    async def search(self, query: str, k: int) -> list[Hit]:
        """The best `k` hits of one query, best first.

        Raises:
            RequestError: the retriever refuses this query or `k`.
            RetrievalError: no answer within the deadline and retries; `SearchesHang`, at once, where too many hang.
            RuntimeError: the batcher is closed, or still has queries of another event loop.
        """
        return (await self.search_many([query], k))[0]

    async def search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The best `k` hits of every query, in the order of the queries. They are searched in one batch, with others
        that wait, or in several where there is no room for all of them, and fail together.

        Raises:
            RequestError: the retriever refuses one of the queries, or `k`.
            RetrievalError: no answer within the deadline and retries; `SearchesHang`, at once, where too many hang.
            RuntimeError: the batcher is closed, or still has queries of another event loop.
        """
        if isinstance(queries, str):
            raise RequestError(f"queries is the single string {queries!r}; give a list of strings, [{queries!r}]")
        loop = asyncio.get_running_loop()
        if self._closed:
            raise RuntimeError("the batcher is closed; make a new one")
        if loop is not self._loop:
            if self._unanswered:
                raise RuntimeError("the batcher has unanswered queries of another event loop; use one batcher a loop")
            self._bind(loop)
        if not queries:
            return []
        self.check()
        call = Call(list(queries), k, loop.create_future())
        self._ask(call, loop)
        try:
            async with asyncio.timeout(self.deadline_s):
                return await call.answer
        except TimeoutError:
            raise RetrievalError(
                f"no answer to {queries[0][:80]!r} within {self.deadline_s:g} s; "
                "the retriever hangs or is overloaded (timeout_s and max_in_flight bound the wait)"
            ) from None
        finally:
            self._unanswered.discard(call.answer)
            if call.answer.cancel() or call.answer.cancelled() or call.num_left:
                self._pending.forget(call)

    def check(self) -> None:
        """Refuse where every search would fail at once.

        Raises:
            SearchesHang: `max_hanging` searches that overran still run.
        """
        self._threads.check()

    def _ask(self, call: Call, loop: asyncio.AbstractEventLoop) -> None:
        self._unanswered.add(call.answer)
        self._pending.add(call)
        if self._pending.window_queries >= self._max_batch:
            self._close_window()
        elif self._timer is None:
            self._open_window(loop)

    async def close(self) -> None:
        """Refuse new searches and wait for those under way, which the deadlines bound."""
        self._closed = True
        self._close_window()
        if self._unanswered:
            await asyncio.wait(set(self._unanswered))

    async def __aenter__(self) -> "MicroBatcher":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pending = BatchQueue(self._prefix_depth)
        self._running = set()
        self._timer = None

    def _open_window(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._window_s > 0:
            self._timer = loop.call_later(self._window_s, self._close_window)
        else:
            self._timer = loop.call_soon(self._close_if_idle, loop, len(self._pending.window), 0, _MOST_ROUNDS)

    def _close_if_idle(self, loop: asyncio.AbstractEventLoop, seen: int, quiet_rounds: int, rounds_left: int) -> None:
        """Two rounds of the loop that bring no query mean that whoever was ready to ask has asked; one may mean only
        that this callback stood before them. A steady stream does not hold the window open: the rounds are counted.
        """
        size = len(self._pending.window)
        quiet_rounds = quiet_rounds + 1 if size == seen else 0
        if quiet_rounds == 2 or rounds_left == 0:
            self._close_window()
        else:
            self._timer = loop.call_soon(self._close_if_idle, loop, size, quiet_rounds, rounds_left - 1)

    def _close_window(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._pending.close_window()
        self._start_batches()

    def _start_batches(self) -> None:
        while self._pending and len(self._running) < self._max_in_flight:
            batch = [part for part in self._pending.take(self._max_batch) if not part.call.answer.done()]
            if batch:
                task = asyncio.get_running_loop().create_task(self._run(batch))
                self._running.add(task)
                task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.result()
        self._start_batches()

    async def _run(self, batch: list[Part]) -> None:
        """One attempt at a batch; on failure parts of it are sent again, or its calls get the error."""
        try:
            self.check()
        except SearchesHang as hanging:
            for part in batch:
                part.call.fail(hanging)
            return
        queries = [query for part in batch for query in part.queries]
        depth = max(part.call.k for part in batch)
        started = time.perf_counter()
        outcome: Outcome = "failed"
        error: Exception
        try:
            async with asyncio.timeout(self._timeout_s) as limit:
                results = await self._threads.result(lambda: self._retriever.search(queries, depth))
            self._answer(batch, queries, results, depth)
            outcome = "answered"
            return
        except RequestError as raised:
            outcome, error = "refused", raised
        except Exception as raised:
            error = raised
            if isinstance(raised, TimeoutError) and limit.expired():
                outcome = "timed_out"
                error = RetrievalError(f"the retriever took longer than {self._timeout_s:g} s (timeout_s)")
        finally:
            if self._on_batch is not None:
                self._on_batch(len(queries), time.perf_counter() - started, outcome)
        self._send_again(batch, error, outcome)

    def _answer(self, batch: list[Part], queries: Sequence[str], results: list[list[Hit]] | None, depth: int) -> None:
        if results is None or len(results) != len(queries):
            got = "nothing" if results is None else f"{len(results)} lists"
            raise RetrievalError(f"the retriever returned {got} for {len(queries)} queries")
        start = 0
        for part in batch:
            own, k = results[start : start + part.size], part.call.k
            part.call.found(part.start, own if k == depth else [hits[:k] for hits in own])
            start += part.size

    def _send_again(self, batch: list[Part], error: Exception, outcome: Outcome) -> None:
        refused = outcome == "refused"
        attempts = batch[0].attempts + (not refused)
        if (len(batch) == 1 and (refused or attempts > self._retries)) or (not refused and self._retries == 0):
            for part in batch:
                part.call.fail(error if refused else _failure(part, attempts, error))
            return
        for part in batch:
            part.attempts = attempts
        if len(batch) == 1 or outcome == "timed_out":
            groups = [[part] for part in batch]
        else:
            groups = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
        if refused or attempts > self._retries:
            self._add_again(groups)
        else:
            pause_s = self._backoff_s * 2 ** (attempts - 1)
            asyncio.get_running_loop().call_later(pause_s, self._add_again, groups)

    def _add_again(self, groups: list[list[Part]]) -> None:
        for group in groups:
            if left := [part for part in group if not part.call.answer.done()]:
                self._pending.add_again(left)
        self._start_batches()


def _failure(part: Part, attempts: int, error: Exception) -> RetrievalError:
    times = "once" if attempts == 1 else f"{attempts} times"
    failure = RetrievalError(f"{part.queries[0][:80]!r} failed {times}; the last error was: {error!r}")
    failure.__cause__ = error
    return failure
