"""What is known of a server: asked for once by all who need it, and never that of before a change."""

import asyncio
import time

import pytest

from retrieval.client import AsyncHttpRetriever
from retrieval.client.health import ServerHealth
from retrieval.client.query_cache import MemoryCache
from retrieval.retriever import RetrievalError
from tests.retrieval.client.counting_server import Counting, counting


async def many(remote: AsyncHttpRetriever, num_queries: int) -> None:
    await asyncio.gather(*(remote.search_many([f"{i} {j}" for j in range(num_queries)], 1) for i in range(50)))


async def test_those_who_ask_at_once_share_one_health(monkeypatch: pytest.MonkeyPatch) -> None:
    async with counting() as server:
        server.slow_s = 0.02
        async with AsyncHttpRetriever(server.url) as remote:
            await many(remote, 2)
        assert server.asked == {"/health": 1, "/retrieve": 50}
        server.asked.clear()
        async with AsyncHttpRetriever(server.url, cache=MemoryCache(1000)) as remote:
            await many(remote, 1)
            monkeypatch.setattr("retrieval.client.health.BELIEVED_S", 0.0)
            await many(remote, 1)
        assert server.asked == {"/health": 2, "/retrieve": 50}, "the second time all is in the cache"


async def test_each_waits_until_its_own_deadline_and_the_others_go_on() -> None:
    async with counting() as server, AsyncHttpRetriever(server.url, timeout_s=5) as remote:
        server.slow_s = 0.4
        now = time.monotonic()
        patient = [asyncio.create_task(remote._health.asked_once(now + 5)) for _ in range(3)]
        leaving = asyncio.create_task(remote._health.asked_once(now + 5))
        await asyncio.sleep(0)
        with pytest.raises(RetrievalError, match=r"GET http.*/health: no answer before the deadline"):
            await remote._health.asked_once(now + 0.1)
        assert time.monotonic() - now < 0.35
        leaving.cancel()
        assert [(await one)["num_passages"] for one in patient] == [5, 5, 5]
        assert server.asked == {"/health": 1}


async def test_nobody_waits_for_what_nobody_wants() -> None:
    async with counting() as server, AsyncHttpRetriever(server.url) as remote:
        server.slow_s = 30.0
        callers = [asyncio.create_task(remote._health.asked_once(time.monotonic() + 30)) for _ in range(3)]
        await asyncio.sleep(0.1)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks() - {asyncio.current_task()}) == server.connections == 0
        server.slow_s = 0.0
        assert (await remote._health.asked_once(time.monotonic() + 5))["num_passages"] == 5


async def test_a_request_of_before_a_call_does_not_fail_it() -> None:
    async with counting() as server, AsyncHttpRetriever(server.url, retries=0, timeout_s=0.5) as remote:
        server.slow_s = 30.0
        early = asyncio.create_task(remote._health.asked_once(time.monotonic() + 10))
        await asyncio.sleep(0.3)
        late = asyncio.create_task(remote._health.asked_once(time.monotonic() + 10))
        server.slow_s = 0.0
        with pytest.raises(RetrievalError, match="no whole answer"):
            await early
        assert (await late)["num_passages"] == 5


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_late_answer_of_the_index_before_is_not_believed() -> None:
    clock = Clock()
    health = ServerHealth(None, clock)  # type: ignore[arg-type]  # it is not asked
    health.heard("old", sent_at=0.0)
    clock.now = 2.0
    health.heard("new", sent_at=1.5)
    assert health.source == "new" and health.is_believed
    clock.now = 2.1
    health.heard("old", sent_at=1.4)
    assert health.source == "new"
    assert not health.is_believed, "which of the two is served is to be asked"
    health.heard("new", sent_at=1.3)
    assert health.is_believed
    health.heard("newest", sent_at=2.05)
    assert health.source == "newest" and health.is_believed


async def test_a_late_answer_turns_nothing_back() -> None:
    async with counting() as server, AsyncHttpRetriever(server.url, cache=MemoryCache(100)) as remote:
        await remote.search("a", 1)
        server.slow_s = 0.2
        late = asyncio.create_task(remote.search("b", 1))
        await until(server, 3)
        server.slow_s, server.identity = 0.0, "new"
        assert (await remote.search("c", 1))[0].passage.id == "new"
        await late
        assert (await remote.search("a", 1))[0].passage.id == "new", "the old one's answer was in the cache"


async def until(server: Counting, requests: int) -> None:
    while server.asked.total() < requests:
        await asyncio.sleep(0.005)
