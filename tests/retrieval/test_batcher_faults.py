"""Searches that fail, hang or are refused: who gets which error, and that nobody else is held up."""

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import pytest

from retrieval.batcher import MicroBatcher
from retrieval.request import RequestError
from retrieval.retriever import RetrievalError
from tests.retrieval.echo_retriever import EchoRetriever, ids


async def test_an_empty_query_fails_its_own_caller_only() -> None:
    batcher = MicroBatcher(EchoRetriever(), backoff_s=10)
    started = time.perf_counter()
    answers = await asyncio.gather(*(batcher.search(q, 1) for q in ("a", "", "b")), return_exceptions=True)
    assert isinstance(answers[1], RequestError) and "empty" in str(answers[1])
    assert ids(answers[0]) == ["a"] and ids(answers[2]) == ["b"]
    assert time.perf_counter() - started < 5, "a refusal is no outage: nothing to wait for"


async def test_a_query_that_crashes_the_retriever_fails_its_own_caller_only() -> None:
    def before(queries: Sequence[str]) -> None:
        if "poison" in queries:
            raise OSError("connection reset")

    batcher = MicroBatcher(EchoRetriever(before), retries=1, backoff_s=0.001)
    answers = await asyncio.gather(*(batcher.search(q, 1) for q in ("a", "poison", "b")), return_exceptions=True)
    assert ids(answers[0]) == ["a"] and ids(answers[2]) == ["b"]
    assert isinstance(answers[1], RetrievalError) and isinstance(answers[1].__cause__, OSError)
    assert "'poison' failed 3 times; the last error was: OSError('connection reset')" in str(answers[1])


async def test_an_outage_that_ends_is_survived() -> None:
    failures = iter([True, True, False])
    outcomes: list[str] = []

    def before(queries: Sequence[str]) -> None:
        if next(failures):
            raise ConnectionError("down")

    batcher = MicroBatcher(
        EchoRetriever(before),
        retries=2,
        backoff_s=0.001,
        on_batch=lambda size, seconds, outcome: outcomes.append(outcome),
    )
    assert ids(await batcher.search("q", 1)) == ["q"]
    assert outcomes == ["failed", "failed", "answered"]


async def test_a_retriever_that_hangs_ends_in_a_typed_error_within_the_deadline() -> None:
    release = threading.Event()
    outcomes: list[str] = []
    batcher = MicroBatcher(
        EchoRetriever(lambda queries: release.wait(20) and None),
        timeout_s=0.05,
        retries=1,
        on_batch=lambda size, seconds, outcome: outcomes.append(outcome),
    )
    started = time.perf_counter()
    with pytest.raises(RetrievalError):
        await batcher.search("q", 1)
    release.set()
    assert time.perf_counter() - started <= batcher.deadline_s + 0.5
    assert outcomes and set(outcomes) == {"timed_out"}


async def test_a_query_that_hangs_takes_no_other_down_with_it() -> None:
    release = threading.Event()

    def before(queries: Sequence[str]) -> None:
        if "slow" in queries:
            release.wait(20)

    batcher = MicroBatcher(EchoRetriever(before), timeout_s=0.4, retries=2, backoff_s=0.001)
    queries = ["a", "slow", "b", "c"]
    answers = await asyncio.gather(*(batcher.search(q, 1) for q in queries), return_exceptions=True)
    release.set()
    assert isinstance(answers[1], RetrievalError)
    assert [ids(answers[i]) for i in (0, 2, 3)] == [["a"], ["b"], ["c"]]


async def test_queries_that_wait_for_a_slot_are_bounded_too() -> None:
    release = threading.Event()
    retriever = EchoRetriever(lambda queries: release.wait(20) and None)
    batcher = MicroBatcher(retriever, max_batch=1, max_in_flight=1, timeout_s=0.1, retries=0)
    started = time.perf_counter()
    answers = await asyncio.gather(*(batcher.search(f"q{i}", 1) for i in range(30)), return_exceptions=True)
    release.set()
    assert all(isinstance(answer, RetrievalError) for answer in answers)
    assert time.perf_counter() - started < 1


async def test_a_retriever_that_loses_answers_is_found_out() -> None:
    retriever = EchoRetriever()
    retriever.search = lambda queries, k: []  # type: ignore[method-assign]
    batcher = MicroBatcher(retriever, retries=0)
    with pytest.raises(RetrievalError, match="returned 0 lists for 1 queries"):
        await batcher.search("q", 1)


async def test_one_bad_query_of_a_hundred_costs_a_few_searches_and_holds_up_nobody() -> None:
    def before(queries: Sequence[str]) -> None:
        time.sleep(0.02)
        if "bad" in queries:
            raise OSError("unreadable")

    retriever = EchoRetriever(before)
    batcher = MicroBatcher(retriever, max_in_flight=1, retries=1, backoff_s=0.001, window_s=0.01)

    async def wait_of(query: str, after_s: float = 0.0) -> float:
        await asyncio.sleep(after_s)
        started = time.perf_counter()
        with suppress(RetrievalError):
            assert ids(await batcher.search(query, 1)) == [query]
        return time.perf_counter() - started

    bad = [wait_of("bad" if i == 50 else f"q{i}") for i in range(100)]
    *_, later = await asyncio.gather(*bad, wait_of("later", 0.1))
    assert len(retriever.batches) <= 18, "a hundred and one, searched in halves: 1 + 2 * 7, and the later one"
    position = next(i for i, batch in enumerate(retriever.batches) if "later" in batch)
    assert position < len(retriever.batches) - 1, "what was asked meanwhile does not wait for all halves"
    assert later < 0.3


async def test_an_error_of_the_retrievers_own_is_no_fault_of_the_caller() -> None:
    def before(queries: Sequence[str]) -> None:
        raise ValueError("operands could not be broadcast together")

    batcher = MicroBatcher(EchoRetriever(before), retries=1, backoff_s=0.001)
    with pytest.raises(RetrievalError, match=r"'q' failed 2 times; .*could not be broadcast"):
        await batcher.search("q", 1)


class Panic(BaseException):
    """What a library written in Rust raises when it panics."""


@pytest.mark.parametrize("raised", [Panic("index out of bounds"), SystemExit(3), StopIteration()])
async def test_what_is_no_exception_ends_in_a_typed_error_at_once(raised: BaseException) -> None:
    def before(queries: Sequence[str]) -> None:
        if "panic" in queries:
            raise raised

    batcher = MicroBatcher(EchoRetriever(before), retries=0, timeout_s=10)
    started = time.perf_counter()
    with pytest.raises(RetrievalError, match=type(raised).__name__):
        await batcher.search("panic", 1)
    assert time.perf_counter() - started < 2
    assert ids(await batcher.search("q", 1)) == ["q"]


async def test_a_deadline_bounds_all_attempts_together() -> None:
    release = threading.Event()
    retriever = EchoRetriever(lambda queries: release.wait(20) and None)
    batcher = MicroBatcher(retriever, timeout_s=0.2, retries=3, backoff_s=0.001, deadline_s=0.2)
    started = time.perf_counter()
    with pytest.raises(RetrievalError, match=r"within 0\.2 s"):
        await batcher.search("q", 1)
    assert time.perf_counter() - started < 0.35
    await asyncio.sleep(0.1)
    release.set()
    assert retriever.batches == [["q"]], "nobody waits for another attempt"
