import math
from dataclasses import replace

import pytest

from agent.trajectory import ToolCall
from rewards.bounds import Bounds
from rewards.efficiency import EfficiencyReward
from tests.rewards.builders import QUESTION, answer, context, group, search, trajectory


def score(*turns, question=QUESTION, **params) -> float:
    unit = group(trajectory(*turns, question=question))
    return float(EfficiencyReward(context(), **params)(unit, {question.id: question}).outcome[0])


@pytest.mark.parametrize(("searches", "expected"), [(0, 1.0), (1, 1.0), (2, 1.0), (3, 2 / 3), (4, 0.5), (8, 0.25)])
def test_searches_beyond_the_supports_cost(searches, expected) -> None:
    assert score(*[search(["a"])] * searches, answer("Oskel")) == pytest.approx(expected)


def test_opened_documents_are_calls_too() -> None:
    opened = ToolCall(tool="open", argument="a", hits=(), status="empty", latency_s=0.0)
    turn = replace(search(["a"]), calls=(*search(["a"]).calls, opened, opened, opened))
    assert score(turn, answer("Oskel")) == 0.5


def test_a_number_for_all_questions_needs_no_supports() -> None:
    bare = replace(QUESTION, supporting_ids=())
    assert score(*[search(["a"])] * 4, answer("Oskel"), question=bare, free=1) == 0.25
    assert math.isnan(score(answer("Oskel"), question=bare))


def test_tokens_are_those_that_the_policy_sampled() -> None:
    turns = [replace(search(["a"]), observation_ids=(5,) * 100), answer("Oskel")]  # 2 + 2 sampled
    assert score(*turns, unit="tokens", free=4) == 1.0
    assert score(*turns, unit="tokens", free=1) == 0.25


def test_only_right_answers_are_efficient_so_guessing_and_spamming_do_not_pay() -> None:
    honest = score(search(["a"]), search(["b"]), answer("Oskel"))
    assert honest == 1.0
    for cheat in ([answer("Lomira")], [answer(" ")], [search(["a"])], []):
        assert score(*cheat) == 0.0
    assert honest > score(search(["a", "b"], num_queries=20), answer("Oskel")) == pytest.approx(0.1)


def test_bounds_and_parameters() -> None:
    reward = EfficiencyReward(context())
    assert reward.bounds(correct=False, max_turns=4) == Bounds(low=0.0, high=0.0)
    assert reward.bounds(correct=True, max_turns=4) == Bounds(low=0.0, high=1.0)
    assert reward.bounds(correct=True, max_turns=1) == Bounds(low=1.0, high=1.0)
    with pytest.raises(ValueError, match="efficiency: with unit tokens, free has to say"):
        EfficiencyReward(context(), unit="tokens")
    with pytest.raises(ValueError, match=r"efficiency: unit must be one of \('searches', 'tokens'\), got 'turns'"):
        EfficiencyReward(context(), unit="turns")
    with pytest.raises(ValueError, match="efficiency: free must be a finite number >= 1"):
        EfficiencyReward(context(), free=0)
