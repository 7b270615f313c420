"""The client against servers that misbehave as they are told to."""

import json
import socket
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from retrieval.client import CircuitOpen, HttpRetriever
from retrieval.retriever import RetrievalError
from tests.retrieval.client.scripted_server import FAKE, Scripted, answer, http

QUICK: dict[str, Any] = {"backoff_s": 0.01, "max_backoff_s": 0.02, "timeout_s": 5}


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
        http("200 OK", b"no gzip", "content-encoding: gzip"),
        http("200 OK", b"[" * 200_000),
    ],
    ids=["503", "502", "429", "no JSON", "cut", "closed", "no HTTP", "not packed", "too deep"],
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
        (http("422 Unprocessable", b'{"error":"k is 9"}'), ValueError, "422 Unprocessable: k is 9$"),
        (http("422 No", b'{"error":"k is 9","at":1}'), ValueError, '422 No: {"error":"k is 9","at":1}$'),
        (http("422 No", b'{"error":["k"]}'), ValueError, r'422 No: {"error":\["k"\]}$'),
        (http("422 No", b'{"detail":"k"}'), ValueError, '422 No: {"detail":"k"}$'),
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
        (
            http("200 OK", b'{"result": [[{"document": {"id": "1", "text": "t"}, "score": 1%b}]]}' % (b"0" * 400)),
            RetrievalError,
            "no score",
        ),
        (
            http("200 OK", b'{"result": [[{"document": {"id": "1", "text": "\\ud800"}, "score": 1}]]}'),
            RetrievalError,
            "neither",
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


@pytest.mark.parametrize("status", ["401 Unauthorized", "404 Not Found", "405 Method Not Allowed"])
def test_a_server_that_declines_is_up(scripted: Callable[..., Scripted], status: str) -> None:
    other = scripted(http(status, b""), http(status, b""), answer("a"))
    with HttpRetriever(other.url, breaker_failures=1, **QUICK) as remote:
        for _ in range(2):
            with pytest.raises(RetrievalError, match=status):
                remote.search(["a"], 1)
        assert remote.search(["a"], 1) == [FAKE.expected("a", 1)]


@pytest.mark.parametrize(
    "health",
    [http("404 Not Found", b"{}"), http("200 OK", b""), http("200 OK", b"OK"), http("200 OK", b"[1]")],
    ids=["none", "empty", "words", "a list"],
)
def test_a_server_without_a_health_of_use_can_be_cached(scripted: Callable[..., Scripted], health: bytes) -> None:
    other = scripted(health, answer("a"), answer("b", "c"), http("502 Bad Gateway", b""))
    with HttpRetriever(other.url, cache_queries=10, retries=0, breaker_failures=1, **QUICK) as remote:
        assert remote.search(["a"], 1) == [FAKE.expected("a", 1)]
        assert remote.search(["b", "c"], 1) == [FAKE.expected("b", 1), FAKE.expected("c", 1)]
        for _ in range(8):
            assert remote.search(["a", "c"], 1) == [FAKE.expected("a", 1), FAKE.expected("c", 1)]
    assert [line.split()[1] for line in other.asked] == [b"/health", b"/retrieve", b"/retrieve"]
