"""Large calls beside small ones: who is in the next batch, and that every query is searched once, for its own call."""

import asyncio
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.batch_queue import BatchQueue, Call
from retrieval.batcher import MicroBatcher
from retrieval.retriever import RetrievalError
from tests.retrieval.echo_retriever import EchoRetriever, ids


class OneByOne(EchoRetriever):
    """Searches a batch whenever it is told to."""

    def __init__(self) -> None:
        self.turns = threading.Semaphore(0)
        super().__init__(self._wait)

    def _wait(self, queries: Sequence[str]) -> None:
        assert self.turns.acquire(timeout=20)

    async def until(self, num_batches: int) -> None:
        while len(self.batches) < num_batches:
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("prefix_depth", [None, 0])
async def test_a_single_query_beside_three_calls_of_a_thousand_is_in_the_next_batch(prefix_depth: int | None) -> None:
    retriever = OneByOne()
    retriever.prefix_depth = prefix_depth
    batcher = MicroBatcher(retriever, max_in_flight=1, max_batch=256)
    large = [asyncio.create_task(batcher.search_many([f"{i}.{j}" for j in range(1024)], 3)) for i in range(3)]
    await retriever.until(1)
    small = asyncio.create_task(batcher.search("one", 3))
    await asyncio.sleep(0.01)
    retriever.turns.release()
    await retriever.until(2)
    assert "one" in retriever.batches[1], "its window, and the batch that was under way"
    retriever.turns.release(100)
    assert ids(await small) == ["one"] * 3
    for i, answers in enumerate(await asyncio.gather(*large)):
        assert [ids(hits) for hits in answers] == [[f"{i}.{j}"] * 3 for j in range(1024)]
    assert len(retriever.batches) == 13, "3,073 queries, and each batch but the last is full"


async def test_a_depth_that_cannot_go_with_the_oldest_call_waits_for_one_batch_of_it() -> None:
    retriever = OneByOne()
    retriever.prefix_depth = 0
    batcher = MicroBatcher(retriever, max_in_flight=1, max_batch=256)
    large = asyncio.create_task(batcher.search_many([f"q{j}" for j in range(4096)], 10))
    await retriever.until(1)
    small = asyncio.create_task(batcher.search("one", 3))
    await asyncio.sleep(0.01)
    retriever.turns.release(2)
    await retriever.until(3)
    assert ["one"] in retriever.batches[1:3]
    retriever.turns.release(100)
    assert ids(await small) == ["one"] * 3 and len(await large) == 4096


async def test_what_is_left_of_a_call_that_failed_is_not_searched() -> None:
    def before(queries: Sequence[str]) -> None:
        if "q0" in queries:
            raise OSError("gone")

    retriever = EchoRetriever(before)
    batcher = MicroBatcher(retriever, max_in_flight=1, max_batch=4, retries=0)
    with pytest.raises(RetrievalError, match="gone"):
        await batcher.search_many([f"q{i}" for i in range(40)], 1)
    assert batcher.waiting == 0
    await batcher.close()
    assert len(retriever.batches) <= 2


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=24), max_batch=st.integers(1, 16))
def test_small_calls_are_in_the_next_batch_and_no_room_is_wasted(sizes: list[int], max_batch: int) -> None:
    loop = asyncio.new_event_loop()
    calls = [Call([f"{i}.{j}" for j in range(size)], 3, loop.create_future()) for i, size in enumerate(sizes)]
    queue = BatchQueue()
    for call in calls:
        queue.add(call)
    queue.close_window()
    sent: list[str] = []
    while queue:
        waiting, before = list(queue.waiting), len(sent)
        share = max_batch // len(waiting)
        small = [call for call in waiting if call.num_left <= share]
        batch = queue.take(max_batch)
        sent += [query for part in batch for query in part.queries]
        assert all(call.num_left == 0 for call in small)
        assert len(sent) - before == min(max_batch, sum(sizes) - before)
        for part in batch:
            part.call.found(part.start, [[] for _ in part.queries])
    assert sorted(sent) == sorted(query for call in calls for query in call.queries)
    assert queue.num_queries == 0 and all(call.answer.done() for call in calls)
    loop.close()
