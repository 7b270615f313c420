import math

import pytest

from rewards.never_answering import NeverAnsweringReward
from tests.rewards.builders import QUESTION, answer, context, group, search, trajectory


def score(*trajectories, price: float = 1.0) -> list[float]:
    return NeverAnsweringReward(context(), price=price)(group(*trajectories), {"q": QUESTION}).outcome.tolist()


@pytest.mark.parametrize("finish", ["no_answer", "turn_limit", "token_limit", "malformed"])
def test_an_episode_without_an_answer_pays_the_price(finish) -> None:
    assert score(trajectory(search(["a"]), finish=finish), price=0.7) == [-0.7]
    assert score(trajectory(finish=finish)) == [-1.0]


def test_honest_answer_pays_nothing_and_a_blank_one_does_not_escape() -> None:
    assert score(trajectory(search(["a"]), answer("London")), trajectory(answer(" "), sample=1)) == [0.0, -1.0]


@pytest.mark.parametrize("finish", ["retrieval_outage", "engine_failure"])
def test_an_outage_is_not_a_refusal_to_answer(finish) -> None:
    assert math.isnan(score(trajectory(search(["a"]), finish=finish))[0])


def test_with_the_price_answering_beats_searching_on() -> None:
    """The collapse on three hops: hop rewards alone pay more for going on than for answering."""
    from rewards.relevance import HopRelevanceReward

    searcher = trajectory(search(["a"]), search(["b"]), search(["c"]), search(["c"]))
    honest = trajectory(search(["a"]), answer("Lomira"), sample=1)
    unit = group(searcher, honest)
    hops = [t.sum() for t in HopRelevanceReward(context())(unit, {"q": QUESTION}).turn]
    assert hops[0] > hops[1]
    prices = score(searcher, honest)
    assert hops[0] + prices[0] < hops[1] + prices[1]


def test_the_price_is_checked() -> None:
    with pytest.raises(ValueError, match="never_answering: price must be a finite number >= 0, got nan"):
        NeverAnsweringReward(context(), price=float("nan"))
