"""Episodes end to end with a fake engine: faults become typed endings, and nobody waits for somebody else's search."""

import asyncio

import pytest

from agent.engine import EngineError
from agent.protocol import encode_prompt
from envs.actor import stable_seed
from retrieval.batcher import MicroBatcher
from retrieval.retriever import RetrievalError
from tests.envs.fake_engine import (
    ANSWER,
    LIMITS,
    SEARCH,
    TOKENIZER,
    WAYMARK,
    FakeEngine,
    found,
    play,
    play_all,
    search_then_answer,
    spec,
)
from tests.envs.small_world import BRIDGE, COMPARISON, OverlapRetriever


async def test_an_episode_is_its_tokens():
    engine = FakeEngine(search_then_answer)
    t = await play(engine, sample=4)
    assert (t.id, t.question_id, t.unit_id, t.group_id, t.sample) == ("e0", "bridge", "u", "g", 4)
    assert t.finish_reason == "answered" and t.final_answer == "Quillon Bay" and t.num_searches == 1
    text = TOKENIZER.decode(t.token_ids.tolist())
    assert text.count("<search>Who founded") == 1 and text.endswith(ANSWER)
    first, second = engine.requests
    assert first[2] == t.prompt_ids
    assert second[2] == t.prompt_ids + t.turns[0].action_ids + t.turns[0].observation_ids
    sampled = t.token_ids[t.loss_mask == 1].tolist()
    assert TOKENIZER.decode(sampled) == SEARCH + ANSWER
    assert t.turns[0].calls[0].latency_s >= 0 and t.turns[0].calls[0].status == "ok"


async def test_requests_carry_limits_stop_strings_and_a_seed_per_turn():
    engine = FakeEngine(search_then_answer)
    await play(engine, seed=9, limits=LIMITS.model_copy(update={"max_new_tokens_per_turn": 77}))
    (key0, params0, _), (key1, params1, _) = engine.requests
    assert (key0, key1) == ("e0/0000", "e0/0001")
    assert params0.max_new_tokens == 77 and params0.stop == WAYMARK.stop and params0.temperature == 0.7
    assert params0.seed == stable_seed(9, 0) and params1.seed == stable_seed(9, 1) != params0.seed


def test_stable_seeds_are_the_same_everywhere():
    assert stable_seed(0, "question", 1) == 4543228067908108194
    assert stable_seed(1, 23) != stable_seed(12, 3)


async def test_the_view_selects_the_wording():
    t = await play(FakeEngine(search_then_answer), view=1)
    assert t.view == 1 and BRIDGE.paraphrases[0] in TOKENIZER.decode(list(t.prompt_ids))
    with pytest.raises(IndexError):
        await play(FakeEngine(search_then_answer), view=2)


async def test_an_outage_of_retrieval_is_a_typed_ending_and_keeps_the_turn():
    async def down(query, k):
        raise RetrievalError("no answer within 1 s")

    t = await play(FakeEngine(search_then_answer), search=down)
    assert t.finish_reason == "retrieval_outage" and t.final_answer is None
    assert [c.status for c in t.turns[0].calls] == ["error"] and t.turns[0].observation_ids == ()


async def test_an_empty_result_is_not_an_outage():
    async def nothing(query, k):
        return []

    t = await play(FakeEngine(search_then_answer), search=nothing)
    assert t.finish_reason == "answered" and t.turns[0].calls[0].status == "empty"
    assert WAYMARK.nothing_found in TOKENIZER.decode(list(t.turns[0].observation_ids))


@pytest.mark.parametrize("failing_turn", [0, 1])
async def test_a_failing_engine_is_a_typed_ending(failing_turn):
    engine = FakeEngine(lambda e, turn: EngineError("out of memory") if turn == failing_turn else SEARCH)
    t = await play(engine)
    assert t.finish_reason == "engine_failure" and t.num_turns == failing_turn
    assert engine.live == 0


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("a bug")])
async def test_bugs_are_not_outages(error):
    async def broken(query, k):
        raise error

    with pytest.raises(type(error), match="a bug"):
        await play(FakeEngine(search_then_answer), search=broken)
    with pytest.raises(type(error), match="a bug"):
        await play(FakeEngine(lambda e, turn: error))
    engine = FakeEngine(search_then_answer)
    with pytest.raises(type(error), match="a bug"):
        await play_all([spec(f"e{i}") for i in range(5)], engine, search=broken)
    assert engine.live == 0, "every announced episode is taken back"


