import math
from dataclasses import replace

import pytest

from rewards.bounds import Bounds
from rewards.coverage import CoverageReward
from tests.rewards.builders import QUESTION, answer, context, group, search, trajectory


def score(*turns, question=QUESTION, finish=None, **params) -> float:
    unit = group(trajectory(*turns, question=question, finish=finish))
    return float(CoverageReward(context(), **params)(unit, {question.id: question}).outcome[0])


def test_the_best_turn_counts_or_all_turns_together() -> None:
    one_by_one = search(["a", "x"]), search(["b"]), answer("Oskel")
    assert score(*one_by_one) == pytest.approx(0.1)
    assert score(*one_by_one, variant="union") == pytest.approx(0.2)
    at_once = search(["x"]), search(["b", "a", "a"]), answer("Oskel")
    assert score(*at_once) == score(*at_once, variant="union") == pytest.approx(0.2)


@pytest.mark.parametrize(("searches", "exponent"), [(1, 0), (2, 0), (3, 2), (4, 3), (5, 4)])
def test_turns_beyond_the_third_are_discounted_by_their_index(searches, exponent) -> None:
    turns = [search(["a", "b"])] * searches
    assert score(*turns, answer("Oskel"), value=1.0) == pytest.approx(0.95**exponent)
    assert score(*turns, answer("Oskel"), value=1.0, discount=0.5) == pytest.approx(0.5**exponent)


def test_f1_is_added_before_the_discount() -> None:
    turns = [search(["a"])] * 3
    assert score(*turns, answer("town Oskel"), f1=True) == pytest.approx((2 / 3 + 0.1) * 0.95**2)
    assert score(answer("Oskel"), f1=True) == 1.0


def test_honest_beats_searching_on_spamming_and_never_answering() -> None:
    for variant in ("best", "union"):
        honest = score(search(["a"]), search(["b"]), answer("Oskel"), variant=variant)
        assert honest > score(*[search(["a"])] * 6, answer("Oskel"), variant=variant)
        assert honest > score(search(["a", "b"]), search(["a", "b"]), variant=variant)
        assert honest > score(search(["x", "y", "z", "c"], num_queries=20), answer("Oskel"), variant=variant)
        assert score(search(["a", "b"]), answer(" "), variant=variant) == 0.0


def test_what_does_not_apply_and_what_is_refused() -> None:
    assert math.isnan(score(search(["a"]), answer("Oskel"), question=replace(QUESTION, supporting_ids=())))
    assert math.isnan(score(search(["a"]), finish="engine_failure"))
    assert score(finish="token_limit") == 0.0
    assert score(search([]), answer("Oskel")) == 0.0
    assert math.isnan(score(answer("x"), question=replace(QUESTION, golden_answers=()), f1=True))
    with pytest.raises(ValueError, match=r"coverage: variant must be one of \('best', 'union'\), got 'all'"):
        CoverageReward(context(), variant="all")
    with pytest.raises(ValueError, match="coverage: discount must be at most 1"):
        CoverageReward(context(), discount=1.1)


def test_bounds() -> None:
    assert CoverageReward(context()).bounds(correct=True, max_turns=6) == Bounds(low=0.0, high=0.2)
    assert CoverageReward(context()).bounds(correct=False, max_turns=1) == Bounds(low=0.0, high=0.0)
    with_f1 = CoverageReward(context(), f1=True)
    assert with_f1.bounds(correct=True, max_turns=6) == Bounds(low=0.95**4, high=1.2)
    assert with_f1.bounds(correct=False, max_turns=6) == Bounds(low=0.0, high=1.2)
    assert score(*[search([])] * 5, answer("Oskel"), f1=True) == pytest.approx(0.95**4)  # the lowest right answer
    reordered = replace(QUESTION, golden_answers=("Oskel Vann",))
    assert score(search(["a", "b"]), answer("Vann Oskel"), question=reordered, f1=True) == pytest.approx(1.2)
