from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.hop_potential import HopPotentialReward
from rewards.relevance import HopRelevanceReward
from tests.rewards.builders import QUESTION, answer, context, group, invalid, search, trajectory


def turns(*steps, finish=None, question=QUESTION, **params) -> np.ndarray:
    unit = group(trajectory(*steps, finish=finish))
    return HopPotentialReward(context(), **params)(unit, {"q": question}).turn[0]


def test_progress_is_paid_when_made_and_taken_back_at_the_end() -> None:
    steps = (search(["x"]), search(["a"]), search(["a", "b"]), answer("Oskel"))
    assert turns(*steps, value=1.0).tolist() == [0.0, 0.5, 0.5, -1.0]
    assert turns(*steps, value=1.0, terminal="keep").tolist() == [0.0, 0.5, 0.5, 0.0]
    assert turns(*steps, value=1.0, terminal="answer").tolist() == [0.0, 0.5, 0.5, 0.0]
    assert turns(*steps[:3], answer("no"), value=1.0, terminal="answer").tolist() == [0.0, 0.5, 0.5, -1.0]


def test_the_discount_is_that_of_the_state_reached() -> None:
    steps = (search(["a"]), search(["b"]), answer("Oskel"))
    np.testing.assert_allclose(turns(*steps, value=1.0, discount=0.9), [0.45, 0.9 - 0.5, -1.0])


def test_a_candidate_that_was_cut_keeps_what_it_found() -> None:
    assert turns(search(["a"]), search(["b"]), finish="cut", value=1.0).tolist() == [0.5, 0.5]
    assert turns(search(["a"]), search(["b"]), finish="turn_limit", value=1.0).tolist() == [0.5, -0.5]


steps = st.lists(st.lists(st.sampled_from("abcxyz"), max_size=4).map(search) | st.just(invalid()), max_size=6)
ends = st.sampled_from([answer("Oskel"), answer("no"), search(["a", "b"])])


@given(steps, ends)
def test_the_sum_telescopes(before, last) -> None:
    assert turns(*before, last).sum() == pytest.approx(0.0, abs=1e-12)
    hops = HopRelevanceReward(context(), value=0.5, normalise=True)(group(trajectory(*before, last)), {"q": QUESTION})
    np.testing.assert_allclose(turns(*before, last, terminal="keep"), hops.turn[0], atol=1e-12)
    right = last.action.answer == "Oskel"
    assert turns(*before, last, terminal="answer").sum() == pytest.approx(0.5 * right)


@given(steps, ends, st.sampled_from([1.0, 0.9, 0.5]))
def test_returns_to_go_are_the_state_alone(before, last, discount: float) -> None:
    """The discounted return from turn t on is -F(s_t): the same for everything that can be done from there."""
    paid = turns(*before, last, value=1.0, discount=discount)
    for t in range(len(paid)):
        found = {s.passage_id for turn in before[:t] for s in turn.shown} & {"a", "b"}
        to_go = sum(discount ** (k - t) * paid[k] for k in range(t, len(paid)))
        assert to_go == pytest.approx(-len(found) / 2, abs=1e-9)


HONEST = (search(["a", "x"]), search(["b", "z"]), answer("Oskel"))


@pytest.mark.parametrize(
    "cheat",
    [
        pytest.param((search(["a"]), search(["a"]), search(["a"]), answer("Oskel")), id="repeated query"),
        pytest.param((search(["x", "y", "z"], num_queries=9), answer("Oskel")), id="query spamming off the subject"),
        pytest.param((answer("Oskel"),), id="not searching"),
        pytest.param((search(["x"], hits=["a", "b"]), answer("Oskel")), id="asking for more than is shown"),
    ],
)
def test_cheats_earn_nothing_with_zero_and_less_than_honest_searches_with_keep(cheat) -> None:
    assert turns(*cheat).sum() == pytest.approx(0.0)
    assert turns(*cheat, terminal="keep").sum() < turns(*HONEST, terminal="keep").sum()


def test_without_annotation_it_does_not_apply() -> None:
    assert np.isnan(turns(*HONEST, question=replace(QUESTION, supporting_ids=()))).all()
    bare = replace(QUESTION, golden_answers=())
    assert np.isnan(turns(*HONEST, question=bare, terminal="answer")).all()
    assert not np.isnan(turns(*HONEST, question=bare)).any()
    assert np.isnan(turns(*HONEST[:2], finish="retrieval_outage")).all()


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match=r"hop_potential: discount must be in \[0, 1\], got 1\.5"):
        HopPotentialReward(context(), discount=1.5)
    with pytest.raises(ValueError, match=r"terminal must be one of .*got 'none'"):
        HopPotentialReward(context(), terminal="none")
    with pytest.raises(ValueError, match="value must be a finite number >= 0, got inf"):
        HopPotentialReward(context(), value=float("inf"))
