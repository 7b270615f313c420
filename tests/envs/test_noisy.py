"""The noisy expert: every fault comes at its rate and disturbs no other."""

from collections import Counter
from dataclasses import replace

import pytest

from envs.policies.context import names_in
from envs.policies.expert import ExpertPolicy
from envs.policies.noisy import NoiseRates, NoisyPolicy
from tests.envs.scripted_play import WAYMARK, act, play, text_of
from tests.envs.small_world import BRIDGE, COMPARISON, search_turn

FIRST = search_turn("Who founded Velmora?", "velmora", "torvane")
SECOND = search_turn("Where was Tarnek Osmi born?", "tarnek", "velmora")
GOLD_QUERY = "Where was Tarnek Osmi born?"


def actions(rates: dict[str, float], question, *turns, n=400):
    policy = NoisyPolicy(ExpertPolicy(WAYMARK), NoiseRates(**rates))
    return [act(policy, question, *turns, seed=seed) for seed in range(n)]


def share(found, condition) -> float:
    return sum(map(condition, found)) / len(found)


def test_without_rates_the_noisy_expert_is_the_expert():
    noisy = play(NoisyPolicy(ExpertPolicy(WAYMARK), NoiseRates()))
    assert [text_of(t) for t in noisy] == [text_of(t) for t in play(ExpertPolicy(WAYMARK))]


def test_wrong_queries_come_at_their_rate_and_ask_about_the_context():
    found = actions({"wrong_query": 0.3}, BRIDGE, FIRST)
    queries = Counter(a.requests[0].argument for a in found)
    assert 0.22 < 1 - queries.pop(GOLD_QUERY) / 400 < 0.38
    assert "Where was Torvane born?" in queries, "another entity of the context"
    assert "Who founded Tarnek Osmi?" in queries, "another hop's relation"
    assert all(set(names_in(q)) <= {"Velmora", "Torvane", "Tarnek Osmi", "Ilsa Marn"} for q in queries)


def test_repeated_queries_come_at_their_rate_but_not_before_the_first():
    found = actions({"repeated_query": 0.5}, BRIDGE, FIRST)
    assert 0.42 < share(found, lambda a: a.requests[0].argument == "Who founded Velmora?") < 0.58
    assert (
        share(actions({"repeated_query": 1.0}, BRIDGE), lambda a: a.requests[0].argument == "Who founded Velmora?") == 1
    )


def test_early_answers_are_wrong_and_from_the_context():
    found = actions({"early_answer": 0.4}, BRIDGE, FIRST)
    early = [a for a in found if a.kind == "answer"]
    assert 0.32 < len(early) / 400 < 0.48
    assert {a.answer for a in early} <= {"Velmora", "Torvane", "Tarnek Osmi", "Ilsa Marn"}
    assert {a.answer for a in actions({"early_answer": 1.0}, BRIDGE)} == {"Velmora"}, "only the question to draw from"


def test_wrong_answers_are_other_names_that_were_shown():
    found = actions({"wrong_answer": 0.4}, BRIDGE, FIRST, SECOND)
    wrong = [a.answer for a in found if a.answer != "Quillon"]
    assert 0.32 < len(wrong) / 400 < 0.48
    assert set(wrong) <= {"Velmora", "Torvane", "Tarnek Osmi", "Ilsa Marn"}, "a golden alias is not a wrong answer"


def test_a_wrong_number_is_another_number():
    question = replace(COMPARISON, golden_answers=("1204",))
    asked = [search_turn(h.question, "velmora", "torvane") for h in COMPARISON.hops]
    assert {a.answer for a in actions({"wrong_answer": 1.0}, question, *asked, n=50)} == {"1350"}


def test_citations_are_skipped_and_wrong_at_their_rates():
    found = actions({"skipped_citation": 0.3, "wrong_citation": 0.3}, BRIDGE, FIRST, SECOND)
    counts = Counter(a.citations for a in found)
    assert all(a.answer == "Quillon" for a in found)
    assert 0.22 < counts[()] / 400 < 0.38
    right = counts[(1, 1)]
    assert 0.32 < right / 400 < 0.48 and len(counts) == 3


def test_endless_search_searches_though_every_hop_is_found():
    found = actions({"endless_search": 0.5}, BRIDGE, FIRST, SECOND)
    assert 0.42 < share(found, lambda a: a.kind == "call") < 0.58
    assert share(actions({"endless_search": 1.0}, BRIDGE, FIRST), lambda a: a.requests[0].argument == GOLD_QUERY) == 1
    (t,) = play(NoisyPolicy(ExpertPolicy(WAYMARK), NoiseRates(endless_search=1.0)), [BRIDGE])
    assert t.finish_reason == "turn_limit"


def test_malformed_tags_come_at_their_rate_are_corrected_and_recovered_from():
    found = actions({"malformed_tag": 0.3}, BRIDGE, FIRST)
    assert 0.22 < share(found, lambda a: a.kind == "invalid") < 0.38
    policy = NoisyPolicy(ExpertPolicy(WAYMARK), NoiseRates(malformed_tag=0.3))
    trajectories = play(policy, [BRIDGE], count=20)
    recovered = [t for t in trajectories if t.final_answer and any(x.action.kind == "invalid" for x in t.turns)]
    assert recovered and all(t.finish_reason in ("answered", "turn_limit") for t in trajectories)


def test_empty_thoughts_come_at_their_rate():
    assert 0.22 < share(actions({"empty_thought": 0.3}, BRIDGE, FIRST), lambda a: not a.thought) < 0.38


def test_one_rate_does_not_disturb_the_other_faults_of_an_episode():
    plain = actions({"wrong_answer": 0.4}, BRIDGE, FIRST, SECOND)
    more = actions({"wrong_answer": 0.4, "empty_thought": 1.0, "skipped_citation": 1.0}, BRIDGE, FIRST, SECOND)
    assert [a.answer for a in plain] == [a.answer for a in more]


def test_every_behaviour_that_is_needed_has_support_while_almost_nothing_is_right():
    rates = NoiseRates(wrong_query=0.35, repeated_query=0.1, early_answer=0.3, wrong_answer=0.6, endless_search=0.2)
    trajectories = play(NoisyPolicy(ExpertPolicy(WAYMARK), rates), [BRIDGE], count=600)
    em = share(trajectories, lambda t: t.final_answer in BRIDGE.golden_answers)
    queries = [[c.argument for turn in t.turns for c in turn.calls] for t in trajectories]
    assert em < 0.12
    assert share(queries, lambda q: q[:1] == ["Who founded Velmora?"]) > 0.2
    assert share(queries, lambda q: GOLD_QUERY in q) > 0.1
    assert share(trajectories, lambda t: t.finish_reason == "answered") > 0.5
    assert share(trajectories, lambda t: bool(t.turns[-1].action.citations)) > 0.3


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"wrong_query": 0.6, "early_answer": 0.5}, "wrong_query .* is 1.1.*at most 1"),
        ({"endless_search": 0.6, "wrong_answer": 0.5}, "endless_search .* at most 1"),
        ({"skipped_citation": 0.6, "wrong_citation": 0.5}, "skipped_citation .* at most 1"),
        ({"wrong_query": 1.2}, "less than or equal to 1"),
        ({"wrong_querry": 0.2}, "wrong_querry"),
    ],
)
def test_rates_that_cannot_be_are_refused(rates, message):
    with pytest.raises(ValueError, match=message):
        NoiseRates(**rates)
