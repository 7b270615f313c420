"""An episode that goes on from the turns of another is what it would have been without a stop."""

import pickle
from dataclasses import replace

import pytest

from agent.engines.transformers import load_engine
from agent.hugging_face import load_tokenizer
from agent.protocols.registry import load_protocol
from agent.tiny import build_tiny_policy
from agent.trajectory import Trajectory
from envs.actor import EngineActor
from envs.episode import EpisodeSpec, run_episode
from envs.episode_pool import run_episodes
from envs.episode_worker import EpisodeWorker
from envs.search_env import EpisodeLimits, Pending, SearchEnv
from retrieval.passage import Hit
from retrieval.retriever import RetrievalError
from tests.envs.fake_engine import TOKENIZER, WAYMARK, FakeEngine, document, found, spec
from tests.envs.small_env import ANSWER, INVALID, SEARCH, env, say
from tests.envs.small_world import BRIDGE, COMPARISON, PASSAGES, OverlapRetriever, result
from tests.envs.test_episode_engine import LIMITS as TINY_LIMITS
from tests.envs.test_episode_engine import babble

OPENS = load_protocol("waymark", tools=("search", "open"))
SAID = (SEARCH, INVALID, "<search>Where was Tarnek Osmi born?</search>", "<open>Velmora</open>", SEARCH, ANSWER)
LONG = EpisodeLimits(max_trajectory_tokens=6000, top_k=2, max_turns=6, max_searches=2, max_opens=1)


async def played(spec: EpisodeSpec, *, said=SAID, protocol=OPENS, search=found, limits=LONG) -> Trajectory:
    engine = FakeEngine(lambda episode, turn: said[turn])
    made = SearchEnv(protocol, TOKENIZER, limits)
    return await run_episode(spec, actor=EngineActor(engine), env=made, search=search, documents=document)


def timeless(trajectory: Trajectory) -> Trajectory:
    """The same, whatever the calls took."""
    turns = tuple(
        replace(turn, calls=tuple(replace(call, latency_s=0.0) for call in turn.calls)) for turn in trajectory.turns
    )
    return replace(trajectory, turns=turns)


@pytest.mark.parametrize("turn", range(6))
async def test_resumed_at_any_turn_an_episode_is_the_same_with_its_numbers_and_budgets(turn) -> None:
    whole = await played(spec())
    assert whole.num_turns == 6 and whole.num_searches == 2 and whole.num_opens == 1
    assert whole.turns[4].calls == (), "the budget of two searches was used up before"
    searched = []

    async def search(query, k):
        searched.append(query)
        return await found(query, k)

    resumed = await played(spec(prefix_turns=whole.turns[:turn]), search=search)
    assert timeless(resumed) == timeless(whole)
    assert len(searched) == sum(call.tool == "search" for t in whole.turns[turn:] for call in t.calls)


async def test_a_stop_ends_it_as_cut_with_or_without_its_last_observation_and_both_go_on() -> None:
    whole = await played(spec())
    read = await played(spec(stop_after_turns=3))
    assert read.finish_reason == "cut" and timeless(read).turns == timeless(whole).turns[:3]
    unread = await played(spec(stop_after_turns=3, reads_last=False))
    assert unread.finish_reason == "cut" and unread.turns[2].observation_ids == () and unread.turns[2].calls == ()
    assert unread.turns[2].action_ids == whole.turns[2].action_ids
    for stopped in (read, unread):
        again = await played(spec(prefix_turns=stopped.turns))
        assert timeless(again) == timeless(whole)
    only_reads = await played(spec(prefix_turns=unread.turns, stop_after_turns=3), said=())
    assert timeless(only_reads) == timeless(read), "nothing is sampled"


async def test_what_needs_no_search_is_observed_also_where_the_last_turn_is_not_read() -> None:
    invalid = await played(spec(stop_after_turns=2, reads_last=False))
    assert invalid.turns[1].action.kind == "invalid" and invalid.turns[1].observation_ids
    refused = await played(spec(stop_after_turns=5, reads_last=False))
    assert refused.turns[4].action.kind == "call" and refused.turns[4].observation_ids, "its budget is used up"


async def test_an_episode_that_ends_before_the_stop_is_not_cut() -> None:
    ended = await played(spec(stop_after_turns=1), said=[ANSWER])
    assert ended.finish_reason == "answered"


async def test_an_outage_while_the_prefix_is_read_ends_it_as_one() -> None:
    async def down(query, k):
        raise RetrievalError("down")

    unread = await played(spec(stop_after_turns=1, reads_last=False))
    lost = await played(spec(prefix_turns=unread.turns), search=down)
    assert lost.finish_reason == "retrieval_outage" and lost.num_turns == 1