async def test_a_slow_search_holds_back_nobody_else():
    events: list[str] = []
    release = asyncio.Event()

    async def search(query, k):
        if query == "slow":
            events.append("slow search begins")
            await release.wait()
            events.append("slow search ends")
        return await found(query, k)

    def say(episode, turn):
        return ("<search>slow</search>" if episode == "slow" else SEARCH) if turn == 0 else ANSWER

    def ended(t):
        events.append(f"{t.id} ends")
        if sum(e.startswith("quick") for e in events) == 3:
            release.set()

    specs = [spec(i) for i in ("slow", "quick0", "quick1", "quick2")]
    done = await play_all(specs, FakeEngine(say), search=search, on_finish=ended)
    assert events == ["slow search begins", *sorted(events[1:4]), "slow search ends", "slow ends"]
    assert [t.id for t in done] == ["slow", "quick0", "quick1", "quick2"], "results keep the order of the specs"


async def test_searches_of_concurrent_episodes_share_batches():
    retriever = OverlapRetriever()
    sizes: list[int] = []
    async with MicroBatcher(retriever, on_batch=lambda size, seconds, outcome: sizes.append(size)) as batcher:
        await play_all([spec(f"e{i}") for i in range(16)], FakeEngine(search_then_answer), search=batcher.search)
        assert sum(sizes) == 16 and len(sizes) < 16


async def test_the_searches_of_one_turn_run_at_once():
    def two_then_answer(episode, turn):
        return "<search>Velmora\nTorvane</search>" if turn == 0 else ANSWER

    both = asyncio.Barrier(2)

    async def search(query, k):
        await both.wait()
        return await found(query, k)

    t = await asyncio.wait_for(play(FakeEngine(two_then_answer), search=search), timeout=5)
    assert [c.argument for c in t.turns[0].calls] == ["Velmora", "Torvane"]

    async def half_down(query, k):
        if query == "Velmora":
            raise RetrievalError("down")
        return await found(query, k)

    t = await play(FakeEngine(two_then_answer), search=half_down)
    assert t.finish_reason == "retrieval_outage" and [c.status for c in t.turns[0].calls] == ["error", "ok"]


@pytest.mark.parametrize("bound", [1, 3, 100])
async def test_concurrency_is_bounded_and_announced_before_the_first_request(bound):
    engine = FakeEngine(search_then_answer)
    live_at_request: list[int] = []
    generate = engine.generate

    async def watched(*args, **kwargs):
        live_at_request.append(engine.live)
        return await generate(*args, **kwargs)

    engine.generate = watched
    specs = [spec(f"e{i:02d}") for i in range(10)]
    done = await play_all(specs, engine, max_concurrent=bound)
    slots = min(bound, 10)
    assert engine.most_live == slots and live_at_request[:slots] == [slots] * slots
    assert engine.live == 0 and [t.id for t in done] == [s.id for s in specs]


async def test_what_runs_beside_an_episode_does_not_change_it():
    def say(episode, turn):
        return search_then_answer(episode, turn)

    def without_time(trajectories):
        return [(t.id, t.token_ids.tolist(), [s for turn in t.turns for s in turn.shown]) for t in trajectories]

    specs = [spec(f"e{i}", question, seed=i) for i, question in enumerate([BRIDGE, COMPARISON] * 4)]
    alone = FakeEngine(say)
    together = FakeEngine(say)
    one = without_time(await play_all(specs, alone, max_concurrent=1))
    assert one == without_time(await play_all(specs, together, max_concurrent=8))
    assert {k: p.seed for k, p, _ in alone.requests} == {k: p.seed for k, p, _ in together.requests}


async def test_every_prompt_is_checked_before_anything_is_sampled():
    engine = FakeEngine(search_then_answer)
    engine.context_window = len(encode_prompt(WAYMARK, COMPARISON.text, TOKENIZER))
    refused = f"context window is {engine.context_window}"
    with pytest.raises(ValueError, match=refused):
        await play_all([spec("fits", BRIDGE), spec("does not", COMPARISON)], engine, max_concurrent=1)
    with pytest.raises(ValueError, match=refused):
        await play(engine, question=COMPARISON)
    assert not engine.requests


async def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="one id"):
        await play_all([spec("same"), spec("same")], FakeEngine(search_then_answer))
    with pytest.raises(ValueError, match="max_concurrent=0"):
        await play_all([spec()], FakeEngine(search_then_answer), max_concurrent=0)
    assert await play_all([], FakeEngine(search_then_answer)) == []
