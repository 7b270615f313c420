"""The client against the real server: what takes an index takes a server."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from retrieval.batcher import MicroBatcher
from retrieval.client import AsyncHttpRetriever, HttpRetriever
from retrieval.passage import Hit
from retrieval.request import RequestError
from retrieval.retriever import RetrievalError, Retriever
from tests.retrieval.server.fakes import FakeRetriever
from tests.retrieval.server.running import Running, Start

FAKE = FakeRetriever()


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
        (
            ["a"],
            21,
            r"^POST http://\S+/retrieve: 422 Unprocessable \w+: k is 21; ask for 1 to 20 hits "
            r"\(the corpus has 20 passages\)$",
        ),
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
    with HttpRetriever(server.url) as remote, pytest.raises(RequestError, match=message) as refused:
        remote.search(queries, k)
    assert not isinstance(refused.value, RetrievalError)


async def test_many_queries_are_sent_in_several_requests_and_come_back_in_order(start: Start) -> None:
    queries = ["q" * (1 + i % 50) for i in range(500)]
    running = start(max_queries=64)
    async with AsyncHttpRetriever(running.url, max_queries=60) as remote:
        assert await remote.search_many(queries, 3) == [FAKE.expected(query, 3) for query in queries]
        assert await remote.search("ab", 2) == FAKE.expected("ab", 2)
        with pytest.raises(ValueError, match="not this one"):
            await remote.search_many([*queries, "refuse"], 1)


async def test_a_micro_batcher_over_a_server_makes_one_request_of_many_searches(server: Running) -> None:
    sizes: list[int] = []
    with HttpRetriever(server.url) as remote:
        async with MicroBatcher(remote, on_batch=lambda size, seconds, outcome: sizes.append(size)) as batcher:
            found = await asyncio.gather(*(batcher.search("q" * (i + 1), 2) for i in range(40)))
            assert found == [FAKE.expected("q" * (i + 1), 2) for i in range(40)]
            assert sizes == [40]


def test_a_token_is_sent_and_a_wrong_one_is_shown(start: Start) -> None:
    running = start(token="secret")
    with HttpRetriever(running.url, token="secret") as remote:
        assert len(remote.search(["a"], 2)[0]) == 2
    with HttpRetriever(running.url, token="wrong") as remote, pytest.raises(RetrievalError) as failed:
        remote.search(["a"], 2)
    assert "401 Unauthorized" in str(failed.value) and "the token is wrong" in str(failed.value)


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
