"""StepSearch's placement: which token earns what, against a plain loop, and `turn` where nothing is discounted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.trajectory import Unit
from tests.train.credit_units import estimator, per_turn, scored
from tests.train.fakes import trajectory, turn, unit_of
from train.credit.step_tokens import step_token_advantages, token_returns
from train.credit.turn import turn_advantages

NAN = float("nan")


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.floats(-2, 2)), min_size=1, max_size=5), st.floats(0, 1)
)
def test_a_reward_falls_on_the_last_token_of_its_action(turns: list[tuple[int, int, float]], discount: float) -> None:
    """Each sampled token earns every later reward, discounted by the sampled tokens that lie between."""
    index = np.array([v for i, (own, read, _) in enumerate(turns) for v in [i] * own + [-1] * read], dtype=np.int64)
    sampled = [place for place, turn_of in enumerate(index) if turn_of >= 0]
    expected = np.full(len(index), NAN)
    for at, place in enumerate(sampled):
        total = 0.0
        for number, (_, _, reward) in enumerate(turns):
            ends = [k for k, other in enumerate(sampled) if index[other] <= number]
            if ends and ends[-1] >= at:
                total += discount ** (ends[-1] - at) * reward
        expected[place] = total
    rewards = np.array([reward for _, _, reward in turns])
    np.testing.assert_allclose(token_returns(rewards, index, discount=discount), expected, atol=1e-9)


@given(
    st.lists(st.lists(st.floats(-2, 2, width=16), min_size=1, max_size=4), min_size=2, max_size=6),
    st.lists(st.floats(0, 1, width=16), min_size=6, max_size=6),
)
def test_without_a_discount_it_is_turn_with_the_steps_scaled(steps: list[list[float]], em: list[float]) -> None:
    unit = unit_of([len(values) for values in steps])
    em = em[: len(steps)]
    rewards = np.full((len(steps), max(map(len, steps))), NAN)
    for row, values in enumerate(steps):
        rewards[row, : len(values)] = 0.6 * np.asarray(values)
        rewards[row, len(values) - 1] += em[row]
    expected = turn_advantages(rewards)
    rows = estimator("step_tokens")(unit, *scored(unit, em, steps))
    for row, values, advantages in zip(rows, steps, expected, strict=True):
        np.testing.assert_allclose(per_turn(row), advantages[: len(values)], atol=1e-6)


def test_the_public_codes_scale_is_one_number_away() -> None:
    unit = unit_of([2, 2])
    scores = scored(unit, [0.0, 1.0], [[1.0, 0.0], [0.0, 0.0]])
    intended, public = (estimator("step_tokens", step_scale=scale)(unit, *scores) for scale in (0.6, 1.6))
    assert per_turn(intended[0])[0] < 0 < per_turn(public[0])[0]  # 0.6 < 1 < 1.6


def test_with_a_discount_the_tokens_nearest_to_the_reward_earn_most() -> None:
    members = [trajectory(f"t{i}", [turn((4, 5, 6), (7,)), turn((8,))]) for i in range(2)]
    unit = Unit(kind="group", trajectories=tuple(members))
    good, _ = estimator("step_tokens", token_discount=0.5)(unit, *scored(unit, [0.0, 0.0], [[1.0, 0.0], [0.0, 0.0]]))
    first = good.advantages[:3]
    assert 0 > first[0] < first[1] < first[2]
    assert good.advantages[3:].tolist() == [0.0, 0.0]


def test_a_long_action_weighs_no_more_in_the_baseline_than_a_short_one() -> None:
    returns = [np.array([1.0, 1.0, 1.0, 1.0]), np.array([0.0])]
    index = [np.zeros(4, dtype=np.int64), np.zeros(1, dtype=np.int64)]
    long, short = step_token_advantages(returns, index, max_turns=1)
    np.testing.assert_allclose(long, -short[0])


@pytest.mark.parametrize("discount", [0.5, 1.0])
def test_turns_that_return_the_same_in_every_trajectory_teach_nothing(discount: float) -> None:
    unit = unit_of([2, 2])
    rows = estimator("step_tokens", token_discount=discount)(unit, *scored(unit, [1.0, 1.0], [[0.5, 0.0]] * 2))
    assert all((row.advantages == 0.0).all() for row in rows)
