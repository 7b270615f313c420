"""Candidates of one turn and the winner among them; bad queries sampled once more."""

import numpy as np
import pytest

from agent.engine import EngineError
from envs.branching import BranchSampler, RefineSampler, choose_winner
from retrieval.retriever import RetrievalError
from tests.envs.fake_engine import found
from tests.envs.unit_parts import Scored, Watched, by_id, sample, shares_its_prefix

ANSWER = "<answer>Quillon Bay [1]</answer>"


def branch(scored: Scored, *, candidates: int = 3, eta: float = 1e-3, retrieve: str = "all") -> BranchSampler:
    return BranchSampler(candidates=candidates, eta=eta, retrieve=retrieve, scorer=scored)


def number(episode: str) -> int:
    return int(episode.split("-candidate")[1][:2])


def last_best(trajectory) -> float:
    return float(trajectory.sample)


def search_twice(episode: str, turn: int) -> str:
    return f"<search>Velmora {number(episode)}</search>" if turn < 2 else ANSWER


async def test_a_path_goes_on_from_each_steps_winner_until_it_answers() -> None:
    episodes = Watched(search_twice)
    unit = await sample(branch(Scored(last_best)), episodes)
    assert unit.kind == "branch_tree" and len(unit.trajectories) == 9
    shares_its_prefix(unit)
    for step in range(3):
        of_step = unit.trajectories[3 * step : 3 * step + 3]
        assert [t.id for t in of_step] == [f"u0-turn0{step}-candidate0{i}" for i in range(3)]
        assert {(t.group_id, t.fork_turn, t.num_turns) for t in of_step} == {(f"u0-turn{step}", step, step + 1)}
        assert {t.parent_id for t in of_step} == {None if step == 0 else f"u0-turn0{step - 1}-candidate02"}
    assert [t.finish_reason for t in unit.trajectories] == ["cut"] * 6 + ["answered"] * 3
    assert [len(round) for round in episodes.rounds] == [3, 3, 3], "a step is one round"
    assert len(episodes.engine.requests) == 9, "a shared prefix is never sampled again"
    assert sorted(episodes.queries) == sorted(f"Velmora {i}" for i in range(3) for _ in range(2))


async def test_where_only_winners_retrieve_nobody_else_searches() -> None:
    episodes = Watched(search_twice)
    unit = await sample(branch(Scored(last_best), retrieve="winner"), episodes)
    shares_its_prefix(unit)
    assert episodes.queries == ["Velmora 2", "Velmora 2"]
    assert len(episodes.engine.requests) == 9
    observed = [t.id for t in unit.trajectories if t.finish_reason == "cut" and t.turns[-1].observation_ids]
    assert observed == ["u0-turn00-candidate02", "u0-turn01-candidate02"]


async def test_both_ways_of_retrieving_sample_the_same_path() -> None:
    paths = []
    for retrieve in ("all", "winner"):
        unit = await sample(branch(Scored(last_best), retrieve=retrieve), Watched(search_twice))
        paths.append(unit.trajectories[-1].token_ids.tolist())
    assert paths[0] == paths[1]


async def test_a_winner_that_answers_ends_the_path_and_the_others_stay_cut() -> None:
    episodes = Watched(lambda episode, turn: ANSWER if number(episode) == 1 else "<search>Velmora</search>")
    unit = await sample(branch(Scored(lambda t: float(t.sample == 1))), episodes)
    assert [t.finish_reason for t in unit.trajectories] == ["cut", "answered", "cut"]


async def test_a_path_ends_at_the_turn_limit() -> None:
    unit = await sample(branch(Scored(last_best)), Watched(lambda episode, turn: "<search>Velmora</search>"))
    assert [t.num_turns for t in unit.trajectories] == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    assert {t.finish_reason for t in unit.trajectories[-3:]} == {"turn_limit"}


async def test_an_outage_spoils_its_candidate_alone_which_cannot_win() -> None:
    async def search(query, k):
        if query.endswith("2"):
            raise RetrievalError("down")
        return await found(query, k)

    unit = await sample(branch(Scored(last_best)), Watched(search_twice, search))
    assert [t.finish_reason for t in unit.trajectories] == [*["cut", "cut", "retrieval_outage"] * 2, *["answered"] * 3]
    assert unit.trajectories[3].parent_id == "u0-turn00-candidate01"


async def test_a_step_without_a_candidate_ends_the_path_and_keeps_the_steps_before() -> None:
    def say(episode: str, turn: int):
        return EngineError("gone") if turn else search_twice(episode, turn)

    unit = await sample(branch(Scored(last_best)), Watched(say))
    assert [t.finish_reason for t in unit.trajectories] == ["cut"] * 3 + ["engine_failure"] * 3
    assert [t.num_turns for t in unit.trajectories] == [1] * 6