async def test_branches_carry_their_parent_and_specs_travel_to_workers_as_they_are() -> None:
    whole = await played(spec())
    branch = spec("e1", prefix_turns=whole.turns[:2], parent_id="e0", fork_turn=2, stop_after_turns=3, seed=4)
    sent = pickle.loads(pickle.dumps(branch))
    assert sent == branch
    worker = EpisodeWorker(
        actor=EngineActor(FakeEngine(lambda episode, turn: SAID[turn])),
        search=found,
        protocol=OPENS,
        tokenizer=TOKENIZER,
        limits=LONG,
        documents=document,
    )
    trajectory = await worker.play(sent)
    await worker.close()
    assert (trajectory.parent_id, trajectory.fork_turn, trajectory.finish_reason) == ("e0", 2, "cut")
    assert timeless(trajectory).turns == timeless(whole).turns[:3]


async def test_pinned_searches_find_what_was_pinned_each_in_its_turn_and_then_nothing() -> None:
    asked = []

    async def search(query, k):
        asked.append(query)
        return []

    hits = tuple(Hit(passage=p, score=1.0, rank=r) for r, p in enumerate(PASSAGES[:3], start=1))
    said = [SEARCH, SEARCH, SEARCH, ANSWER]
    limits = EpisodeLimits(max_trajectory_tokens=6000, top_k=2)
    pinned = spec(pinned=(hits, hits[2:]))
    trajectory = await played(pinned, said=said, search=search, limits=limits)
    assert [[hit.passage.id for call in turn.calls for hit in call.hits] for turn in trajectory.turns] == [
        ["velmora", "tarnek"],
        ["quillon"],
        [],
        [],
    ]
    assert asked == []
    resumed = await played(replace(pinned, prefix_turns=trajectory.turns[:1]), said=said, search=search, limits=limits)
    assert timeless(resumed) == timeless(trajectory)


@pytest.mark.parametrize(
    ("said", "why"),
    [([ANSWER], "answered"), ([SEARCH, SEARCH], "turn_limit")],
)
def test_nothing_follows_an_episode_that_has_ended(said, why) -> None:
    ended = env(max_turns=2)
    for text in said:
        if isinstance(ended.act(say(text)), Pending):
            ended.observe([result("q", "velmora")])
    assert ended.finish_reason == why
    fresh = env(max_turns=2)
    with pytest.raises(ValueError, match="its episode ended with it"):
        fresh.replay(ended.turns)


def test_turns_are_replayed_before_anything_else_and_an_unread_turn_is_the_last() -> None:
    played = env()
    played.act(say(SEARCH))
    with pytest.raises(RuntimeError, match="follows reset"):
        played.replay([])
    played.observe([result("q", "velmora")])
    unread = replace(played.turns[0], calls=(), shown=(), observation_ids=())
    fresh = env()
    with pytest.raises(ValueError, match="nothing follows turn 0"):
        fresh.replay([unread, played.turns[0]])
    assert env().replay([unread]) == Pending(calls=unread.action.requests)


@pytest.mark.parametrize("schedule", ["deterministic", "eager"])
async def test_on_the_real_engine_a_resumed_episode_samples_the_same_tokens(tmp_path, monkeypatch, schedule) -> None:
    monkeypatch.setattr("envs.search_env.parse_action", babble)
    texts = [p.contents for p in PASSAGES] + [BRIDGE.text, COMPARISON.text]
    folder = build_tiny_policy(
        tmp_path, texts, protocol=WAYMARK, hidden_size=32, num_layers=2, num_heads=2, initializer_range=0.5
    )
    engine = load_engine(folder, schedule=schedule)
    tokenizer = load_tokenizer(folder)

    async def search(query, k):
        return OverlapRetriever().search([query], k)[0]

    async def play(specs):
        return await run_episodes(
            specs,
            actor=EngineActor(engine),
            search=search,
            protocol=WAYMARK,
            tokenizer=tokenizer,
            limits=TINY_LIMITS,
        )

    try:
        wholes = await play([spec(f"e{i}", question=(BRIDGE, COMPARISON)[i % 2], seed=i) for i in range(8)])
        stopped = [(i, turn) for i, whole in enumerate(wholes) for turn in range(whole.num_turns)]
        assert max(turn for _, turn in stopped) >= 2
        resumed = await play(
            [
                spec(f"e{i}-{turn}", question=(BRIDGE, COMPARISON)[i % 2], seed=i, prefix_turns=wholes[i].turns[:turn])
                for i, turn in stopped
            ]
        )
    finally:
        await engine.close()
    for (i, turn), again in zip(stopped, resumed, strict=True):
        whole = wholes[i]
        assert again.token_ids.tolist() == whole.token_ids.tolist() and again.finish_reason == whole.finish_reason
        assert again.turns[:turn] == whole.turns[:turn], "the prefix is the same to the bit"
        assert again.logprobs == pytest.approx(whole.logprobs, abs=1e-4), "other rows beside it move only the last bits"
