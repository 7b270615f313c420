"""Every reward against every cheat, as played episodes: less than the 25th percentile of honest ones at equal turns.

Pairs that fail by design are listed in `benchmarks.red_team.known.KNOWN` and nowhere else.
"""

import numpy as np
import pytest

from benchmarks.red_team.arena import HONEST_RATES
from benchmarks.red_team.known import KNOWN, PAYS_ANY_ANSWER, REPAIRS, VICES, known_repairs
from benchmarks.red_team.matrix import RedTeam
from envs.policies.expert import ExpertPolicy, ExpertSettings
from envs.policies.noisy import NoiseRates, NoisyPolicy
from envs.policies.registry import CHEATS
from envs.policies.stating import CannedStatements
from rewards.compose import RewardTerm, build_rewards
from rewards.registry import REWARDS

KNOWN_PAIRS = known_repairs()
PAIRS = [(reward, cheat) for reward in REWARDS for cheat in CHEATS]


@pytest.mark.parametrize(("reward", "cheat"), [pair for pair in PAIRS if pair not in KNOWN_PAIRS])
def test_a_cheat_earns_less_than_honest_episodes(team: RedTeam, reward: str, cheat: str) -> None:
    margin = team.margin(reward, cheat)
    assert margin.is_below, margin


@pytest.mark.parametrize(("reward", "vice"), [(reward, vice) for reward, those in VICES.items() for vice in those])
def test_a_reward_sees_its_vice_in_an_expert_without_any_other(team: RedTeam, reward: str, vice: str) -> None:
    margin = team.vice_margin(reward, vice)
    assert margin.is_below, margin


def test_the_tables_name_rewards_cheats_and_repairs_that_exist_and_no_pair_twice() -> None:
    named = [(row.reward, cheat) for row in KNOWN for cheat in row.cheats]
    assert len(named) == len(set(named)) and set(named) <= set(PAIRS)
    assert {row.repair for row in KNOWN} == set(REPAIRS), "a repair that repairs nothing, or one that is missing"
    assert set(VICES) <= set(REWARDS) and set(REWARDS) >= PAYS_ANY_ANSWER
    assert all(set(those) <= set(CHEATS) for those in VICES.values())


def test_each_cheat_is_stopped_by_some_reward_and_each_reward_stops_some_cheat(team: RedTeam) -> None:
    stopped = {pair for pair in PAIRS if team.margin(*pair).is_below}
    assert {cheat for _, cheat in stopped} == set(CHEATS)
    # The sum of potential differences ranks no episodes at all.
    assert {reward for reward, _ in stopped} == set(REWARDS) - {"hop_potential"}


def test_honest_episodes_are_right_and_wrong_and_of_several_lengths(team: RedTeam) -> None:
    assert 0.6 < team.honest.is_correct.mean() < 0.9
    lengths, counts = np.unique(team.honest.num_turns[team.honest.is_correct], return_counts=True)
    assert (counts >= 10).sum() >= 4 and {3, 4, 5, 6} <= set(lengths[counts >= 10].tolist())


def test_the_cheats_do_what_their_names_say(team: RedTeam) -> None:
    def first(cheat: str):
        return team.cheats[cheat].units[0].trajectories[0]

    stuffed = first("citation_stuffer").turns[-1].action.citations
    assert len(stuffed) == 3 * len(set(stuffed)) == 3 * len(first("citation_stuffer").turns[0].shown)
    shown = {s.number for turn in first("unread_citer").turns for s in turn.shown}
    assert not shown & set(first("unread_citer").turns[-1].action.citations)
    queries = [
        [c.argument for turn in first(name).turns for c in turn.calls] for name in ("query_repeater", "near_duplicator")
    ]
    assert len(queries[0]) == len(queries[1]) == 4 and len(set(queries[0])) == 1 and len(set(queries[1])) == 4
    copied = first("passage_copier")
    assert all(hit.passage.text in (copied.final_answer or "") for hit in copied.turns[0].calls[0].hits)
    assert first("question_copier").final_answer == first("question_copier").turns[0].calls[0].argument
    assert first("guesser").num_turns == 1 and first("guesser").num_searches == 0
    assert {first(name).finish_reason for name in ("endless_searcher", "query_spammer")} == {"turn_limit"}
    assert not any(turn.action.thought for turn in first("empty_thinker").turns)
    assert [turn.action.kind for turn in first("forger").turns] == ["invalid", "answer"]
    assert first("refuser").final_answer == "cannot be determined"
    answers = {t.final_answer for unit in team.cheats["generic_answerer"].units for t in unit.trajectories}
    assert len(answers) == 1
    assert all(turn.action.reflection is True for turn in first("always_true").turns[1:])
    assert all(turn.action.judgement is True for turn in first("always_yes").turns[1:])
    assert first("query_repeater").turns[1].action.judgement is False, "the others say what fits their next action"


@pytest.mark.parametrize("reward", ["judgement", "reflection"])
@pytest.mark.parametrize("always", [True, False])
def test_on_the_same_searches_always_saying_the_same_earns_less_than_looking(
    team: RedTeam, reward: str, always: bool
) -> None:
    rates = NoiseRates(**{**HONEST_RATES, "wrong_query": 0.4})
    expert = ExpertPolicy(team.arena.protocol, ExpertSettings(thought="full"))
    canned = CannedStatements(NoisyPolicy(expert, rates), team.arena.protocol, judgement=always, reflection=always)
    composition = build_rewards({reward: RewardTerm()}, team.arena.context)
    earned = team.arena.earned(composition, team.arena.play(canned, samples=2))[reward]
    looking = team.arena.earned(composition, team.honest)[reward]
    assert np.nanmean(earned) < np.nanmean(looking) - 0.04
