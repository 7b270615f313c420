"""A gate that opens where it should not pays for what the config says is worth nothing."""

from dataclasses import replace

import numpy as np
import pytest

from agent.trajectory import FinishReason
from rewards.bounds import Bounds
from rewards.gates import GATE_NEEDS, Gate, bounds_behind, gate_state, gate_states, gated
from rewards.score import Scores
from tests.rewards.builders import QUESTION, answer, group, invalid, search, trajectory

RIGHT = trajectory(search(["a"]), answer("Oskel"))
WRONG = trajectory(search(["a"]), answer("Lomira"), sample=1)
BLANK = trajectory(search(["a"]), answer("  "), sample=2)
SILENT = trajectory(search(["a"]), search(["b"]), sample=3)
FORGED = trajectory(invalid(), answer("Oskel"), sample=4)
FORGED_WRONG = trajectory(invalid(), answer("Lomira"), sample=5)
EMPTY = trajectory(finish="token_limit", sample=6)
EPISODES = (RIGHT, WRONG, BLANK, SILENT, FORGED, FORGED_WRONG, EMPTY)


@pytest.mark.parametrize(
    ("gate", "states"),
    [
        ("correct", [1, 0, 0, 0, 1, 0, 0]),
        ("wrong", [0, 1, 0, 0, 0, 1, 0]),
        ("em_first", [0, 1, 1, 1, 0, 1, 1]),
        ("answered", [1, 1, 0, 0, 1, 1, 0]),
        ("well_formed", [1, 1, 1, 1, 0, 0, 0]),
    ],
)
def test_where_each_gate_is_open(gate: Gate, states: list[float]) -> None:
    assert [gate_state(gate, episode, QUESTION) for episode in EPISODES] == states


def test_of_several_gates_all_must_be_open() -> None:
    unit = group(*EPISODES)
    assert gate_states(("em_first", "answered"), unit, {"q": QUESTION}).tolist() == [0, 1, 0, 0, 0, 1, 0]
    assert gate_states(("correct", "well_formed"), unit, {"q": QUESTION}).tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert gate_states((), unit, {"q": QUESTION}).tolist() == [1] * 7


@pytest.mark.parametrize("reason", ["retrieval_outage", "engine_failure"])
def test_an_outage_has_no_gate(reason: FinishReason) -> None:
    lost = trajectory(search(["a"]), finish=reason)
    assert all(np.isnan(gate_state(gate, lost, QUESTION)) for gate in GATE_NEEDS)


def test_what_the_sampler_cut_has_no_end_to_be_judged_by() -> None:
    cut = trajectory(search(["a"]), finish="cut")
    states = {gate: gate_state(gate, cut, QUESTION) for gate in GATE_NEEDS}
    assert states.pop("well_formed") == 1.0
    assert all(np.isnan(state) for state in states.values())


def test_without_gold_answers_right_and_wrong_cannot_be_told() -> None:
    bare = replace(QUESTION, golden_answers=())
    for gate, needs in GATE_NEEDS.items():
        states = [gate_state(gate, episode, bare) for episode in (RIGHT, WRONG)]
        assert all(np.isnan(states)) if needs else states == [1.0, 1.0]
    assert np.isnan(gate_states(("correct", "answered"), group(RIGHT), {"q": bare})).all()
    assert gate_states(("correct", "answered"), group(SILENT), {"q": bare}).tolist() == [0.0], "one is closed for sure"


def test_closed_is_zero_and_nan_stays_nan_in_turns_and_outcome() -> None:
    scores = Scores(
        turn=(np.array([0.5, np.nan]), np.array([0.5, np.nan]), np.array([0.5])), outcome=np.array([1.0, -1.0, np.nan])
    )
    behind = gated(scores, np.array([1.0, 0.0, np.nan]))
    np.testing.assert_array_equal(behind.turn[0], [0.5, np.nan])
    np.testing.assert_array_equal(behind.turn[1], [0.0, np.nan])
    np.testing.assert_array_equal(behind.turn[2], [np.nan])
    np.testing.assert_array_equal(behind.outcome, [1.0, 0.0, np.nan])
    assert not np.signbit(behind.outcome[1]), "a price behind a closed gate is 0, not -0"


@pytest.mark.parametrize("gate", list(GATE_NEEDS))
def test_bounds_behind_a_gate_hold_every_episode(gate: Gate) -> None:
    """What the gate leaves of a reward in [-1, 2], brute force over episodes, against the bounds that it claims."""
    for correct in (True, False):
        claimed = bounds_behind((gate,), Bounds(low=-1.0, high=2.0), correct=correct)
        episodes = [e for e in EPISODES if (e in (RIGHT, FORGED)) == correct]
        values = [gate_state(gate, e, QUESTION) * value for e in episodes for value in (-1.0, 2.0)]
        assert (min(values), max(values)) == (claimed.low, claimed.high), "and no wider than need be"


def test_a_gate_only_right_answers_pass_leaves_wrong_ones_nothing_even_without_bounds() -> None:
    endless = Bounds(low=-np.inf, high=np.inf)
    assert bounds_behind(("correct",), endless, correct=False) == Bounds(low=0.0, high=0.0)
    assert bounds_behind(("correct",), endless, correct=True) == endless
    assert bounds_behind(("em_first", "well_formed"), endless, correct=True) == Bounds(low=0.0, high=0.0)
