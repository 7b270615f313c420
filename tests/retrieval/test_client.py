"""The client against the real server, and against servers that misbehave as they are told to."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from retrieval.batcher import MicroBatcher
from retrieval.client import AsyncHttpRetriever, CircuitOpen, HttpRetriever
from retrieval.passage import Hit
from retrieval.retriever import RetrievalError, Retriever
from tests.retrieval.server.fakes import FakeRetriever
from tests.retrieval.server.running import Running, Start

FAKE = FakeRetriever()
QUICK: dict[str, Any] = {"backoff_s": 0.01, "max_backoff_s": 0.02, "timeout_s": 5}


def http(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def answer(*queries: str, k: int = 1) -> bytes:
    lists = [
        [
            {"document": {"id": h.passage.id, "title": h.passage.title, "text": h.passage.text}, "score": h.score}
            for h in FAKE.expected(query, k)
        ]
        for query in queries
    ]
    return http("200 OK", json.dumps({"result": lists}).encode())


class Scripted:
    """A server that answers one connection after the other with the bytes it was given; the last ones go on."""

    def __init__(self, *answers: bytes, pause_s: float = 0.0) -> None:
        self._answers = list(answers)
        self._pause_s = pause_s
        self.asked: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                request = connection.recv(65_536)
                head, _, body = request.partition(b"\r\n\r\n")
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                while length and len(body) < int(length[0].split(b":")[1]):
                    body += connection.recv(65_536)
                self.asked.append(head.split(b"\r\n")[0])
                content = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
                try:
                    for start in range(0, len(content), 50) if self._pause_s else [0]:
                        connection.sendall(content[start : start + 50] if self._pause_s else content)
                        time.sleep(self._pause_s)
                except OSError:
                    pass


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    servers: list[Scripted] = []

    def make(*answers: bytes, **options: float) -> Scripted:
        servers.append(Scripted(*answers, **options))
        return servers[-1]

    yield make
    for one in servers:
        one.close()


def test_a_server_is_a_retriever_like_the_one_it_serves(server: Running) -> None:
    with HttpRetriever(server.url) as remote:
        assert isinstance(remote, Retriever)
        for count in (0, 1, 2, 3, 20):
            queries = ["é" * (i + 1) for i in range(count)]
            assert remote.search(queries, 5) == [FAKE.expected(query, 5) for query in queries]
        assert remote.search(["unknown"], 3) == [[]]
        assert remote.num_passages == 20
        assert remote.identity == FAKE.identity
        assert remote.get("p3") == FAKE.get("p3")
        assert "p3" in remote and "nope" not in remote and 3 not in remote and " " not in remote
        with pytest.raises(KeyError):
            remote.get("nope")


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        (["a"], 0, "k is 0"),
        (["a"], 21, "k is 21; ask for 1 to 20 hits"),
        (["a", ""], 1, "query 1 is empty"),
        ([3], 1, "query 0 is a int"),
        ("one", 1, "single string"),
        (["\ud800"], 1, "surrogate"),
        (["a" * 10_000], 1, "422 .*10000 characters"),
        (["refuse"], 1, "not this one"),
    ],
)
def test_what_is_refused_in_process_is_a_value_error_here_too(
    server: Running,
    queries: Any,
    k: int,
    message: str,
) -> None:
    with HttpRetriever(server.url) as remote, pytest.raises(ValueError, match=message):
        remote.search(queries, k)


async def test_many_queries_are_sent_in_several_requests_and_come_back_in_order(start: Start) -> None:
    queries = ["q" * (1 + i % 50) for i in range(500)]
    running = start(max_queries=64)
    async with AsyncHttpRetriever(running.url, max_queries=60) as remote:
        assert await remote.search_many(queries, 3) == [FAKE.expected(query, 3) for query in queries]
        assert await remote.search("ab", 2) == FAKE.expected("ab", 2)
        with pytest.raises(ValueError, match="not this one"):
            await remote.search_many([*queries, "refuse"], 1)


async def test_a_micro_batcher_over_a_server_makes_one_request_of_many_searches(server: Running) -> None:
    with HttpRetriever(server.url) as remote:
        async with MicroBatcher(remote) as batcher:
            found = await asyncio.gather(*(batcher.search("q" * (i + 1), 2) for i in range(40)))
            assert found == [FAKE.expected("q" * (i + 1), 2) for i in range(40)]
            assert batcher.stats.batches == 1


def test_a_token_is_sent_and_a_wrong_one_is_shown(start: Start) -> None:
    running = start(token="secret")
    with HttpRetriever(running.url, token="secret") as remote:
        assert len(remote.search(["a"], 2)[0]) == 2
    with HttpRetriever(running.url, token="wrong") as remote, pytest.raises(RetrievalError) as failed:
        remote.search(["a"], 2)
    assert "401 Unauthorized" in str(failed.value) and "the token is wrong" in str(failed.value)


@pytest.mark.parametrize(
    "first",
    [
        http("503 Service Unavailable", b'{"error":"busy"}'),
        http("502 Bad Gateway", b"<html>"),
        http("429 Too Many Requests", b""),
        http("200 OK", b'{"result": [[{"docu'),
        answer("abc")[:150],
        b"",
        b"nonsense\r\n\r\n",
    ],
    ids=["503", "502", "429", "no JSON", "cut", "closed", "no HTTP"],
)
def test_what_may_pass_is_tried_again(scripted: Callable[..., Scripted], first: bytes) -> None:
    other = scripted(first, first, answer("abc"))
    with HttpRetriever(other.url, retries=2, **QUICK) as remote:
        assert remote.search(["abc"], 1) == [FAKE.expected("abc", 1)]
    assert len(other.asked) == 3


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (
            http("500 Internal Server Error", b"boom <html>"),
            RetrievalError,
            "POST http://.*: 500 Internal.*boom <html>",
        ),
        (http("404 Not Found", b"no such route"), RetrievalError, "404 Not Found: no such route"),
        (http("307 Temporary Redirect", b"", "location: /x"), RetrievalError, "307"),
        (http("422 Unprocessable", b'{"error":"k is 9"}'), ValueError, "422 .*k is 9"),
        (http("413 Too Large", b"big"), ValueError, "413 Too Large: big"),
        (answer("abc", "abc"), RetrievalError, "answered 1 queries with 2 lists"),
        (answer(), RetrievalError, "answered 1 queries with 0 lists"),
        (answer("abc", k=2), RetrievalError, "a query for 1 hits with 2"),
        (http("200 OK", b"[]"), RetrievalError, 'no "result"'),
        (http("200 OK", b'{"result": [7]}'), RetrievalError, 'no "result" with a list'),
        (http("200 OK", b'{"result": [["x"]]}'), RetrievalError, "a hit has no score"),
        (http("200 OK", b'{"result": [[{"document": {"id": 1}, "score": 1}]]}'), RetrievalError, "neither"),
        (
            http("200 OK", b'{"result": [[{"document": {"id": "1", "text": "t"}, "score": NaN}]]}'),
            RetrievalError,
            "no score",
        ),
    ],
)
def test_what_another_attempt_would_repeat_is_not_tried_again(
    scripted: Callable[..., Scripted], content: bytes, error: type[Exception], message: str
) -> None:
    other = scripted(content)
    with HttpRetriever(other.url, **QUICK) as remote, pytest.raises(error, match=message):
        remote.search(["abc"], 1)
    assert len(other.asked) == 1


def test_the_error_shows_attempts_status_and_body(scripted: Callable[..., Scripted]) -> None:
    other = scripted(http("503 Service Unavailable", b'{"error":"4096 queries wait already"}'))
    with HttpRetriever(other.url, retries=2, **QUICK) as remote, pytest.raises(RetrievalError) as failed:
        remote.search(["abc"], 1)
    assert f"POST {other.url}/retrieve failed after 3 attempts" in str(failed.value)
    assert "503 Service Unavailable" in str(failed.value) and "4096 queries wait already" in str(failed.value)


def test_search_r1s_own_server_can_be_asked(scripted: Callable[..., Scripted]) -> None:
    rows = [[{"document": {"id": 7, "contents": '"Ada"\nwas a mathematician'}, "score": 2}]]
    other = scripted(http("200 OK", json.dumps({"result": rows}).encode()))
    with HttpRetriever(other.url + "/retrieve", **QUICK) as remote:
        [[hit]] = remote.search(["abc"], 1)
    assert (hit.passage.id, hit.passage.title, hit.passage.text) == ("7", "Ada", "was a mathematician")
    assert (hit.score, hit.rank) == (2.0, 1)
    assert other.asked == [b"POST /retrieve HTTP/1.1"]


def test_retry_after_is_kept_to_and_never_beyond_the_deadline(scripted: Callable[..., Scripted]) -> None:
    busy = http("503 Service Unavailable", b"", "retry-after: 1")
    other = scripted(busy, answer("abc"))
    started = time.perf_counter()
    with HttpRetriever(other.url, **QUICK) as remote:
        remote.search(["abc"], 1)
    assert 1.0 <= time.perf_counter() - started < 3
    long = scripted(http("503 Service Unavailable", b"", "retry-after: 600"))
    started = time.perf_counter()
    with HttpRetriever(long.url, **QUICK) as remote, pytest.raises(RetrievalError, match="503"):
        remote.search(["abc"], 1)
    assert time.perf_counter() - started < 1, "a pause that ends after the deadline is not begun"


def test_an_answer_that_drips_ends_at_the_deadline(scripted: Callable[..., Scripted]) -> None:
    other = scripted(answer("abc"), pause_s=0.3)
    started = time.perf_counter()
    with (
        HttpRetriever(other.url, timeout_s=0.8, attempt_timeout_s=0.4) as remote,
        pytest.raises(RetrievalError, match=r"failed after 2 attempts in 0\.\d s: no whole answer"),
    ):
        remote.search(["abc"], 1)
    assert time.perf_counter() - started < 1.5


def test_a_server_that_is_not_there_opens_the_circuit() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with HttpRetriever(url, retries=1, breaker_failures=2, breaker_pause_s=30, **QUICK) as remote:
        for _ in range(2):
            with pytest.raises(RetrievalError, match="ConnectError"):
                remote.search(["a"], 1)
        started = time.perf_counter()
        with pytest.raises(CircuitOpen, match="failed 2 times in a row"):
            remote.search(["a"], 1)
        assert time.perf_counter() - started < 0.05


def test_the_circuit_closes_when_the_server_is_back(scripted: Callable[..., Scripted]) -> None:
    other = scripted(http("502 Bad Gateway", b""), http("502 Bad Gateway", b""), answer("a"))
    with HttpRetriever(other.url, retries=0, breaker_failures=2, breaker_pause_s=0.2, **QUICK) as remote:
        for _ in range(2):
            with pytest.raises(RetrievalError):
                remote.search(["a"], 1)
        with pytest.raises(CircuitOpen):
            remote.search(["a"], 1)
        time.sleep(0.25)
        assert remote.search(["a"], 1) == remote.search(["a"], 1) == [FAKE.expected("a", 1)]


def test_a_bad_request_does_not_open_the_circuit(server: Running) -> None:
    with HttpRetriever(server.url, breaker_failures=1) as remote:
        for _ in range(3):
            with pytest.raises(ValueError):
                remote.search(["a"], 10_000)
        assert len(remote.search(["a"], 2)[0]) == 2


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_was_asked_before_is_not_asked_again(start: Start, tmp_path: Path, on_disk: bool) -> None:
    running = start()
    options: dict[str, Any] = {"cache_folder": tmp_path / "cache"} if on_disk else {"cache_queries": 100}
    expected = [FAKE.expected(query, 2) for query in ("a", "bb", "a")]
    with HttpRetriever(running.url, **options) as remote:
        assert remote.search(["a", "bb", "a"], 2) == expected
        assert (remote.cache_stats.hits, remote.cache_stats.misses) == (0, 3)
        assert remote.search(["a", "bb", "a"], 2) == expected
        assert (remote.cache_stats.hits, remote.cache_stats.misses) == (3, 3)
        remote.search(["a"], 3)
    assert running.retriever.batches == [["a", "bb"], ["a"]], "another depth is another question"
    if on_disk:
        with HttpRetriever(running.url, **options) as again:
            assert again.search(["a", "bb", "a"], 2) == expected
        assert len(running.retriever.batches) == 2


def test_an_index_that_was_built_anew_is_not_answered_for_from_the_cache(start: Start, tmp_path: Path) -> None:
    retriever = FakeRetriever()
    running = start(retriever)
    with HttpRetriever(running.url, cache_folder=tmp_path) as remote:
        remote.search(["a"], 1)
    running.stop()
    changed = FakeRetriever()
    changed.identity = {**changed.identity, "index_hash": "another"}
    again = start(changed)
    with HttpRetriever(again.url, cache_folder=tmp_path) as remote:
        remote.search(["a"], 1)
    assert changed.batches == [["a"]]


def test_proxies_are_ignored_for_this_machine_only(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with HttpRetriever(server.url) as remote:
        assert len(remote.search(["a"], 2)[0]) == 2
    with HttpRetriever("http://192.0.2.1:80", retries=0, timeout_s=2) as remote:
        with pytest.raises(RetrievalError) as failed:
            remote.search(["a"], 2)
        assert "ConnectError" in str(failed.value), "refused by the proxy at once, not lost on the way to the address"


async def test_a_caller_that_gives_up_leaves_a_client_that_works(start: Start) -> None:
    running = start()
    async with AsyncHttpRetriever(running.url, breaker_failures=1) as remote:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await remote.search("sleep:0.4", 1)
        assert await remote.search("a", 1) == FAKE.expected("a", 1)


def test_many_threads_share_one_client(server: Running) -> None:
    found: dict[int, list[list[Hit]]] = {}
    with HttpRetriever(server.url, max_connections=4) as remote:

        def ask(i: int) -> None:
            found[i] = remote.search(["q" * (i + 1)], 2)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {i: [FAKE.expected("q" * (i + 1), 2)] for i in range(16)}


def test_a_closed_client_says_so() -> None:
    remote = HttpRetriever("http://127.0.0.1:9")
    remote.close()
    remote.close()
    with pytest.raises(RuntimeError, match="closed"):
        remote.search(["a"], 1)


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("indexes/mine", {}, "is not the URL of a server"),
        ("ftp://x", {}, "is not the URL of a server"),
        ("http://x:port", {}, "is not a URL"),
        ("http://x", {"timeout_s": 0}, "timeout_s is 0"),
        ("http://x", {"retries": -1}, "retries is -1"),
        ("http://x", {"max_connections": 0}, "max_connections is 0"),
        ("http://x", {"breaker_failures": -1}, "failures is -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(url: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HttpRetriever(url, **options)
