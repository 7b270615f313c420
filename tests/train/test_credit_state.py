"""Baselines by state: which turns are compared, and what is left where a state is not known or not shared."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.trajectory import Shown, Unit
from tests.train.credit_units import estimator, per_turn, scored
from tests.train.fakes import trajectory, turn, unit_of
from train.credit.anchor import standardise_by_state
from train.credit.outcome import outcome_advantages
from train.credit.state import state_advantages
from train.credit.turn import turn_advantages

NAN = float("nan")


def unit_that_saw(*paths: Sequence[str]) -> Unit:
    """One trajectory a path; each turn shows the passages that its letters name."""
    members = []
    for i, path in enumerate(paths):
        turns = [
            replace(turn((4, 5), (6,)), shown=tuple(Shown(number=n, passage_id=p) for n, p in enumerate(letters, 1)))
            for letters in path
        ]
        members.append(trajectory(f"t{i}", turns))
    return Unit(kind="group", trajectories=tuple(members))


@given(
    st.lists(st.lists(st.tuples(st.floats(-2, 2, width=16), st.integers(-1, 2)), min_size=3, max_size=3), min_size=1)
)
def test_states_are_compared_one_by_one(turns: list[list[tuple[float, int]]]) -> None:
    values = np.array([[value for value, _ in row] for row in turns])
    states = np.array([[state for _, state in row] for row in turns])
    result = standardise_by_state(values, states)
    for i, j in np.ndindex(values.shape):
        peers = [(a, values[a, b]) for a, b in np.ndindex(values.shape) if states[a, b] == states[i, j]]
        if states[i, j] == -1:
            assert np.isnan(result[i, j])
        elif len({a for a, _ in peers}) < 2 or len({value for _, value in peers}) == 1:
            assert result[i, j] == 0.0
        else:
            group = np.array([value for _, value in peers])
            expected = (values[i, j] - group.mean()) / (group.std(ddof=1) + 1e-4)
            assert result[i, j] == pytest.approx(expected, abs=1e-9)


def test_paths_that_saw_the_same_meet_whatever_their_turn() -> None:
    """The first needed two turns to see a and b, the second one: their next turns are compared."""
    unit = unit_that_saw(["a", "b", ""], ["ba", ""], ["c", ""])
    rows = estimator("state", episode_weight=0.0)(unit, *scored(unit, [1.0, 0.0, 0.0]))
    first, second, third = (per_turn(row) for row in rows)
    start = outcome_advantages(np.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose([first[0], second[0], third[0]], start)
    met = outcome_advantages(np.array([1.0, 0.0]))
    np.testing.assert_allclose([first[2], second[1]], met)
    assert first[1] == third[1] == 0.0  # no other path stood there


def test_progress_is_what_a_reward_has_paid_before_the_turn_whatever_it_weighs() -> None:
    unit = unit_of([3, 2, 2])
    scores, weights = scored(unit, [1.0, 0.0, 0.0], [[0.0, 0.5, 0.0], [0.5, 0.0], [NAN, NAN]])
    made = estimator("state", state="hops_found", progress="steps", episode_weight=0.0)
    first, second, unknown = (per_turn(row) for row in made(unit, scores, {**weights, "steps": 0.0}))
    started = outcome_advantages(np.array([1.0, 1.0, 0.0]))  # the first stood at the start twice
    np.testing.assert_allclose([*first[:2], second[0]], started)
    np.testing.assert_allclose([first[2], second[1]], outcome_advantages(np.array([1.0, 0.0])))
    assert unknown == [0.0, 0.0]


def test_a_trajectory_of_unknown_state_keeps_its_episodes_advantage() -> None:
    unit = unit_of([1, 1, 1])
    scores, weights = scored(unit, [1.0, 0.0, 0.0], [[0.0], [0.0], [NAN]])
    rows = estimator("state", state="hops_found", progress="steps", omega=0.5)(unit, scores, weights)
    episode = outcome_advantages(np.array([1.0, 0.0, 0.0]))
    peers = outcome_advantages(np.array([1.0, 0.0]))
    np.testing.assert_allclose([per_turn(row)[0] for row in rows], [*(episode[:2] + 0.5 * peers), episode[2]])


def test_progress_cannot_be_read_off_a_reward_of_whole_trajectories() -> None:
    unit = unit_of([1, 1])
    with pytest.raises(ValueError, match="progress is 'em', which scores trajectories; name one of turns"):
        estimator("state", state="hops_found", progress="em")(unit, *scored(unit, [1.0, 0.0]))


def test_states_by_turn_index_alone_are_turn() -> None:
    rewards = np.array([[0.5, 1.0, 0.0], [0.0, 1.0, NAN], [0.0, NAN, NAN]])
    states = np.where(np.isnan(rewards), -1, np.arange(3))
    by_index = state_advantages(rewards, states, episode_weight=0.0, discount=0.5)
    np.testing.assert_allclose(by_index, turn_advantages(rewards, discount=0.5))


def test_turn_normalised_compares_turn_scores_by_state_and_outcomes_as_ever() -> None:
    """Progress comes in different turns; paid for itself, each find is compared with other turns at the start."""
    unit = unit_of([2, 2])
    scores, weights = scored(unit, [1.0, 0.0], [[0.0, 1.0], [1.0, 0.0]])
    made = estimator("turn_normalised", baseline="hops_found", progress="steps", process_discount=0.0)
    first, second = (per_turn(row) for row in made(unit, scores, weights))
    outcome = outcome_advantages(np.array([1.0, 0.0]))
    start = outcome_advantages(np.array([0.0, 1.0, 1.0]))
    np.testing.assert_allclose(first, outcome[0] + start[:2])
    np.testing.assert_allclose(second, [outcome[1] + start[2], outcome[1]])
