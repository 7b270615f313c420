"""More callers than connections, and answers without an end: the client is as good afterwards as it was before."""

import asyncio
import gzip
import time
from collections.abc import Callable
from typing import Any

import pytest

from retrieval.client import AsyncHttpRetriever, HttpRetriever
from retrieval.client.answer import GarbledAnswer
from retrieval.client.pool import NoTurn
from retrieval.retriever import RetrievalError
from tests.retrieval.client.counting_server import Counting, counting
from tests.retrieval.client.scripted_server import FAKE, Scripted, answer, http

MOST = 4


def client(server: Counting, **options: Any) -> AsyncHttpRetriever:
    return AsyncHttpRetriever(server.url, max_connections=MOST, **{"breaker_failures": 0, "timeout_s": 3.0} | options)


async def all_is_well(server: Counting, remote: AsyncHttpRetriever) -> None:
    """Every search is answered, over connections that are kept, and no other connection is left."""
    server.slow_s = server.under_way = server.most_under_way = 0
    for _ in range(20):
        assert len(await remote.search("z", 1)) == 1
    await asyncio.gather(*(remote.search("z", 1) for _ in range(10 * MOST)))
    assert server.most_under_way <= MOST
    await asyncio.sleep(0.05)
    assert server.connections <= MOST


async def test_a_server_that_was_slow_once_is_searched_as_before() -> None:
    async with counting() as server, client(server, attempt_timeout_s=0.2, timeout_s=0.5, retries=2) as remote:
        for _ in range(2):
            server.slow_s = 1.0

            async def one(i: int) -> None:
                await asyncio.sleep(0.001 * i)  # so that some have their turn as their time ends
                await remote.search(f"q{i}", 1)

            failed = await asyncio.gather(*map(one, range(80)), return_exceptions=True)
            assert {type(error) for error in failed} <= {RetrievalError, NoTurn}
            await all_is_well(server, remote)


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.1])
async def test_callers_that_leave_take_no_connection_with_them(after_s: float) -> None:
    async with counting() as server, client(server) as remote:
        server.slow_s = 1.0
        for i in range(3):
            callers = [asyncio.create_task(remote.search(f"{i} {j}", 1)) for j in range(40)]
            await asyncio.sleep(after_s)
            for caller in callers:
                caller.cancel()
                if i == 2:
                    await asyncio.sleep(0)
            await asyncio.gather(*callers, return_exceptions=True)
        await all_is_well(server, remote)


async def test_who_waits_for_a_turn_keeps_to_the_deadline_and_is_told_what_was_lacking() -> None:
    async with counting() as server, client(server, timeout_s=10) as remote:
        server.slow_s = 30.0
        busy = [asyncio.create_task(remote.search("a", 1)) for _ in range(MOST)]
        await asyncio.sleep(0.1)
        started = time.perf_counter()
        with pytest.raises(RetrievalError, match=r"none of 4 connections was free within 0\.3 s; .* max_connections"):
            await remote._server._pool.request("GET", "/health", None, limit_s=30, until=time.monotonic() + 0.3)
        assert 0.2 < time.perf_counter() - started < 2
        for one in busy:
            one.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        await all_is_well(server, remote)


async def test_the_wait_for_a_turn_takes_nothing_from_the_time_of_an_attempt() -> None:
    async with counting() as server, client(server, timeout_s=30, attempt_timeout_s=0.5, retries=0) as remote:
        server.slow_s = 0.2
        callers = [remote.search(f"q{i}", 1) for i in range(6 * MOST)]  # the last ones wait for five answers
        assert all(len(hits) == 1 for hits in await asyncio.gather(*callers))
        assert server.asked["/retrieve"] == 6 * MOST, "nothing is sent, cut off and sent again"
        assert server.connections <= MOST


