"""Threads that run blocking searches for an event loop and are kept for the next one.

They are daemon threads: unlike a pool's, one that hangs never keeps the process from ending. Whoever waits for a search
that hangs gives up on it; the thread is left behind, and the next search gets another.
"""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

_IDLE_S = 10.0


class SearchThreads:
    """Runs each job in a thread that has nothing to do, or in a new one. A thread without a job for 10 s ends."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0  # threads that wait for a job, less the jobs that wait for a thread

    def run(self, job: Callable[[], None]) -> None:
        """Start `job`, which must not raise, and return at once."""
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