async def test_a_winner_whose_own_search_has_no_answer_ends_the_path_as_an_outage() -> None:
    async def search(query, k):
        raise RetrievalError("down")

    unit = await sample(branch(Scored(last_best), retrieve="winner"), Watched(search_twice, search))
    assert [t.finish_reason for t in unit.trajectories] == ["cut", "cut", "retrieval_outage"]
    assert [t.id for t in unit.trajectories] == [f"u0-turn00-candidate0{i}" for i in range(3)]


async def test_where_no_reward_says_anything_a_candidate_goes_on_all_the_same() -> None:
    unit = await sample(branch(Scored()), Watched(search_twice))
    assert len(unit.trajectories) == 9


async def test_the_winner_does_not_depend_on_who_arrives_first() -> None:
    units = []
    for slow in (0, 2):

        async def search(query, k, slow=slow):
            import asyncio

            for _ in range(20 if query.endswith(str(slow)) else 1):
                await asyncio.sleep(0)
            return await found(query, k)

        scored = Scored(lambda t: float(len(t.turns[-1].shown)))
        unit = await sample(branch(scored, eta=0.7), Watched(search_twice, search))
        units.append([(t.id, t.parent_id, t.token_ids.tolist()) for t in unit.trajectories])
    assert units[0] == units[1]


def test_winners_are_drawn_by_softmax() -> None:
    advantages = np.array([1.0, 0.0, np.nan, -1.0])
    drawn = np.bincount([choose_winner(advantages, eta=0.7, seed=i) for i in range(4000)], minlength=4) / 4000
    chances = np.exp(np.array([1.0, 0.0, -np.inf, -1.0]) / 0.7)
    assert drawn == pytest.approx(chances / chances.sum(), abs=0.03) and drawn[2] == 0
    assert choose_winner(np.array([np.nan]), eta=0.7, seed=0) is None
    assert choose_winner(np.array([5000.0, 0.0]), eta=0.7, seed=1) == 0, "large values do not overflow"


def refine(turns, **options) -> RefineSampler:
    settings = {"seeds": 2, "per_seed": 2, "tries": 3, "bad_below": 0.5, **options}
    return RefineSampler(component="query_quality", scorer=Scored(turns=turns), **settings)


def say_refined(episode: str, turn: int) -> str:
    """Seeds search `bad` twice; the second try of a turn finds other words."""
    if "-try" in episode:
        return "<search>bad</search>" if episode.endswith("-try00") else "<search>Velmora founded</search>"
    return "<search>bad</search>" if turn < 2 else ANSWER


def bad_at(*turns: int):
    return lambda t: [0.0 if i in turns else 1.0 for i in range(t.num_turns)]


async def test_a_bad_query_is_sampled_again_until_it_differs_and_the_episode_goes_on_from_it() -> None:
    episodes = Watched(say_refined)
    unit = await sample(refine(bad_at(0, 1)), episodes)
    shares_its_prefix(unit)
    known = by_id(unit)
    assert list(known) == [
        *("u0-seed00", "u0-seed01"),
        *("u0-seed00-turn00", "u0-seed00-turn01", "u0-seed01-turn00", "u0-seed01-turn01"),
    ]
    assert {t.group_id for t in unit.trajectories} == {"u0"} and [t.sample for t in unit.trajectories] == list(range(6))
    refined = known["u0-seed01-turn01"]
    assert (refined.parent_id, refined.fork_turn, refined.finish_reason) == ("u0-seed01", 1, "answered")
    assert refined.turns[1].action.requests[0].argument == "Velmora founded" and refined.turns[1].shown
    first = known["u0-seed00-turn00"]
    assert first.turns[1].action.requests[0].argument == "bad", "what follows is sampled anew, by the policy"
    assert [len(round) for round in episodes.rounds] == [2, 4, 4, 4], "seeds, two tries, and the rest, each one round"


async def test_only_the_first_bad_turns_that_called_are_sampled_again() -> None:
    unit = await sample(refine(bad_at(0, 1, 2), per_seed=1), Watched(say_refined))
    assert [t.id for t in unit.trajectories[2:]] == ["u0-seed00-turn00", "u0-seed01-turn00"]


@pytest.mark.parametrize(
    ("turns", "options"),
    [(bad_at(), {}), (lambda t: [np.nan] * t.num_turns, {}), (bad_at(0), {"tries": 1})],
    ids=["all good", "nothing known", "every try repeats itself"],
)
async def test_where_nothing_is_bad_or_nothing_differs_the_seeds_are_the_unit(turns, options) -> None:
    unit = await sample(refine(turns, **options), Watched(say_refined))
    assert [t.id for t in unit.trajectories] == ["u0-seed00", "u0-seed01"]


async def test_a_try_that_answers_instead_is_whole_and_a_lost_seed_is_left_alone() -> None:
    def say(episode: str, turn: int):
        if episode.startswith("u0-seed01"):
            return EngineError("gone")
        return ANSWER if "-try" in episode else say_refined(episode, turn)

    unit = await sample(refine(bad_at(1)), Watched(say))
    assert [t.finish_reason for t in unit.trajectories] == ["answered", "engine_failure", "answered"]
    assert unit.trajectories[2].id == "u0-seed00-turn01" and unit.trajectories[2].num_turns == 2
