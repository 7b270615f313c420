"""One client while the index behind its address is replaced: never an answer of the old one for the new one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.client import HttpRetriever
from retrieval.identity import IDENTITY_HEADER
from retrieval.passage import Passage
from tests.retrieval.server.fakes import FakeRetriever
from tests.retrieval.server.running import Running, Start

OLD = FakeRetriever()


def changed() -> FakeRetriever:
    """Another index of as many passages."""
    new = FakeRetriever()
    new.identity = {**new.identity, "index_hash": "another"}
    new.corpus = [Passage(id=p.id, title=p.title, text=f"new {p.text}") for p in new.corpus]
    return new


def replaced(start: Start, running: Running, retriever: FakeRetriever) -> Running:
    """A server of `retriever` at the address of `running`, which stops."""
    running.stop()
    return start(retriever, port=int(running.url.rsplit(":", 1)[1]))


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_answers_of_a_replaced_index_are_forgotten(start: Start, tmp_path: Path, on_disk: bool) -> None:
    options: dict[str, Any] = {"cache_folder": tmp_path / "cache"} if on_disk else {"cache_queries": 100}
    running, new = start(), changed()
    with HttpRetriever(running.url, **options) as remote:
        assert remote.search(["a", "bb"], 1) == [OLD.expected("a", 1), OLD.expected("bb", 1)]
        assert remote.identity["index_hash"] == "abc"
        running = replaced(start, running, new)
        expected = [new.expected("a", 1), new.expected("ccc", 1)]
        assert remote.search(["a", "ccc"], 1) == expected, "what was kept of the old is not mixed with the new"
        assert remote.search(["bb"], 1) == [new.expected("bb", 1)]
        assert remote.identity["index_hash"] == "another"
        assert (remote.cache_stats.hits, remote.cache_stats.misses) == (0, 5)
        assert remote.search(["a", "bb", "ccc"], 1) == [new.expected(query, 1) for query in ("a", "bb", "ccc")]
        assert remote.cache_stats.hits == 3
    if on_disk:
        running = replaced(start, running, FakeRetriever())
        with HttpRetriever(running.url, **options) as again:
            assert again.search(["a", "ccc"], 1) == [OLD.expected("a", 1), OLD.expected("ccc", 1)], "poisoned"


def test_an_answer_from_the_cache_alone_is_of_the_index_of_now(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.client.health.BELIEVED_S", 0.0)
    running, new = start(), changed()
    with HttpRetriever(running.url, cache_queries=100) as remote:
        assert remote.search(["a"], 1) == remote.search(["a"], 1) == [OLD.expected("a", 1)]
        assert remote.cache_stats.hits == 1 and remote.identity["index_hash"] == "abc"
        replaced(start, running, new)
        assert remote.search(["a"], 1) == [new.expected("a", 1)]
        assert remote.identity["index_hash"] == "another"


def test_other_settings_of_a_search_are_another_index(start: Start) -> None:
    running, new = start(), changed()
    new.identity = {**OLD.identity, "settings": {"encoder": "tiny", "nprobe": 64}}
    with HttpRetriever(running.url, cache_queries=100) as remote:
        remote.search(["a"], 1)
        replaced(start, running, new)
        assert remote.search(["b", "a"], 1) == [new.expected("b", 1), new.expected("a", 1)]


def test_every_answer_says_what_gave_it(start: Start) -> None:
    first, second = start(), start(changed())
    said = [
        {
            server.post("/retrieve", json={"query": "a"}).headers[IDENTITY_HEADER],
            server.post("/retrieve", json={"query": "a", "top_k": 1}).headers[IDENTITY_HEADER],
            server.post("/retrieve", json={"queries": ["a"]}).headers[IDENTITY_HEADER],
            server.post("/access", json={"id": "p1"}).headers[IDENTITY_HEADER],
            server.get("/health").headers[IDENTITY_HEADER],
        }
        for server in (first, second)
    ]
    assert [len(hashes) for hashes in said] == [1, 1] and said[0] != said[1]


@pytest.mark.parametrize("cache_queries", [0, 10])
def test_a_depth_of_numpy_is_a_depth(server: Running, cache_queries: int) -> None:
    with HttpRetriever(server.url, cache_queries=cache_queries) as remote:
        for _ in range(2):
            assert remote.search(["a", "bb"], np.int64(2)) == [OLD.expected("a", 2), OLD.expected("bb", 2)]  # type: ignore[arg-type]
