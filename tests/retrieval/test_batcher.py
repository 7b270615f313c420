"""What goes into one batch, when it is sent, and who gets which answer."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from retrieval.batcher import MicroBatcher
from retrieval.passage import Hit
from tests.retrieval.echo_retriever import EchoRetriever, ids


@pytest.mark.parametrize("window_s", [0.0, 0.02])
async def test_concurrent_queries_become_one_batch_and_get_their_own_answers(window_s: float) -> None:
    retriever = EchoRetriever()
    async with MicroBatcher(retriever, window_s=window_s) as batcher:
        answers = await asyncio.gather(*(batcher.search(f"q{i}", 2) for i in range(100)))
    assert [ids(hits) for hits in answers] == [[f"q{i}"] * 2 for i in range(100)]
    assert [len(batch) for batch in retriever.batches] == [100]


async def test_a_window_of_zero_waits_until_the_loop_is_idle_and_no_longer() -> None:
    retriever = EchoRetriever()
    batcher = MicroBatcher(retriever)

    async def late(rounds: int) -> None:
        for _ in range(rounds):
            await asyncio.sleep(0)
        await batcher.search(f"after {rounds}", 1)

    await asyncio.gather(*(late(rounds) for rounds in range(4)))
    assert len(retriever.batches) == 1
    started = time.perf_counter()
    await batcher.search("alone", 1)
    assert time.perf_counter() - started < 0.2


async def test_a_window_holds_the_first_query_for_company() -> None:
    retriever = EchoRetriever()
    batcher = MicroBatcher(retriever, window_s=0.1)

    async def after(pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        await batcher.search("q", 1)

    await asyncio.gather(after(0), after(0.02))
    assert [len(batch) for batch in retriever.batches] == [2]


@pytest.mark.parametrize("prefix_depth", [0, 10])
async def test_batches_are_no_larger_than_allowed_and_everybody_gets_his_k(prefix_depth: int) -> None:
    retriever = EchoRetriever()
    retriever.prefix_depth = prefix_depth
    async with MicroBatcher(retriever, max_batch=4) as batcher:
        answers = await asyncio.gather(*(batcher.search(f"q{i}", 1 + i % 2) for i in range(10)))
    assert [len(hits) for hits in answers] == [1 + i % 2 for i in range(10)]
    assert max(len(batch) for batch in retriever.batches) <= 4 and sum(map(len, retriever.batches)) == 10


async def test_a_slow_search_does_not_hold_back_the_next_batch() -> None:
    release = threading.Event()
    batcher = MicroBatcher(EchoRetriever(lambda queries: "slow" in queries and release.wait(20) and None))
    slow = asyncio.create_task(batcher.search("slow", 1))
    await asyncio.sleep(0.02)
    assert ids(await asyncio.wait_for(batcher.search("quick", 1), 5)) == ["quick"]
    assert not slow.done()
    release.set()
    assert ids(await slow) == ["slow"]


async def test_a_caller_that_gives_up_is_forgotten() -> None:
    retriever = EchoRetriever(lambda queries: time.sleep(0.05))
    batcher = MicroBatcher(retriever)
    leaving, staying = (asyncio.create_task(batcher.search(q, 1)) for q in ("leaving", "staying"))
    await asyncio.sleep(0.01)
    leaving.cancel()
    assert ids(await staying) == ["staying"]
    await batcher.close()


async def test_a_closed_batcher_has_answered_everything_and_takes_nothing_more() -> None:
    batcher = MicroBatcher(EchoRetriever(lambda queries: time.sleep(0.02)), window_s=5)
    asked = asyncio.create_task(batcher.search("q", 1))
    await asyncio.sleep(0)
    await batcher.close()
    assert ids(await asked) == ["q"]
    with pytest.raises(RuntimeError, match="closed"):
        await batcher.search("q", 1)


def test_one_batcher_serves_one_event_loop_after_another() -> None:
    batcher = MicroBatcher(EchoRetriever())
    for i in range(3):
        assert ids(asyncio.run(batcher.search(f"q{i}", 1))) == [f"q{i}"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"window_s": -1}, "window_s is -1; it must be at least 0"),
        ({"max_batch": 0}, "max_batch is 0; it must be at least 1"),
        ({"timeout_s": 0}, "timeout_s is 0; it must be more than 0"),
        ({"deadline_s": -1}, "deadline_s is -1; it must be more than 0"),
        ({"retries": -1}, "retries is -1"),
        ({"max_in_flight": 0}, "max_in_flight is 0"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MicroBatcher(EchoRetriever(), **setting)


async def test_a_call_with_many_queries_stays_whole_and_shares_its_batch() -> None:
    retriever = EchoRetriever()
    async with MicroBatcher(retriever) as batcher:
        many, one, none = await asyncio.gather(
            batcher.search_many(["a", "b", "c"], 2), batcher.search("d", 2), batcher.search_many([], 2)
        )
    assert ([ids(hits) for hits in many], ids(one), none) == ([["a"] * 2, ["b"] * 2, ["c"] * 2], ["d", "d"], [])
    assert retriever.batches == [["a", "b", "c", "d"]]


async def test_a_call_larger_than_a_batch_is_searched_in_parts_and_answered_in_order() -> None:
    retriever = EchoRetriever()
    async with MicroBatcher(retriever, max_batch=4) as batcher:
        hits = await batcher.search_many([f"q{i}" for i in range(10)], 1)
    assert [ids(one) for one in hits] == [[f"q{i}"] for i in range(10)]
    assert sorted(map(len, retriever.batches)) == [2, 4, 4]


async def test_what_arrives_while_all_slots_are_busy_becomes_one_batch() -> None:
    release = threading.Event()
    retriever = EchoRetriever(lambda queries: "slow" in queries and release.wait(20) and None)
    batcher = MicroBatcher(retriever, max_in_flight=1)
    slow = asyncio.create_task(batcher.search("slow", 1))
    await asyncio.sleep(0.02)
    later = []
    for i in range(5):
        later.append(asyncio.create_task(batcher.search(f"q{i}", 1)))
        await asyncio.sleep(0.005)
    assert batcher.waiting == 5
    release.set()
    await asyncio.gather(slow, *later)
    assert retriever.batches == [["slow"], [f"q{i}" for i in range(5)]] and batcher.waiting == 0


async def test_a_caller_that_gives_up_before_its_search_is_never_searched() -> None:
    release = threading.Event()
    retriever = EchoRetriever(lambda queries: "slow" in queries and release.wait(20) and None)
    batcher = MicroBatcher(retriever, max_in_flight=1)
    slow = asyncio.create_task(batcher.search("slow", 1))
    await asyncio.sleep(0.02)
    leaving = asyncio.create_task(batcher.search_many(["left", "left too"], 1))
    await asyncio.sleep(0.02)
    leaving.cancel()
    await asyncio.sleep(0)
    assert batcher.waiting == 0
    release.set()
    await slow
    await batcher.close()
    assert retriever.batches == [["slow"]]


async def test_a_steady_stream_does_not_hold_a_window_of_zero_open() -> None:
    retriever = EchoRetriever()
    batcher = MicroBatcher(retriever)
    first = asyncio.create_task(batcher.search("first", 1))
    others = []
    for i in range(200):
        others.append(asyncio.create_task(batcher.search(f"q{i}", 1)))
        await asyncio.sleep(0)
    assert ids(await first) == ["first"]
    await asyncio.gather(*others)
    assert len(retriever.batches) > 2


async def test_search_threads_are_used_again() -> None:
    threads: set[int] = set()
    batcher = MicroBatcher(EchoRetriever(lambda queries: threads.add(threading.get_ident())))
    for i in range(20):
        await batcher.search(f"q{i}", 1)
    assert len(threads) <= 2


def busy_with(release: threading.Event) -> Callable[[Sequence[str]], None]:
    """Holds up the search that has the query `slow` until it is released."""
    return lambda queries: release.wait(20) and None if "slow" in queries else None


async def waiting_together(batcher: MicroBatcher, release: threading.Event, depths: Sequence[int]) -> list[list[Hit]]:
    """The answers of searches with these depths that all wait for the one slot."""
    slow = asyncio.create_task(batcher.search("slow", 1))
    await asyncio.sleep(0.02)
    asked = [asyncio.create_task(batcher.search(f"q{i}", k)) for i, k in enumerate(depths)]
    await asyncio.sleep(0.02)
    release.set()
    await slow
    return await asyncio.gather(*asked)


async def test_all_depths_that_wait_are_one_batch_and_each_gets_its_own() -> None:
    release, depths = threading.Event(), range(1, 13)
    retriever = EchoRetriever(busy_with(release))
    answers = await waiting_together(MicroBatcher(retriever, max_in_flight=1), release, depths)
    assert [ids(hits) for hits in answers] == [[f"q{i}"] * k for i, k in enumerate(depths)]
    assert list(map(len, retriever.batches)) == [1, 12]


async def test_deeper_searches_than_the_retriever_vouches_for_are_not_cut() -> None:
    release, depths = threading.Event(), [1, 5, 6, 2, 6, 7]
    retriever = EchoRetriever(busy_with(release))
    retriever.prefix_depth = 5
    answers = await waiting_together(MicroBatcher(retriever, max_in_flight=1), release, depths)
    assert [ids(hits) for hits in answers] == [[f"q{i}"] * k for i, k in enumerate(depths)]
    assert retriever.batches == [["slow"], ["q0", "q1", "q3"], ["q2", "q4"], ["q5"]]


async def test_a_deep_search_is_not_made_for_all_that_wait_beside_it() -> None:
    release = threading.Event()
    retriever = EchoRetriever(busy_with(release))
    depths = [3] * 100 + [1000] + [3] * 100
    answers = await waiting_together(MicroBatcher(retriever, max_in_flight=1), release, depths)
    assert list(map(len, answers)) == depths
    assert list(map(len, retriever.batches)) == [1, 200, 1]
