"""Many coroutines ask one blocking retriever: the micro-batcher between episodes, or connections, and an index.

Queries that arrive within a window become one batch, searched in a thread, so neither a search nor a hanging one stops
the event loop, and several batches may be under way at once. What arrives while all of them are becomes the next batch:
a query waits for its window and for one batch to end, not for a queue of small ones. A batch is answered as a whole: a
slow query holds back those that share its batch, and no others. When a batch fails, each call in it is searched alone:
a bad query fails its own caller and no other. Every wait has a deadline.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from retrieval.batch_queue import BatchQueue, Request
from retrieval.passage import Hit
from retrieval.retriever import RetrievalError, Retriever
from retrieval.search_threads import SearchThreads

_MOST_ROUNDS = 32
"""Rounds of the event loop that a window of 0 seconds stays open at most."""


@dataclass(slots=True, kw_only=True)
class BatcherStats:
    """Counters since the start. Latencies are from call to answer, in seconds, and count once for every query."""

    queries: int = 0
    batches: int = 0
    batched_queries: int = 0
    retries: int = 0
    timeouts: int = 0
    failures: int = 0
    total_latency_s: float = 0.0
    max_latency_s: float = 0.0

    @property
    def mean_batch_size(self) -> float:
        """Queries per batch sent to the retriever."""
        return self.batched_queries / self.batches if self.batches else 0.0

    @property
    def mean_latency_s(self) -> float:
        """Mean wait of a query, answered or not."""
        return self.total_latency_s / self.queries if self.queries else 0.0


class MicroBatcher:
    """Merges concurrent searches of one event loop.

    Args:
        retriever: any thread-safe `Retriever`.
        window_s: how long the first query of a batch waits for company, in seconds; 0 sends as soon as the event loop
            has nothing else that is ready to run.
        max_batch: most queries in one batch.
        timeout_s: longest time that one attempt may take, in seconds.
        retries: attempts after the first one; the k-th of them waits `backoff_s * 2**(k - 1)` seconds first.
        backoff_s: see `retries`.
        max_in_flight: batches searched at the same time, each in a thread of its own.
        on_batch: called with every finished batch's number of queries and seconds, whatever became of it.

    A search takes `deadline_s` at most, waiting for a free slot included. A thread that overruns its timeout cannot be
    stopped; it is left behind, its slot is given to the next batch, and it never keeps the process from ending.
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
        on_batch: Callable[[int, float], None] | None = None,
    ) -> None:
        for name, value, least in (
            ("window_s", window_s, 0),
            ("max_batch", max_batch, 1),
            ("retries", retries, 0),
            ("backoff_s", backoff_s, 0),
            ("max_in_flight", max_in_flight, 1),
        ):
            if value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")
        if timeout_s <= 0:
            raise ValueError(f"timeout_s is {timeout_s}; it must be more than 0 seconds")
        self._retriever = retriever
        self._window_s = window_s
        self._max_batch = max_batch
        self._timeout_s = timeout_s
        self._retries = retries
        self._backoff_s = backoff_s
        self._max_in_flight = max_in_flight
        self._on_batch = on_batch
        self._threads = SearchThreads()
        self._pending = BatchQueue()
        self._running: set[asyncio.Task[None]] = set()
        self._unanswered: set[asyncio.Future[list[list[Hit]]]] = set()
        self._timer: asyncio.Handle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._counters = BatcherStats()
        self._closed = False

    @property
    def deadline_s(self) -> float:
        """Longest time that a search may take, all attempts and their pauses included, in seconds."""
        return self._timeout_s * (self._retries + 1) + self._backoff_s * (2**self._retries - 1) + self._window_s

    @property
    def stats(self) -> BatcherStats:
        """A copy of the counters as they stand."""
        return replace(self._counters)

    @property
    def waiting(self) -> int:
        """Queries that have been asked and are not being searched yet."""
        return self._pending.num_queries

    async def search(self, query: str, k: int) -> list[Hit]:
        """The best `k` hits of one query, best first.

        Raises:
            ValueError: the retriever refuses this query or `k`.
            RetrievalError: no answer within the deadline and retries.
            RuntimeError: the batcher is closed, or still has queries of another event loop.
        """
        return (await self.search_many([query], k))[0]

    async def search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The best `k` hits of every query, in the order of the queries. They are searched in one batch, with others
        that wait, or in several where they are more than `max_batch`, and fail together.

        Raises:
            ValueError: the retriever refuses one of the queries, or `k`.
            RetrievalError: no answer within the deadline and retries.
            RuntimeError: the batcher is closed, or still has queries of another event loop.
        """
        if isinstance(queries, str):
            raise ValueError(f"queries is the single string {queries!r}; give a list of strings, [{queries!r}]")
        loop = asyncio.get_running_loop()
        if self._closed:
            raise RuntimeError("the batcher is closed; make a new one")
        if loop is not self._loop:
            if self._unanswered:
                raise RuntimeError("the batcher has unanswered queries of another event loop; use one batcher a loop")
            self._bind(loop)
        if not queries:
            return []
        started = time.perf_counter()
        self._counters.queries += len(queries)
        requests = [
            self._ask(Request(list(queries[start : start + self._max_batch]), k, loop.create_future()))
            for start in range(0, len(queries), self._max_batch)
        ]
        try:
            async with asyncio.timeout(self.deadline_s):
                if len(requests) == 1:
                    return await requests[0].answer
                parts = await asyncio.gather(*(request.answer for request in requests))
                return [hits for part in parts for hits in part]
        except TimeoutError:
            self._counters.failures += 1
            raise RetrievalError(
                f"no answer to {queries[0][:80]!r} within {self.deadline_s:g} s; "
                "the retriever hangs or is overloaded (timeout_s, retries and max_in_flight bound the wait)"
            ) from None
        finally:
            for request in requests:
                self._unanswered.discard(request.answer)
                if request.answer.cancel() or request.answer.cancelled():
                    self._pending.forget(request)
            latency = time.perf_counter() - started
            self._counters.total_latency_s += latency * len(queries)
            self._counters.max_latency_s = max(self._counters.max_latency_s, latency)

    def _ask(self, request: Request) -> Request:
        self._unanswered.add(request.answer)
        self._pending.add(request)
        if self._pending.window_queries >= self._max_batch:
            self._close_window()
        elif self._timer is None:
            self._open_window(asyncio.get_running_loop())
        return request

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
        self._pending = BatchQueue()
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
        while self._pending.waiting and len(self._running) < self._max_in_flight:
            batch = [request for request in self._pending.take(self._max_batch) if not request.answer.done()]
            if batch:
                task = asyncio.get_running_loop().create_task(self._run(batch))
                self._running.add(task)
                task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.result()
        self._start_batches()

    async def _run(self, batch: list[Request]) -> None:
        """One attempt at a batch; on failure its requests come back one by one, or get the error."""
        queries = [query for request in batch for query in request.queries]
        self._counters.batches += 1
        self._counters.batched_queries += len(queries)
        started = time.perf_counter()
        error: Exception
        try:
            async with asyncio.timeout(self._timeout_s):
                results = await self._in_thread(queries, batch[0].k)
        except TimeoutError:
            self._counters.timeouts += 1
            error = RetrievalError(f"the retriever took longer than {self._timeout_s:g} s (timeout_s)")
        except Exception as raised:
            error = raised
        else:
            start = 0
            for request in batch:
                end = start + len(request.queries)
                if not request.answer.done():
                    request.answer.set_result(results[start:end])
                start = end
            return
        finally:
            if self._on_batch is not None:
                self._on_batch(len(queries), time.perf_counter() - started)
        if isinstance(error, ValueError):
            self._refused(batch, error)
        else:
            self._failed(batch, error)

    def _refused(self, batch: list[Request], error: ValueError) -> None:
        if len(batch) == 1:
            if not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            return
        self._send_one_by_one(batch)

    def _failed(self, batch: list[Request], error: Exception) -> None:
        attempts = batch[0].attempts + 1
        if attempts > self._retries:
            for request in batch:
                if not request.answer.done():
                    self._counters.failures += 1
                    failure = RetrievalError(
                        f"{request.queries[0][:80]!r} failed {attempts} times; the last error was: {error!r}"
                    )
                    failure.__cause__ = error
                    request.answer.set_exception(failure)
            return
        self._counters.retries += 1
        for request in batch:
            request.attempts = attempts
        pause_s = self._backoff_s * 2 ** (attempts - 1)
        asyncio.get_running_loop().call_later(pause_s, self._send_one_by_one, batch)

    def _send_one_by_one(self, batch: list[Request]) -> None:
        for request in batch:
            if not request.answer.done():
                self._pending.add_again(request)
        self._start_batches()

    async def _in_thread(self, queries: list[str], k: int) -> list[list[Hit]]:
        """Search in a thread of its own, so that the loop goes on."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[list[Hit]]] = loop.create_future()

        def settle(results: list[list[Hit]] | None, error: BaseException | None) -> None:
            if done.done():
                return
            if error is not None:
                done.set_exception(error)
            elif results is None or len(results) != len(queries):
                got = "nothing" if results is None else f"{len(results)} lists"
                done.set_exception(RetrievalError(f"the retriever returned {got} for {len(queries)} queries"))
            else:
                done.set_result(results)

        def search() -> None:
            results, error = None, None
            try:
                results = self._retriever.search(queries, k)
            except Exception as raised:
                error = raised
            with suppress(RuntimeError):  # the loop was closed, so nobody waits for this any more
                loop.call_soon_threadsafe(settle, results, error)

        self._threads.run(search)
        return await done
