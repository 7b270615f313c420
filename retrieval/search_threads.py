"""Threads that run blocking searches for an event loop and are kept for the next one.

They are daemon threads: unlike a pool's, one that hangs never keeps the process from ending. Whoever waits for a search
that hangs gives up on it; the thread is left behind, and the next search gets another.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from retrieval.retriever import RetrievalError

_IDLE_S = 10.0

Result = TypeVar("Result")


class SearchThreads:
    """Runs each job in a thread that has nothing to do, or in a new one. A thread without a job for 10 s ends."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0  # threads that wait for a job, less the jobs that wait for a thread

    async def result(self, work: Callable[[], Result]) -> Result:
        """What `work` returns, or the exception that it raises. Whoever stops waiting leaves it behind.

        Raises:
            RetrievalError: what ended it is no `Exception`, such as a panic of a library written in Rust.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()

        def settle(set_outcome: Callable[[Any], None], outcome: Any) -> None:
            if not done.done():
                set_outcome(outcome)

        def job() -> None:
            set_outcome: Callable[[Any], None] = done.set_result
            outcome: Any
            try:
                outcome = work()
            except BaseException as raised:  # a thread that died of it would leave its caller without an answer
                set_outcome, outcome = done.set_exception, _passed_on(raised)
            with suppress(RuntimeError):  # the loop was closed, so nobody waits for this any more
                loop.call_soon_threadsafe(settle, set_outcome, outcome)

        self._run(job)
        return await done

    def _run(self, job: Callable[[], None]) -> None:
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
                self._jobs.put(job)
                return
        threading.Thread(target=self._work, args=(job,), daemon=True, name="retrieval").start()

    def _work(self, job: Callable[[], None]) -> None:
        while True:
            job()
            del job  # what it holds is not kept while the thread waits
            with self._lock:
                self._idle += 1
            try:
                job = self._jobs.get(timeout=_IDLE_S)
            except Empty:
                with self._lock:
                    if self._jobs.empty():
                        self._idle -= 1
                        return
                job = self._jobs.get()


def _passed_on(raised: BaseException) -> Exception:
    """The exception that a future can carry: the one that was raised, where it is one."""
    if isinstance(raised, Exception) and not isinstance(raised, StopIteration):
        return raised
    error = RetrievalError(f"the search was ended by {raised!r:.500}")
    error.__cause__ = raised
    return error
