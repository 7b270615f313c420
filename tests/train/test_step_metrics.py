"""The figures of a step: means over what applies, outages left out, nothing invented where nothing applies."""

from dataclasses import replace

import numpy as np
import pytest

from agent.action import Action
from agent.trajectory import Trajectory, Unit
from envs.question import Question
from rewards.score import Scores
from tests.train.fakes import unit_of
from train.step_metrics import composition_metrics, rollout_metrics, staleness_metrics

QUESTION = Question(id="q", text="Where?", golden_answers=("Oskel",))
NAN = float("nan")


def said(trajectory: Trajectory, answer: str) -> Trajectory:
    last = replace(trajectory.turns[-1], action=Action(kind="answer", answer=answer))
    return replace(trajectory, turns=(*trajectory.turns[:-1], last))


def test_outages_are_told_apart_and_count_in_no_mean() -> None:
    unit = unit_of([2, 1, 3], finish=["answered", "answered", "retrieval_outage"])
    right, wrong, lost = unit.trajectories
    unit = Unit(kind="group", trajectories=(said(right, "oskel"), said(wrong, "Lomira"), lost))
    scores = {
        "em": Scores.of_outcome(unit, np.array([1.0, 0.0, NAN])),
        "hops": Scores.of_turns(unit, [np.array([0.5, 0.5]), np.array([0.0]), np.full(3, NAN)]),
    }
    values = rollout_metrics([unit], [scores], {"q": QUESTION})
    assert values["em"] == 0.5
    assert values["turns"] == 1.5
    assert values["finish_ratio/retrieval_outage"] == pytest.approx(1 / 3)
    assert (values["rewards/em/mean"], values["rewards/hops/mean"]) == (0.5, 0.5)
    assert values["frac_reward_zero_std/em"] == 0.0


def test_a_group_without_spread_is_counted_for_each_reward() -> None:
    unit = unit_of([1, 1])
    scores = {"em": Scores.of_outcome(unit, np.zeros(2)), "f1": Scores.of_outcome(unit, np.array([0.0, 0.5]))}
    values = rollout_metrics([unit], [scores], {"q": QUESTION})
    assert (values["frac_reward_zero_std/em"], values["frac_reward_zero_std/f1"]) == (1.0, 0.0)


def test_a_reward_that_applied_to_nothing_has_no_mean() -> None:
    unit = unit_of([1, 1])
    values = rollout_metrics([unit], [{"em": Scores.of_outcome(unit, np.full(2, NAN))}], {"q": QUESTION})
    assert not [name for name in values if name.startswith(("rewards/", "frac_"))]


def with_versions(trajectory: Trajectory, *versions: tuple[int, int]) -> Trajectory:
    """Two sampled tokens a turn, each with its version."""
    turns = [replace(t, action_versions=v) for t, v in zip(trajectory.turns, versions, strict=True)]
    return replace(trajectory, turns=tuple(turns))


def test_staleness_is_counted_in_versions_behind_the_one_that_learns() -> None:
    unit = unit_of([2, 1, 1, 0], finish=["answered", "answered", "engine_failure", "no_answer"])
    a, b, lost, empty = unit.trajectories
    members = (with_versions(a, (3, 3), (3, 4)), with_versions(b, (5, 5)), with_versions(lost, (0, 1)), empty)
    unit = Unit(kind="group", trajectories=members)
    scores = {"em": Scores.of_outcome(unit, np.array([1.0, 0.0, NAN, 0.0]))}
    values = rollout_metrics([unit], [scores], {"q": QUESTION}, version=5)
    assert values["staleness/mean"] == pytest.approx((2 + 2 + 2 + 1 + 0 + 0) / 6)
    assert values["staleness/max"] == 2.0, "what an outage has cut off is not learned from"
    assert values["staleness/mixed_share"] == 0.5, "of those with a token"
    assert not [n for n in rollout_metrics([unit], [scores], {"q": QUESTION}) if n.startswith("staleness/")]
    assert staleness_metrics([empty], 5) == {}


def test_what_a_reward_gave_is_told_beside_what_counts_of_it() -> None:
    unit = unit_of([1, 1])
    raw, behind = Scores.of_outcome(unit, np.array([1.0, 0.5])), Scores.of_outcome(unit, np.array([1.0, 0.0]))
    values = rollout_metrics([unit], [{"f1": behind}], {"q": QUESTION}, raw=[{"f1": raw}], weights={"f1": 0.2})
    assert values["rewards/f1/mean"] == 0.75
    assert values["rewards/f1/weighted_mean"] == pytest.approx(0.1)
    assert values["rewards/f1/group_std"] == 0.5, "the spread that is learnt from"


def test_gates_and_schedules_in_figures() -> None:
    gates = [{"f1": np.array([1.0, NAN]), "em": np.full(2, NAN)}, {"f1": np.array([0.0, 1.0]), "em": np.full(2, NAN)}]
    values = composition_metrics(gates, {"f1": 0.25})
    assert values == {"rewards/f1/gate_open": pytest.approx(2 / 3), "rewards/f1/schedule": 0.25}
    assert composition_metrics([], {}) == {}