async def test_who_had_an_attempt_and_then_no_turn_is_told_both() -> None:
    options = {"timeout_s": 1.5, "attempt_timeout_s": 0.2, "retries": 1, "backoff_s": 0.3}
    async with counting() as server, client(server, **options) as remote:
        server.slow_s = 30.0
        caller = asyncio.create_task(remote.search("a", 1))
        while not server.under_way:
            await asyncio.sleep(0.005)
        for _ in range(MOST):
            await remote._server._pool._turn.acquire()
        with pytest.raises(
            RetrievalError, match=r"failed after 1 attempt in .*no whole answer.*; then none of 4"
        ) as said:
            await caller
        assert type(said.value) is RetrievalError, "the server was asked, and did not answer"


async def test_waiting_in_ones_own_queue_does_not_open_the_circuit() -> None:
    async with counting() as server, client(server, timeout_s=0.5, retries=0, breaker_failures=1) as remote:
        for _ in range(MOST):
            await remote._server._pool._turn.acquire()
        calls = [lambda: remote.search("a", 1), lambda: remote.search_many(["a", "b"], 1), lambda: remote.get("a")]
        for call in [*calls, remote.health]:  # a call of many asks for the limits first
            with pytest.raises(NoTurn, match=r"none of 4 connections was free|no connection was free"):
                await call()
        assert not server.asked
        for _ in range(MOST):
            remote._server._pool._turn.release()
        assert len(await remote.search("a", 1)) == 1


async def test_one_connection_is_enough_for_one_after_the_other() -> None:
    async with counting() as server, client(server) as remote:
        for _ in range(5):
            await remote.search("a", 1)
        assert server.connections == 1
    with pytest.raises(RuntimeError, match="closed"):
        await remote.search("a", 1)


ENDLESS = b"HTTP/1.1 %b\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b" " * 0x10000 + b"\r\n") * 400


@pytest.mark.parametrize(
    "content", [ENDLESS % b"200 OK", http("200 OK", b" " * (26 << 20))], ids=["no end", "announced"]
)
def test_an_answer_without_an_end_is_not_read_to_it(scripted: Callable[..., Scripted], content: bytes) -> None:
    other = scripted(content, answer("a"))
    with HttpRetriever(other.url, max_answer_bytes=1_000_000, timeout_s=20) as remote:
        with pytest.raises(
            GarbledAnswer, match=r"POST http.*: the answer is larger than 1,000,000 bytes; .*max_queries"
        ):
            remote.search(["a"], 1)
        assert len(other.asked) == 1, "another attempt would bring as much"
        assert remote.search(["a"], 1) == [FAKE.expected("a", 1)]


def test_a_refusal_without_an_end_is_a_refusal(scripted: Callable[..., Scripted]) -> None:
    other = scripted(ENDLESS % b"422 No")
    with HttpRetriever(other.url, max_answer_bytes=100) as remote, pytest.raises(ValueError, match=r"422 No:  +$"):
        remote.search(["a"], 1)


def test_a_refusal_that_announces_much_is_told_by_its_start(scripted: Callable[..., Scripted]) -> None:
    other = scripted(http("500 Internal Server Error", b"Traceback: the disk is gone" + b" " * (1 << 20)))
    with HttpRetriever(other.url) as remote, pytest.raises(RetrievalError, match=r"500 Internal .*the disk is gone"):
        remote.search(["a"], 1)


def test_an_answer_that_is_as_large_as_allowed_is_read(scripted: Callable[..., Scripted]) -> None:
    size = len(answer("a").partition(b"\r\n\r\n")[2])
    other = scripted(answer("a"))
    with HttpRetriever(other.url, max_answer_bytes=size) as remote:
        assert remote.search(["a"], 1) == [FAKE.expected("a", 1)]
    with HttpRetriever(other.url, max_answer_bytes=size - 1) as remote, pytest.raises(GarbledAnswer):
        remote.search(["a"], 1)
    with pytest.raises(ValueError, match="max_answer_bytes is 0; it must be at least 1"):
        HttpRetriever(other.url, max_answer_bytes=0)


def test_a_packed_answer_is_not_unpacked(scripted: Callable[..., Scripted]) -> None:
    bomb = http("200 OK", gzip.compress(b" " * (64 << 20)), "content-encoding: gzip")
    other = scripted(bomb)
    with HttpRetriever(other.url, retries=0) as remote, pytest.raises(RetrievalError, match="packed as gzip"):
        remote.search(["a"], 1)
