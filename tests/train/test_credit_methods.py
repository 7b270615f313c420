"""C-GRPO, PS-GRPO and ReNorm: the formulas computed once more by hand, and what they do with what is missing."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.trajectory import Unit
from rewards.score import Scores
from tests.train.credit_units import estimator, group_for, per_turn, scored
from tests.train.fakes import trajectory, turn
from train.credit.c_grpo import c_grpo_returns
from train.credit.outcome import outcome_advantages
from train.credit.renorm import mean_to_go, renorm_rewards

NAN = float("nan")
rates = st.floats(0.0, 1.0, width=16)


@given(st.lists(st.tuples(st.booleans(), rates), min_size=1, max_size=8), rates)
def test_c_grpo_is_the_formula_of_the_method(members: list[tuple[bool, float]], alpha: float) -> None:
    outcome = np.array([float(right) for right, _ in members])
    rubric = np.array([value for _, value in members])
    highest = max(rubric)
    expected = []
    for right, value in members:
        scaled = value / highest if highest > 0 else value
        expected.append((1 - alpha) * float(right) + alpha * float(right) * scaled)
    np.testing.assert_allclose(c_grpo_returns(outcome, rubric, alpha=alpha), expected, atol=1e-12)


def test_the_rubrics_maximum_is_over_the_whole_group_and_raw_is_what_the_public_code_trains() -> None:
    """A wrong trajectory with the best rubric lowers the share of those that are right."""
    outcome, rubric = np.array([1.0, 1.0, 0.0]), np.array([0.2, 0.1, 0.4])
    np.testing.assert_allclose(c_grpo_returns(outcome, rubric), [0.85, 0.775, 0.0])
    np.testing.assert_allclose(c_grpo_returns(outcome, rubric, normalise=False), [0.76, 0.73, 0.0])


def test_a_rubric_that_failed_takes_only_those_out_whom_it_could_have_paid() -> None:
    returns = c_grpo_returns(np.array([1.0, 1.0, 0.0, NAN]), np.array([NAN, 0.5, NAN, 1.0]))
    np.testing.assert_allclose(returns, [NAN, 0.85, 0.0, NAN])


def test_without_a_rubric_the_outcome_stands_alone() -> None:
    np.testing.assert_array_equal(c_grpo_returns(np.array([1.0, 0.0]), np.array([NAN, NAN])), [1.0, 0.0])
    np.testing.assert_array_equal(c_grpo_returns(np.array([1.0, 0.0]), np.array([NAN, 0.3])), [1.0, 0.0])


def test_a_rubric_of_zero_for_all_leaves_the_outcomes_share() -> None:
    np.testing.assert_allclose(c_grpo_returns(np.array([1.0, 0.0]), np.array([0.0, 0.0])), [0.7, 0.0])


def test_c_grpo_never_pays_a_wrong_trajectory_for_its_citations() -> None:
    """The cheapest cheat: cite everything, answer nothing."""
    unit = group_for("c_grpo", [1, 1, 1])
    scores, weights = scored(unit, [1.0, 0.0, 0.0])
    scores["rubric"] = Scores.of_outcome(unit, np.array([0.1, 1.0, 0.0]))
    rows = estimator("c_grpo")(unit, scores, weights)
    honest, cheat, idle = (per_turn(row)[0] for row in rows)
    assert honest > 0 > cheat == idle


def test_c_grpos_weights_scale_alpha_and_the_mix_and_add_what_else_there_is() -> None:
    unit = group_for("c_grpo", [1, 1, 1])
    scores, weights = scored(unit, [1.0, 1.0, 0.0], [[0.2], [0.0], [0.4]])
    scores["rubric"] = Scores.of_outcome(unit, np.array([0.5, 1.0, 0.0]))
    rows = estimator("c_grpo")(unit, scores, {"em": 2.0, "rubric": 0.5, "steps": 0.25})
    expected = 2.0 * np.array([0.85 + 0.15 * 0.5, 1.0, 0.0]) + 0.25 * np.array([0.2, 0.0, 0.4])
    np.testing.assert_allclose([per_turn(row)[0] for row in rows], outcome_advantages(expected))
    rows = estimator("c_grpo")(unit, scores, {"em": 1.0, "rubric": 0.0, "steps": 0.0})
    np.testing.assert_allclose([per_turn(row)[0] for row in rows], outcome_advantages(np.array([1.0, 1.0, 0.0])))
    with pytest.raises(ValueError, match=r"alpha times the weight of 'rubric' is 1\.2"):
        estimator("c_grpo")(unit, scores, {**weights, "rubric": 4.0})


def paraphrases(views: list[int], groups: list[str]) -> Unit:
    members = [
        replace(trajectory(f"t{i}", [turn((4, 5))], group=group), view=view)
        for i, (view, group) in enumerate(zip(views, groups, strict=True))
    ]
    return Unit(kind="paraphrase_set", trajectories=tuple(members))


def test_ps_grpos_baseline_is_the_wordings_own() -> None:
    """The second wording earns more in every sample; that is not its samples' merit."""
    unit = paraphrases([0, 0, 1, 1], ["a", "a", "b", "b"])
    rows = estimator("ps_grpo")(unit, *scored(unit, [0.2, 0.1, 0.9, 0.8]))
    z = outcome_advantages(np.array([0.2, 0.1]))[0]
    np.testing.assert_allclose([per_turn(row)[0] for row in rows], [z, -z, z, -z])


