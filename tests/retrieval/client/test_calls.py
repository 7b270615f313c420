"""One call of the client: large ones against the limits of a real server, and those under way when it is closed."""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing

import pytest

from retrieval.client import CircuitOpen, HttpRetriever
from retrieval.passage import Hit
from retrieval.retriever import RetrievalError
from tests.retrieval.client.scripted_server import FAKE, Scripted, answer, http
from tests.retrieval.server.fakes import FakeRetriever
from tests.retrieval.server.running import Start


class Slow(FakeRetriever):
    """Takes 2 ms a query."""

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        time.sleep(0.002 * len(queries))
        return super().search(queries, k)


def test_a_large_call_never_fills_the_servers_queue(start: Start) -> None:
    running = start(Slow(), max_queries=10, max_waiting=40, max_batch=10)
    queries = ["q" * (1 + i % 30) for i in range(400)]
    with HttpRetriever(running.url, retries=0) as remote:
        assert remote.search(queries, 2) == [FAKE.expected(query, 2) for query in queries]


@pytest.mark.parametrize(
    ("limits", "k"),
    [({"max_queries": 7}, 2), ({"max_hits": 30, "max_k": 20}, 20), ({"max_body_bytes": 8000}, 1)],
    ids=["queries", "hits", "bytes"],
)
def test_a_large_call_is_cut_to_the_servers_limits(start: Start, limits: dict[str, int], k: int) -> None:
    running = start(**limits)
    queries = ["中" * (1 + 30 * i) for i in range(40)]
    with HttpRetriever(running.url) as remote:
        assert remote.search(queries, k) == [FAKE.expected(query, k) for query in queries]
        assert remote.known_ids([f"p{i}" for i in range(15, 3000)]) == {f"p{i}" for i in range(15, 20)}


def test_a_part_that_is_too_large_for_what_stands_between_is_halved(scripted: Callable[..., Scripted]) -> None:
    other = scripted(http("404 Not Found", b""), http("413 Too Large", b""), answer("a", "b"), answer("c", "d", "e"))
    with HttpRetriever(other.url) as remote:
        assert remote.search(["a", "b", "c", "d", "e"], 1) == [FAKE.expected("a", 1)] * 5
    assert len(other.asked) == 4


def test_a_large_call_that_fails_is_one_failure_and_ends_soon(scripted: Callable[..., Scripted]) -> None:
    other = scripted(http("404 Not Found", b""), http("502 Bad Gateway", b""))
    with HttpRetriever(other.url, retries=0, max_queries=1, breaker_failures=2) as remote:
        for _ in range(2):
            with pytest.raises(RetrievalError, match="502") as failed:
                remote.search(["a"] * 50, 1)
            assert not isinstance(failed.value, CircuitOpen)
        with pytest.raises(CircuitOpen, match="2 times"):
            remote.search(["a"] * 50, 1)
    assert len(other.asked) <= 1 + 2 * 4


@pytest.mark.parametrize("cache_queries", [0, 10])
def test_closing_ends_the_calls_that_wait(cache_queries: int) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    remote = HttpRetriever(url, retries=9, backoff_s=30, max_backoff_s=30, timeout_s=600, cache_queries=cache_queries)
    said: list[str] = []

    def ask() -> None:
        with pytest.raises(RuntimeError, match="closed") as ended:
            remote.search(["a"], 1)
        said.append(str(ended.value))

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    remote.close()
    for thread in threads:
        thread.join(10)
    assert len(said) == 3, "a thread still waits for the pause of a client that is closed"


def test_a_call_that_is_being_answered_ends_too(start: Start) -> None:
    running = start()
    remote = HttpRetriever(running.url)
    said: list[str] = []

    def ask() -> None:
        with pytest.raises(RuntimeError, match="closed while it waited") as ended:
            remote.search(["sleep:2"], 1)
        said.append(str(ended.value))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    while not running.retriever.batches:
        time.sleep(0.01)
    remote.close()
    thread.join(1.5)
    assert said


async def test_it_is_opened_and_closed_inside_a_coroutine(start: Start) -> None:
    with HttpRetriever("http://127.0.0.1:9", cache_queries=5):
        pass
    with HttpRetriever(start().url) as remote:
        assert remote.search(["a"], 1) == [FAKE.expected("a", 1)]
