import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.relevance import HopRelevanceReward
from tests.rewards.builders import QUESTION, answer, context, group, search, trajectory


def score(*turns, **params) -> list[float]:
    unit = group(trajectory(*turns))
    return HopRelevanceReward(context(), **params)(unit, {"q": QUESTION}).turn[0].tolist()


def test_each_support_is_paid_once_at_the_turn_that_first_showed_it() -> None:
    assert score(search(["x", "a"]), search(["a", "b"]), answer("Oskel")) == [0.5, 0.5, 0.0]
    assert score(search(["a", "b"]), search(["a", "b"]), answer("Oskel")) == [1.0, 0.0, 0.0]


def test_what_the_budget_cut_is_not_paid() -> None:
    assert score(search(["x"], hits=["x", "a"]), search(["a"])) == [0.0, 0.5]


def test_a_support_seen_twice_in_one_turn_is_paid_once() -> None:
    assert score(search(["a", "a"], num_queries=2)) == [0.5]


def test_normalised_pays_the_value_over_all_supports() -> None:
    assert score(search(["a"]), search(["b"]), value=1.0, normalise=True) == [0.5, 0.5]
    assert score(search(["a"]), search(["b"]), value=1.0) == [1.0, 1.0]


def test_supports_that_are_listed_twice_count_once() -> None:
    from dataclasses import replace

    question = replace(QUESTION, supporting_ids=("a", "a", "b"))
    unit = group(trajectory(search(["a"]), search(["b"])))
    values = HopRelevanceReward(context(), value=1.0, normalise=True)(unit, {"q": question}).turn[0]
    assert values.tolist() == [0.5, 0.5]


HONEST = (search(["a", "x"]), search(["b", "z"]), answer("Oskel"))


@pytest.mark.parametrize(
    "cheat",
    [
        pytest.param(
            (search(["a", "x"]), search(["a", "x"]), search(["a", "x"]), answer("Oskel")), id="repeated query"
        ),
        pytest.param((search(["x", "y", "z"], num_queries=9), answer("Oskel")), id="query spamming off the subject"),
        pytest.param((answer("Oskel"),), id="not searching"),
        pytest.param((search(["x"], hits=["a", "b"]), answer("Oskel")), id="asking for more than is shown"),
    ],
)
def test_cheats_earn_less_than_two_honest_searches(cheat) -> None:
    assert sum(score(*cheat)) < sum(score(*HONEST))


def test_a_search_price_makes_spamming_that_finds_everything_worse() -> None:
    spam = (search(["a", "b", "x", "y", "z"], num_queries=12), answer("Oskel"))
    assert sum(score(*spam)) == sum(score(*HONEST))
    assert sum(score(*spam, search_price=0.05)) < sum(score(*HONEST, search_price=0.05))


ids = st.lists(st.sampled_from("abcxyz"), max_size=5)


@given(st.lists(ids, max_size=6), st.data())
def test_duplicate_searches_never_raise_the_sum(shown: list[list[str]], data: st.DataObject) -> None:
    turns = [search(s) for s in shown]
    reward = HopRelevanceReward(context())
    plain = reward(group(trajectory(*turns)), {"q": QUESTION}).turn[0].sum()
    assert 0.0 <= plain <= 1.0
    if turns:
        copied = data.draw(st.integers(0, len(turns) - 1))
        at = data.draw(st.integers(0, len(turns)))
        turns.insert(at, turns[copied])
        assert reward(group(trajectory(*turns)), {"q": QUESTION}).turn[0].sum() == plain


@given(st.lists(ids, min_size=1, max_size=6))
def test_normalised_sum_is_the_share_of_supports_that_were_shown(shown: list[list[str]]) -> None:
    reward = HopRelevanceReward(context(), value=1.0, normalise=True)
    values = reward(group(trajectory(*map(search, shown))), {"q": QUESTION}).turn[0]
    share = len({"a", "b"} & {i for s in shown for i in s}) / 2
    assert np.isclose(values.sum(), share) and (values >= 0).all()


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match="hop_relevance: value must be a finite number >= 0, got -1"):
        HopRelevanceReward(context(), value=-1)
    with pytest.raises(ValueError, match="normalise must be true or false, got 'yes'"):
        HopRelevanceReward(context(), normalise="yes")
