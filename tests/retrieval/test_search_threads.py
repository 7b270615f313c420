"""Threads for searches: they end, and those that hang are counted and bounded."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty

import pytest

from retrieval import search_threads
from retrieval.batcher import MicroBatcher
from retrieval.retriever import RetrievalError
from retrieval.search_threads import SearchesHang, SearchThreads
from tests.retrieval.echo_retriever import EchoRetriever, ids


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to pass within 10 s")


class Snatched:
    """A queue of jobs whose one job is taken by another thread just after this one has given up on it."""

    def __init__(self) -> None:
        self.timeouts: list[float | None] = []

    def get(self, timeout: float | None = None) -> Callable[[], None]:
        self.timeouts.append(timeout)
        if timeout is None:
            return lambda: None  # the real one would wait for ever
        raise Empty

    def empty(self) -> bool:
        return len(self.timeouts) > 1


def test_a_thread_whose_job_was_snatched_ends_after_its_time_too() -> None:
    threads, queue = SearchThreads(1), Snatched()
    threads._jobs = queue  # type: ignore[assignment]
    threads._work(lambda: None)
    assert queue.timeouts == [search_threads._IDLE_S] * 2


async def test_a_thread_without_a_job_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_threads, "_IDLE_S", 0.05)
    threads = SearchThreads(1)
    running = [await threads.result(threading.current_thread) for _ in range(3)]
    await until(lambda: not any(thread.is_alive() for thread in running))
    assert await threads.result(lambda: "another") == "another"


async def test_what_was_left_behind_is_bounded_until_it_ends() -> None:
    release, changes = threading.Event(), list[int]()
    threads = SearchThreads(2, changes.append)
    for _ in range(2):
        with suppress(TimeoutError):
            await asyncio.wait_for(threads.result(lambda: release.wait(20)), 0.02)
    assert changes == [1, 1]
    with pytest.raises(SearchesHang, match="2 searches that were given up on still run, and at most 2 may"):
        await threads.result(lambda: None)
    release.set()
    await until(lambda: sum(changes) == 0)
    assert await threads.result(lambda: "again") == "again" and changes == [1, 1, -1, -1]


async def test_searches_that_overrun_do_not_pile_up_and_who_waits_is_told_at_once() -> None:
    release, began = threading.Event(), threading.active_count()
    retriever = EchoRetriever(lambda queries: release.wait(20) and None)
    batcher = MicroBatcher(retriever, max_in_flight=2, max_batch=1, timeout_s=0.05, deadline_s=10, retries=0)
    answers = await asyncio.gather(*(batcher.search(f"q{i}", 1) for i in range(100)), return_exceptions=True)
    assert all(isinstance(answer, RetrievalError) for answer in answers)
    assert sum(isinstance(answer, SearchesHang) for answer in answers) >= 80
    assert threading.active_count() - began <= 18, "8 for each of the two, and the two"
    started, num_batches = time.perf_counter(), len(retriever.batches)
    with pytest.raises(SearchesHang):
        await batcher.search("later", 1)
    assert time.perf_counter() - started < 0.04 and len(retriever.batches) == num_batches
    release.set()

    async def answered() -> bool:
        with suppress(RetrievalError):
            return ids(await batcher.search("after", 1)) == ["after"]
        return False

    for _ in range(500):
        if await answered():
            break
        await asyncio.sleep(0.01)
    else:
        raise AssertionError("it does not recover")
    await batcher.close()


async def test_a_forked_process_has_threads_of_its_own():
    threads = SearchThreads(1)
    assert await threads.result(lambda: 1) == 1
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = asyncio.Runner(loop_factory=asyncio.new_event_loop).run(_in_the_child(threads))
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


async def _in_the_child(threads: SearchThreads) -> int:
    async with asyncio.timeout(5):
        return 0 if await threads.result(lambda: 2) == 2 else 1
