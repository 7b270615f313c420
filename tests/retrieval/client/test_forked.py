"""A client in a forked process, as multiprocessing and a DataLoader's workers have it."""

import multiprocessing
import threading
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import pytest

from retrieval.client import HttpRetriever
from tests.retrieval.client.scripted_server import FAKE
from tests.retrieval.server.running import Running

FORK = multiprocessing.get_context("fork")


def in_child(work: Callable[[], Any], *, within_s: float = 20) -> Any:
    """What `work` gives in a forked process."""
    said: SimpleQueue[Any] = FORK.SimpleQueue()
    child = FORK.Process(target=lambda: said.put(work()))
    child.start()
    child.join(within_s)
    alive = child.is_alive()
    child.kill()
    assert not alive, "the child hangs"
    assert child.exitcode == 0
    return said.get()


@pytest.mark.parametrize("cache", ["none", "memory", "disk"])
def test_a_child_searches_and_leaves_the_parents_connections_alone(server: Running, tmp_path: Path, cache: str) -> None:
    options: dict[str, Any] = {"none": {}, "memory": {"cache_queries": 9}, "disk": {"cache_folder": tmp_path}}[cache]
    expected = [FAKE.expected("a", 2), FAKE.expected("bb", 2)]
    with HttpRetriever(server.url, timeout_s=10, **options) as remote:
        assert remote.search(["a", "bb"], 2) == expected

        def work() -> Any:
            with remote:
                found = remote.search(["a", "bb"], 2)
                return found, remote.cache_stats.hits, "p3" in remote

        hits = {"none": 0, "memory": 0, "disk": 2}[cache]
        for _ in range(2):
            assert in_child(work) == (expected, hits, True)
            assert remote.search(["a", "ccc"], 2) == [FAKE.expected("a", 2), FAKE.expected("ccc", 2)]
            assert in_child(lambda: in_child(work)) == (expected, hits, True), "a child of a child"


def test_a_child_searches_while_the_parent_does(server: Running) -> None:
    with HttpRetriever(server.url, timeout_s=10) as remote:
        ended = threading.Event()
        found: list[Any] = []

        def go_on() -> None:
            while not ended.is_set():
                found.append(remote.search(["a"], 1))

        threads = [threading.Thread(target=go_on) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                assert in_child(lambda: remote.search(["bb"], 1)) == [FAKE.expected("bb", 1)]
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        assert all(one == [FAKE.expected("a", 1)] for one in found)


def test_a_lock_that_another_thread_held_is_not_held_in_the_child(server: Running) -> None:
    with HttpRetriever(server.url, timeout_s=10) as remote:
        remote.search(["a"], 1)
        with remote._lock:
            assert in_child(lambda: remote.search(["a"], 1)) == [FAKE.expected("a", 1)]


def test_a_child_that_asked_nothing_closes_nothing_and_a_closed_one_stays_closed(server: Running) -> None:
    with HttpRetriever(server.url, timeout_s=10) as remote:
        remote.search(["a"], 1)
        in_child(remote.close)
        assert remote.search(["a"], 1) == [FAKE.expected("a", 1)]

    def refused() -> str:
        with pytest.raises(RuntimeError, match="closed") as error:
            remote.search(["a"], 1)
        return str(error.value)

    assert "closed" in in_child(refused)