@pytest.mark.parametrize(("views", "groups"), [([0, 1], ["a", "a"]), ([0, 0], ["a", "b"])])
def test_ps_grpo_refuses_groups_that_are_not_wordings(views: list[int], groups: list[str]) -> None:
    unit = paraphrases(views, groups)
    with pytest.raises(ValueError, match="needs one group_id per wording"):
        estimator("ps_grpo")(unit, *scored(unit, [1.0, 0.0]))


@given(st.lists(st.tuples(st.booleans(), st.lists(rates, min_size=1, max_size=4)), min_size=1, max_size=6))
def test_renorm_has_the_sign_of_the_outcome_and_is_the_formula(members: list[tuple[bool, list[float]]]) -> None:
    num_turns = np.array([len(process) for _, process in members])
    process = np.full((len(members), num_turns.max()), NAN)
    for row, (_, values) in enumerate(members):
        process[row, : len(values)] = values
    rewards = renorm_rewards(process, np.array([float(right) for right, _ in members]), num_turns)
    for row, (right, values) in enumerate(members):
        expected = [value + float(right) - 1.0 for value in values[:-1]] + [2.0 * right - 1.0]
        np.testing.assert_allclose(rewards[row, : len(values)], expected)
        assert ((rewards[row, : len(values)] >= 0) == right).all() or 0.0 in rewards[row]
        assert np.isnan(rewards[row, len(values) :]).all()


def test_the_port_to_grpo_compares_what_the_remaining_turns_earn_on_average_over_all_turns() -> None:
    unit = group_for("renorm", [3, 2])
    process = [[0.8, 0.4, NAN], [0.5, NAN]]
    rows = estimator("renorm")(unit, *scored(unit, [1.0, 0.0], process))
    means = [(0.8 + 0.4 + 1.0) / 3, (0.4 + 1.0) / 2, 1.0, (-0.5 - 1.0) / 2, -1.0]
    expected = outcome_advantages(np.array(means))
    np.testing.assert_allclose([*per_turn(rows[0]), *per_turn(rows[1])], expected)


def test_the_papers_variant_sums_and_compares_per_turn_index() -> None:
    unit = group_for("renorm", [3, 2])
    rows = estimator("renorm", variant="paper")(unit, *scored(unit, [1.0, 0.0], [[0.8, 0.4, NAN], [0.5, NAN]]))
    first, second = outcome_advantages(np.array([2.2, -1.5])), outcome_advantages(np.array([1.4, -1.0]))
    np.testing.assert_allclose(per_turn(rows[0]), [first[0], second[0], 0.0])
    np.testing.assert_allclose(per_turn(rows[1]), [first[1], second[1]])


def test_a_turn_without_principles_stays_out_of_the_average() -> None:
    np.testing.assert_allclose(mean_to_go(np.array([[NAN, 0.5, 1.0, NAN]])), [[0.75, 0.75, 1.0, NAN]])
    unit = group_for("renorm", [3, 1])
    rows = estimator("renorm")(unit, *scored(unit, [1.0, 0.0], [[NAN, 0.5, NAN], [NAN]]))
    np.testing.assert_allclose(
        [*per_turn(rows[0]), *per_turn(rows[1])], outcome_advantages(np.array([0.75, 0.75, 1.0, -1.0]))
    )


def test_renorm_refuses_what_it_cannot_centre() -> None:
    unit = group_for("renorm", [2, 2])
    with pytest.raises(ValueError, match=r"reward 'steps' gave -0.5 to 1; name one that stays in \[0, 1\]"):
        estimator("renorm")(unit, *scored(unit, [1.0, 0.0], [[1.0, 1.0], [-0.5, 0.0]]))
    with pytest.raises(ValueError, match="process is 'em', which scores trajectories"):
        estimator("renorm", process="em")(unit, *scored(unit, [1.0, 0.0]))


def test_renorm_adds_other_rewards_where_they_fall() -> None:
    unit = group_for("renorm", [2, 2])
    scores, weights = scored(unit, [1.0, 0.0], [[0.5, NAN], [0.5, NAN]])
    scores["price"] = Scores.of_turns(unit, [np.array([-1.0, 0.0]), np.array([0.0, NAN])])
    rows = estimator("renorm")(unit, scores, {**weights, "price": 0.5})
    means = [(0.5 - 0.5 + 1.0) / 2, 1.0, (-0.5 - 1.0) / 2, -1.0]
    np.testing.assert_allclose([*per_turn(rows[0]), *per_turn(rows[1])], outcome_advantages(np.array(means)))
