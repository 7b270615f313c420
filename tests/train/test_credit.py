"""The estimators as arithmetic: equal to TRL's numbers, invariant where they must be, silent about NaN."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from trl.trainer.utils import nanstd

from train.credit.baseline import returns_to_go, standardise
from train.credit.outcome import outcome_advantages
from train.credit.turn import turn_advantages

finite = st.floats(-10, 10, allow_nan=False, width=16)
scores = hnp.arrays(np.float64, st.integers(2, 9), elements=finite)


@st.composite
def ragged(draw: st.DrawFn, least: int = 2) -> np.ndarray:
    """Turn rewards `[num_trajectories, max_turns]`, NaN after each trajectory's last turn."""
    turns = draw(st.lists(st.integers(1, 4), min_size=least, max_size=7))
    rewards = draw(hnp.arrays(np.float64, (len(turns), max(turns)), elements=finite))
    return np.where(np.arange(max(turns)) < np.asarray(turns)[:, None], rewards, np.nan)


@given(scores)
def test_outcome_equals_trl(rewards: np.ndarray) -> None:
    tensor = torch.from_numpy(rewards)
    expected = (tensor - tensor.nanmean()) / (nanstd(tensor) + 1e-4)
    np.testing.assert_allclose(outcome_advantages(rewards), expected.numpy(), atol=1e-9)


def test_outcome_equals_trl_where_a_member_could_not_be_scored() -> None:
    tensor = torch.tensor([1.0, float("nan"), 0.0, 0.0], dtype=torch.float64)
    expected = (tensor - tensor.nanmean()) / (nanstd(tensor) + 1e-4)
    np.testing.assert_allclose(outcome_advantages(tensor.numpy()), expected.numpy(), equal_nan=True)


@given(scores)
def test_one_turn_everywhere_is_outcome(rewards: np.ndarray) -> None:
    np.testing.assert_array_equal(turn_advantages(rewards[:, None])[:, 0], outcome_advantages(rewards))


@given(ragged(), st.floats(-5, 5))
def test_a_constant_added_to_the_last_turn_changes_nothing(rewards: np.ndarray, constant: float) -> None:
    """Each turn's return to go moves by the same amount for everyone who has the turn."""
    last = (~np.isnan(rewards)).sum(axis=1) - 1
    shifted = rewards.copy()
    shifted[np.arange(len(rewards)), last] += constant
    before, after = (standardise(returns_to_go(r), scale=False) for r in (rewards, shifted))
    np.testing.assert_allclose(after, before, atol=1e-9, equal_nan=True)


@given(ragged(), st.floats(0.1, 8))
def test_a_scale_on_all_rewards_scales_the_mean_and_hardly_moves_the_z_score(
    rewards: np.ndarray, factor: float
) -> None:
    plain, scaled = (turn_advantages(r, scale=False) for r in (rewards, rewards * factor))
    np.testing.assert_allclose(scaled, plain * factor, atol=1e-8, equal_nan=True)
    deviation = np.nanstd(returns_to_go(rewards), axis=0)
    steady = deviation > 0.2  # below, the 1e-4 in the denominator shows
    plain, scaled = (turn_advantages(r)[:, steady] for r in (rewards, rewards * factor))
    np.testing.assert_allclose(scaled, plain, rtol=0.02, atol=1e-6, equal_nan=True)


@given(ragged(), st.randoms(use_true_random=False))
def test_the_order_of_the_group_does_not_matter(rewards: np.ndarray, random: object) -> None:
    order = np.arange(len(rewards))
    random.shuffle(order)  # type: ignore[attr-defined]
    np.testing.assert_allclose(
        turn_advantages(rewards[order]), turn_advantages(rewards)[order], atol=1e-6, equal_nan=True
    )


@given(ragged())
def test_a_trajectory_of_nan_changes_no_other(rewards: np.ndarray) -> None:
    nobody = np.full((1, rewards.shape[1]), np.nan)
    with_it = turn_advantages(np.concatenate([nobody, rewards]))
    assert np.isnan(with_it[0]).all()
    np.testing.assert_allclose(with_it[1:], turn_advantages(rewards), atol=1e-9, equal_nan=True)


@given(st.floats(-3, 3), st.integers(1, 8))
def test_no_variance_gives_exactly_zero(reward: float, size: int) -> None:
    assert (outcome_advantages(np.full(size, reward)) == 0.0).all()
    assert (turn_advantages(np.full((size, 2), reward)) == 0.0).all()


def test_a_turn_that_one_trajectory_has_gets_zero() -> None:
    advantages = turn_advantages(np.array([[0.0, 9.0], [1.0, np.nan], [2.0, np.nan]]))
    assert advantages[0, 1] == 0.0
    assert np.isnan(advantages[1:, 1]).all()


def test_a_turn_is_paid_for_what_comes_after_it_and_not_for_what_came_before() -> None:
    found = np.array([[1.0, 0.0], [0.0, 0.0]])
    late = np.array([[0.0, 1.0], [0.0, 0.0]])
    assert turn_advantages(found)[0, 0] > 0 and turn_advantages(found)[0, 1] == 0.0
    assert turn_advantages(late)[0, 0] > 0 and turn_advantages(late)[0, 1] > 0


def test_returns_to_go_are_discounted_per_turn_and_nan_where_nothing_follows() -> None:
    rewards = np.array([[1.0, np.nan, 4.0, np.nan], [np.nan, np.nan, np.nan, np.nan]])
    expected = np.array([[2.0, 2.0, 4.0, np.nan], [np.nan] * 4])
    np.testing.assert_array_equal(returns_to_go(rewards, discount=0.5), expected)


@given(st.integers(0, 2**16), st.floats(0.05, 0.95))
def test_the_gradient_goes_to_the_better_arm(seed: int, share: float) -> None:
    """A policy over two arms, the second of which pays: the expected-return gradient raises its logit."""
    arms = (np.random.default_rng(seed).random(8) < share).astype(np.float64)
    advantages = outcome_advantages(arms)
    logit = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    logprobs = torch.where(torch.from_numpy(arms) == 1, logit, -logit).sigmoid().log()
    (torch.from_numpy(advantages) * logprobs).sum().backward()
    assert logit.grad is not None
    mixed = 0 < arms.sum() < len(arms)
    assert (logit.grad.item() > 0) if mixed else (logit.grad.item() == 0)


def test_an_infinite_return_is_refused() -> None:
    with pytest.raises(ValueError, match="infinite"):
        outcome_advantages(np.array([1.0, np.inf]))
