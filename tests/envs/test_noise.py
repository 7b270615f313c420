"""Noisy searches find nothing that helps, come at their share whatever runs beside them, and leave faults alone."""

import asyncio
from dataclasses import replace

import pytest

from agent.trajectory import Trajectory
from envs.actor import ScriptedActor
from envs.episode import run_episode
from envs.giveaway import gives_it_away
from envs.noise import is_noisy, noise_warnings, noisy_search, without_evidence
from envs.policies.demonstrations import demonstration_specs, direct_search
from envs.policies.expert import ExpertPolicy
from envs.question import Question
from envs.search_env import SearchEnv
from retrieval.passage import Hit, Passage
from retrieval.retriever import RetrievalError
from tests.envs.scripted_play import LIMITS, TOKENIZER, WAYMARK
from tests.envs.small_world import BRIDGE, PASSAGES, OverlapRetriever

BY_ID = {passage.id: passage for passage in PASSAGES}


def hits(*ids: str) -> list[Hit]:
    return [Hit(passage=BY_ID[i], score=9.0 - rank, rank=rank) for rank, i in enumerate(ids, start=1)]


def test_supports_and_answers_give_it_away() -> None:
    given_away = {i for i, passage in BY_ID.items() if gives_it_away(passage, BRIDGE)}
    assert given_away == {"velmora", "tarnek", "quillon", "velmic"}, "velmic says Quillon Bay"


def test_case_hides_nothing_but_a_part_of_a_word_is_no_answer() -> None:
    assert gives_it_away(Passage(id="n", title="", text="built at QUILLON BAY"), BRIDGE)
    assert not gives_it_away(Passage(id="n", title="", text="Quillonian stone"), BRIDGE)


def test_the_next_best_take_their_places_with_ranks_from_one() -> None:
    kept = without_evidence(hits("velmora", "torvane", "tarnek", "ilsa", "tarn"), BRIDGE, 2)
    assert [(hit.passage.id, hit.rank, hit.score) for hit in kept] == [("torvane", 1, 7.0), ("ilsa", 2, 5.0)]


def test_a_noisy_search_asks_deeper_and_shows_k() -> None:
    asked = []

    async def search(query: str, k: int) -> list[Hit]:
        asked.append(k)
        return hits("velmora", "tarnek", "torvane", "ilsa", "tarn", "osmi")[:k]

    found = asyncio.run(noisy_search(search, BRIDGE)("q", 2))
    assert [hit.passage.id for hit in found] == ["torvane", "ilsa"] and asked == [8]


def test_an_outage_stays_an_outage() -> None:
    async def search(query: str, k: int) -> list[Hit]:
        raise RetrievalError("down")

    with pytest.raises(RetrievalError):
        asyncio.run(noisy_search(search, BRIDGE)("q", 2))


def test_the_share_holds_and_every_query_of_a_turn_draws_for_itself() -> None:
    draws = [is_noisy(0.3, seed, turn, place) for seed in range(300) for turn in range(3) for place in range(2)]
    assert 0.26 < sum(draws) / len(draws) < 0.34
    assert not any(is_noisy(0.0, seed, 0, 0) for seed in range(50))
    assert all(is_noisy(1.0, seed, 0, 0) for seed in range(50))
    assert any(is_noisy(0.5, s, 0, 0) != is_noisy(0.5, s, 0, 1) for s in range(20))


def test_a_larger_share_is_noisy_wherever_a_smaller_one_is() -> None:
    assert all(is_noisy(0.6, s, 1, 0) for s in range(200) if is_noisy(0.3, s, 1, 0))


def play(share: float, seed: int = 0) -> Trajectory:
    spec = replace(demonstration_specs([BRIDGE], seed=seed)[0], noise=share)
    actor = ScriptedActor(ExpertPolicy(WAYMARK), TOKENIZER)
    env = SearchEnv(WAYMARK, TOKENIZER, LIMITS)
    return asyncio.run(run_episode(spec, actor=actor, env=env, search=direct_search(OverlapRetriever())))


def test_an_episode_under_full_noise_never_sees_its_supports() -> None:
    shown = {s.passage_id for turn in play(1.0).turns for s in turn.shown}
    assert shown and not shown & {"velmora", "tarnek", "quillon", "velmic"}
    assert {"velmora", "tarnek"} <= {s.passage_id for turn in play(0.0).turns for s in turn.shown}


def test_an_episode_meets_the_same_noise_again() -> None:
    assert play(0.5, seed=3).token_ids.tolist() == play(0.5, seed=3).token_ids.tolist()
    assert len({tuple(play(0.5, seed=seed).token_ids.tolist()) for seed in range(8)}) > 1


def test_questions_that_noise_cannot_touch_are_told_or_refused() -> None:
    bare = Question(id="bare", text="What is it?", golden_answers=())
    answered = Question(id="answered", text="What is it?", golden_answers=("a",))
    with pytest.raises(ValueError, match="none of the 1 training questions has supporting_ids or answers"):
        noise_warnings([bare], "training questions")
    (told,) = noise_warnings([bare, BRIDGE], "questions")
    assert told.startswith("1 of 2 questions (first: bare) have neither supporting_ids nor answers")
    (told,) = noise_warnings([answered, BRIDGE], "questions")
    assert "1 of 2 questions have no supporting_ids" in told and "keeps a support that says none" in told
    assert noise_warnings([BRIDGE], "questions") == () == noise_warnings([], "questions")
