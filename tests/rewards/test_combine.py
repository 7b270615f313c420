"""A product that a utility can buy its way through is no bottom line."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.bounds import Bounds
from rewards.combine import GATED_PRODUCT, GatedProduct, gated_product, trajectory_totals
from rewards.compose import RewardTerm, build_rewards
from rewards.score import Scores
from tests.rewards.builders import QUESTION, answer, context, group, invalid, search, trajectory

NAN = float("nan")


def brute_force(b: list[float], u: list[float], w: list[float], delta: float) -> float:
    """One trajectory, in words of the formula."""
    b = [min(max(x, 0.0), 1.0) for x in b if not math.isnan(x)]
    pairs = [(min(max(x, 0.0), 1.0), k) for x, k in zip(u, w, strict=True) if not math.isnan(x)]
    if not b or sum(k for _, k in pairs) == 0:
        return NAN
    product = 1.0
    for x in b:
        product *= (x + delta) ** (1 / len(b))
    return product * sum(x * k for x, k in pairs) / sum(k for _, k in pairs)


SCORE = st.one_of(st.floats(-1, 2), st.just(NAN))


@given(
    b=st.lists(SCORE, min_size=1, max_size=3),
    u=st.lists(st.tuples(SCORE, st.floats(0, 3)), min_size=1, max_size=3),
    delta=st.sampled_from([1e-3, 0.1]),
)
def test_the_product_equals_the_formula(b: list[float], u: list[tuple[float, float]], delta: float) -> None:
    values, weights = [value for value, _ in u], [weight for _, weight in u]
    found = gated_product(np.array(b)[:, None], np.array(values)[:, None], np.array(weights), smoothing=delta)
    assert found[0] == pytest.approx(brute_force(b, values, weights, delta), nan_ok=True)


def test_one_breach_kills_the_reward_and_no_utility_buys_it_back() -> None:
    bottom = np.array([[1.0, 0.0], [1.0, 1.0]])
    best = gated_product(bottom, np.array([[0.1, 1.0]]), np.ones(1))
    assert best[0] > 3 * best[1]
    assert 0 < best[1] < 0.04


def test_a_negative_utility_does_not_pay_for_breaking_the_bottom_line() -> None:
    assert gated_product(np.array([[1.0, 0.0]]), np.array([[-1.0, -1.0]]), np.ones(1)).tolist() == [0.0, 0.0]


def test_turns_are_summed_and_then_clipped() -> None:
    scores = {
        "format": Scores(turn=(np.full(3, NAN), np.full(1, NAN)), outcome=np.array([1.0, 1.0])),
        "hops": Scores(turn=(np.array([0.6, NAN, 0.6]), np.array([NAN])), outcome=np.full(2, NAN)),
    }
    product = GatedProduct(bottom_line=("format",)).combined(scores, {"format": 1.0, "hops": 0.5})
    assert product.outcome[0] == pytest.approx(1.001), "1.2 is clipped to 1"
    assert np.isnan(product.outcome[1]), "no utility applies"
    assert [len(turn) for turn in product.turn] == [3, 1] and all(np.isnan(turn).all() for turn in product.turn)
    assert trajectory_totals(scores["hops"])[0] == pytest.approx(1.2)


def composed(**terms: dict):
    return build_rewards(
        {name: RewardTerm(**term) for name, term in terms.items()},
        context(),
        rule=GatedProduct(bottom_line=("format",)),
        total_steps=10,
    )


def test_credit_gets_the_product_alone_and_the_parts_stay_to_be_logged() -> None:
    composition = composed(format={}, exact_match={"weight": 3.0}, f1={"weight": 1.0}, citation_recall={"weight": 0.0})
    unit = group(
        trajectory(search(["a"]), answer("the town of Oskel")),
        trajectory(invalid(), answer("Oskel"), sample=1),
        trajectory(search(["a"]), finish="engine_failure", sample=2),
    )
    scores = composition.score(unit, {"q": QUESTION})
    assert composition.weights == {
        "format": 0.0, "exact_match": 0.0, "f1": 0.0, "citation_recall": 0.0, GATED_PRODUCT: 1.0,
    }  # fmt: skip
    assert composition.logged_weights["exact_match"] == 3.0 and composition.logged_weights[GATED_PRODUCT] == 1.0
    assert list(scores) == ["format", "exact_match", "f1", "citation_recall", GATED_PRODUCT]
    f1 = scores["f1"].outcome[0]
    assert 0 < f1 < 1
    np.testing.assert_allclose(scores[GATED_PRODUCT].outcome, [1.001 * f1 / 4, 0.001, NAN])


def test_a_utilitys_schedule_moves_the_mean() -> None:
    composition = composed(format={}, exact_match={}, f1={"schedule": {"kind": "linear", "steps": 2}})
    unit = group(trajectory(search(["a"]), answer("the town of Oskel")))
    found = []
    for _ in range(3):
        found.append(composition.score(unit, {"q": QUESTION})[GATED_PRODUCT].outcome[0])
        composition.advance()
    f1 = composition.score(unit, {"q": QUESTION})["f1"].outcome[0]
    np.testing.assert_allclose(found, [1.001 * f1 / 2, 1.001 * 0.5 * f1 / 1.5, 0.0])


def test_a_rule_that_does_not_fit_the_rewards_is_refused() -> None:
    with pytest.raises(ValueError, match="the bottom line names 'format', which is no reward"):
        composed(exact_match={})
    with pytest.raises(ValueError, match="is the name of the product; rename it"):
        composed(format={}, gated_product={"use": "f1"})


@given(
    b=st.tuples(st.floats(-1, 2), st.floats(-1, 2)),
    u=st.tuples(st.floats(-1, 2), st.floats(-1, 2)),
    missing=st.sampled_from([frozenset(), frozenset({"u0"}), frozenset({"b0"}), frozenset({"u0", "u1"})]),
    data=st.data(),
)
def test_bounds_of_the_product_hold_whatever_the_parts_are(b, u, missing, data) -> None:
    bounds = {
        name: Bounds(low=min(pair), high=max(pair)) for name, pair in zip(("b0", "u0", "u1"), (b, u, u), strict=True)
    }
    bounds["b1"] = Bounds(low=0.2, high=0.9)
    rule = GatedProduct(bottom_line=("b0", "b1"))
    weights = {"b0": 1.0, "b1": 1.0, "u0": 2.0, "u1": 0.5}
    claimed = rule.bounds(bounds, weights, missing)
    drawn = {name: data.draw(st.floats(one.low, one.high)) for name, one in bounds.items()}
    for name in missing:
        drawn[name] = data.draw(st.sampled_from([NAN, drawn[name]]))
    value = brute_force([drawn["b0"], drawn["b1"]], [drawn["u0"], drawn["u1"]], [2.0, 0.5], 1e-3)
    assert claimed.low - 1e-9 <= (0.0 if math.isnan(value) else value) <= claimed.high + 1e-9
