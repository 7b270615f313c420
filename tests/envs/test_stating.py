"""The stating expert says what is true of what it read, lies at its rate, and leaves the inner policy's draws alone."""

import random

import pytest

from agent.protocols.registry import load_protocol
from envs.policies.expert import ExpertPolicy
from envs.policies.noisy import NoiseRates, NoisyPolicy
from envs.policies.registry import CHEATS, demonstrator, load_policy
from envs.policies.stating import StatingPolicy
from tests.envs.scripted_play import act, play
from tests.envs.small_world import BRIDGE, search_turn

STATING = load_protocol("waymark_stating")
EXPERT = ExpertPolicy(STATING)
FIRST = search_turn("Who founded Velmora?", "velmora", "torvane")
MISSED = search_turn("Who founded Velmora?", "tarn")
SECOND = search_turn("Where was Tarnek Osmi born?", "tarnek", "velmora")


def stated(*turns, rate: float = 0.0, seed: int = 0):
    policy = StatingPolicy(EXPERT, EXPERT, wrong_rate=rate)
    return act(policy, BRIDGE, *turns, seed=seed, protocol=STATING)


def test_before_anything_was_read_only_a_goal_is_said() -> None:
    action = stated()
    assert (action.judgement, action.reflection, action.goal) == (None, None, "founded by")


def test_a_search_that_found_its_hop_met_its_goal_but_is_not_enough() -> None:
    action = stated(FIRST)
    assert (action.judgement, action.reflection, action.goal) == (False, True, "birth place")


def test_a_search_that_missed_did_not_meet_its_goal() -> None:
    action = stated(MISSED)
    assert (action.judgement, action.reflection, action.goal) == (False, False, "founded by")


def test_when_every_hop_is_found_it_is_enough_and_nothing_more_is_looked_for() -> None:
    action = stated(FIRST, SECOND)
    assert (action.kind, action.judgement, action.reflection, action.goal) == ("answer", True, True, None)


def test_wrong_statements_come_at_their_rate_and_independently() -> None:
    said = [stated(FIRST, rate=0.3, seed=seed) for seed in range(400)]
    lied = sum(action.judgement is True for action in said) / 400
    assert 0.22 < lied < 0.38
    assert 0.22 < sum(action.reflection is False for action in said) / 400 < 0.38
    assert {action.requests[0].argument for action in said} == {"Where was Tarnek Osmi born?"}


def test_a_rate_is_a_share() -> None:
    with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
        StatingPolicy(EXPERT, EXPERT, wrong_rate=1.5)


def test_the_inner_policy_draws_what_it_draws_without_statements() -> None:
    noisy = NoisyPolicy(EXPERT, NoiseRates(wrong_query=0.5, early_answer=0.3))
    for seed in range(30):
        alone = act(noisy, BRIDGE, FIRST, seed=seed, protocol=STATING)
        led = act(StatingPolicy(noisy, EXPERT, wrong_rate=0.5), BRIDGE, FIRST, seed=seed, protocol=STATING)
        assert (led.kind, led.requests, led.answer, led.thought) == (
            alone.kind,
            alone.requests,
            alone.answer,
            alone.thought,
        )


def test_whole_episodes_state_and_end_right() -> None:
    for policy in (load_policy("expert", STATING), demonstrator(EXPERT, NoiseRates())):
        [bridge] = play(policy, (BRIDGE,), protocol=STATING)
        assert bridge.finish_reason == "answered"
        assert [t.action.judgement for t in bridge.turns] == [None, False, True]
        assert all(turn.action.goal for turn in bridge.turns[:-1])


def test_what_will_be_stated_is_known_beforehand() -> None:
    spoken = " ".join(EXPERT.spoken(BRIDGE))
    for words in ("<judge> yes</judge>", "<judge> no</judge>", "<reflect> true</reflect>", "<goal> founded by</goal>"):
        assert words in spoken
    assert "<judge>" not in " ".join(ExpertPolicy(load_protocol("waymark")).spoken(BRIDGE))


def test_a_hop_found_by_chance_counts_as_found() -> None:
    both = search_turn("Who founded Velmora?", "velmora", "tarnek")
    assert stated(both).judgement is True


def test_a_cheat_says_what_fits_its_next_action_without_looking() -> None:
    repeater = load_policy("query_repeater", STATING, num_searches=2)
    said = [act(repeater, BRIDGE, *[MISSED] * n, protocol=STATING) for n in range(3)]
    assert [(a.judgement, a.reflection) for a in said] == [(None, None), (False, False), (True, True)]
    assert [a.goal for a in said] == ["Velmora", "Velmora", None]


@pytest.mark.parametrize(("name", "statement"), [("always_true", "reflection"), ("always_yes", "judgement")])
def test_two_cheats_say_yes_of_every_observation(name: str, statement: str) -> None:
    policy = load_policy(name, STATING, num_searches=3)
    assert [getattr(act(policy, BRIDGE, *[MISSED] * n, protocol=STATING), statement) for n in (1, 2, 3)] == [True] * 3


@pytest.mark.parametrize("name", sorted(CHEATS))
def test_cheats_state_nothing_where_the_protocol_has_no_tags(name: str) -> None:
    text = load_policy(name, load_protocol("waymark")).act(BRIDGE, 0, [FIRST], random.Random(0))
    assert not any(tag in text for tag in ("<judge>", "<reflect>", "<goal>"))
