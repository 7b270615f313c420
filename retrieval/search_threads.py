"""Threads that run blocking searches for an event loop and are kept for the next one.

They are daemon threads: unlike a pool's, one that hangs never keeps the process from ending. Whoever waits for a search
that hangs gives up on it; the thread is left behind, and the next search gets another. How many may be left behind is
bounded: where that many still run, nothing new is begun until one of them ends.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from retrieval.retriever import RetrievalError

_IDLE_S = 10.0

Result = TypeVar("Result")


class SearchesHang(RetrievalError):
    """Too many searches were given up on and still run; until one of them ends, none is begun."""


class SearchThreads:
    """Runs each job in a thread that has nothing to do, or in a new one. A thread without a job for 10 s ends.

    Args:
        max_hanging: jobs that may still run after whoever waited for them has given up.
        on_hanging: called with 1 when a job is left behind, and with -1 when it ends after all; from any thread.
    """

    def __init__(self, max_hanging: int, on_hanging: Callable[[int], None] = lambda change: None) -> None:
        self._max_hanging = max_hanging
        self._on_hanging = on_hanging
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0  # threads that wait for a job, less the jobs that wait for a thread
        self._num_hanging = 0

    def check(self) -> None:
        """Refuse where nothing new is begun.

        Raises:
            SearchesHang: as many searches as may be left behind still run.
        """
        if self._pid != os.getpid():  # a forked process has none of its parent's threads
            self._begin()
        if self._num_hanging >= self._max_hanging:
            raise SearchesHang(
                f"{self._num_hanging} searches that were given up on still run, and at most {self._max_hanging} may; "
                "no other is begun until one of them ends"
            )

    async def result(self, work: Callable[[], Result]) -> Result:
        """What `work` returns, or the exception that it raises. Whoever stops waiting leaves it behind.

        Raises:
            SearchesHang: as `check`.
            RetrievalError: what ended it is no `Exception`, such as a panic of a library written in Rust.
        """
        self.check()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()
        has_ended = is_left = False

        def settle(set_outcome: Callable[[Any], None], outcome: Any) -> None:
            if not done.done():
                set_outcome(outcome)

        def job() -> None:
            nonlocal has_ended
            set_outcome: Callable[[Any], None] = done.set_result
            outcome: Any
            try:
                outcome = work()
            except BaseException as raised:  # a thread that died of it would leave its caller without an answer
                set_outcome, outcome = done.set_exception, _passed_on(raised)
            with self._lock:
                has_ended = True
                self._num_hanging -= is_left
            if is_left:
                self._on_hanging(-1)
            with suppress(RuntimeError):  # the loop was closed, so nobody waits for this any more
                loop.call_soon_threadsafe(settle, set_outcome, outcome)

        self._run(job)
        try:
            return await done
        except asyncio.CancelledError:
            with self._lock:
                is_left = not has_ended
                self._num_hanging += is_left
            if is_left:
                self._on_hanging(1)
            raise

    def _run(self, job: Callable[[], None]) -> None:
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
                self._jobs.put(job)
                return
        threading.Thread(target=self._work, args=(job,), daemon=True, name="retrieval").start()

    def _work(self, job: Callable[[], None] | None) -> None:
        while job is not None:
            job()
            job = None  # what it holds is not kept while the thread waits
            with self._lock:
                self._idle += 1
            job = self._next_job()

    def _next_job(self) -> Callable[[], None] | None:
        while True:
            try:
                return self._jobs.get(timeout=_IDLE_S)
            except Empty:
                with self._lock:
                    if self._jobs.empty():
                        self._idle -= 1
                        return None


def _passed_on(raised: BaseException) -> Exception:
    """The exception that a future can carry: the one that was raised, where it is one."""
    if isinstance(raised, Exception) and not isinstance(raised, StopIteration):
        return raised
    error = RetrievalError(f"the search was ended by {raised!r:.500}")
    error.__cause__ = raised
    return error
