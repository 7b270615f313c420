"""What every estimator does with units that are not as they should be: it learns nothing from them, or says why."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agent.trajectory import Unit
from rewards.compose import Composition, RewardTerm, build_rewards
from tests.rewards.builders import context
from tests.train.credit_units import KINDS, estimator, group_for, per_turn, scored
from tests.train.fakes import trajectory, turn
from train.credit import ESTIMATORS, check_rewards

NAN = float("nan")
every_estimator = pytest.mark.parametrize("name", sorted(ESTIMATORS))


def composition(*names: str, rubrics: str = "exact_match") -> Composition:
    """Rewards by these names, all exact matches but `rubrics`."""
    of_turns = {"normalise": True, "value": 1.0} if rubrics == "hop_relevance" else {}
    terms = {name: RewardTerm(use="exact_match") for name in names}
    if "rubrics" in terms:
        terms["rubrics"] = RewardTerm(use=rubrics, params=of_turns)
    return build_rewards(terms, context())


@every_estimator
def test_a_group_of_one_has_nothing_to_be_compared_with(name: str) -> None:
    unit = group_for(name, [3])
    (row,) = estimator(name)(unit, *scored(unit, [1.0], [[0.5, 1.0, 0.0]]))
    assert per_turn(row) == [0.0, 0.0, 0.0]


@every_estimator
def test_outages_and_unscored_trajectories_leave_the_group(name: str) -> None:
    unit = group_for(name, [1, 2, 1, 1], finish=["answered", "retrieval_outage", "engine_failure", "answered"])
    rows = estimator(name)(unit, *scored(unit, [1.0, -100.0, 100.0, NAN]))
    assert [row.trajectory_id for row in rows] == ["t0"]
    assert per_turn(rows[0]) == [0.0]


@every_estimator
def test_members_that_are_missing_change_no_one_elses_advantage(name: str) -> None:
    lengths, em = [2, 2, 1], [1.0, 0.0, 0.0]
    steps = [[1.0, 0.0], [0.0, 0.0], [0.5]]
    whole = group_for(name, lengths)
    unit = group_for(name, [2, *lengths], finish=["retrieval_outage", "answered", "answered", "answered"])
    expected = estimator(name)(whole, *scored(whole, em, steps))
    rows = estimator(name)(unit, *scored(unit, [1.0, *em], [[1.0, 1.0], *steps]))
    assert len(rows) == len(expected) == 3
    for row, other in zip(rows, expected, strict=True):
        np.testing.assert_allclose(row.advantages, other.advantages, atol=1e-12)


@every_estimator
def test_a_group_in_which_all_earn_the_same_teaches_nothing(name: str) -> None:
    unit = group_for(name, [2, 2, 2])
    params: dict[str, dict[str, Any]] = {
        "renorm": {"variant": "paper"},
        "state": {"state": "hops_found", "progress": "steps"},
    }
    rows = estimator(name, **params.get(name, {}))(unit, *scored(unit, [1.0] * 3, [[0.3, 0.1]] * 3))
    assert [per_turn(row) for row in rows] == [[0.0, 0.0]] * 3


def test_renorms_port_to_grpo_judges_a_turn_by_its_place_where_all_earn_the_same() -> None:
    """Its baseline is one for all turns, so a turn that returns less than the last is pushed down with all right."""
    unit = group_for("renorm", [2, 2])
    rows = estimator("renorm")(unit, *scored(unit, [1.0, 1.0], [[0.3, NAN], [0.3, NAN]]))
    assert all(per_turn(row)[0] < 0 < per_turn(row)[1] for row in rows)


@every_estimator
def test_a_group_in_which_nothing_applies_yields_no_row(name: str) -> None:
    unit = group_for(name, [1, 2])
    assert estimator(name)(unit, *scored(unit, [NAN, NAN])) == []


@every_estimator
@pytest.mark.parametrize("where", ["outcome", "turn"])
def test_an_infinite_reward_is_refused_by_name(name: str, where: str) -> None:
    """`Scores` refuses it when it is made; an array that is changed afterwards is caught here."""
    unit = group_for(name, [1, 1])
    scores, weights = scored(unit, [1.0, 0.0], [[0.0], [1.0]])
    if where == "outcome":
        scores["em"].outcome[0] = np.inf
    else:
        scores["steps"].turn[1][0] = -np.inf
    with pytest.raises(ValueError, match=f"'{'em' if where == 'outcome' else 'steps'}' gave an infinite score"):
        estimator(name)(unit, scores, weights)


@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - {"renorm", "turn_normalised"}))
def test_a_return_that_overflows_is_refused(name: str) -> None:
    """`renorm` refuses what is not in [0, 1], and `turn_normalised` weighs after it has normalised."""
    unit = group_for(name, [1, 1])
    scores, weights = scored(unit, [1e300, 0.0])
    with pytest.raises(ValueError, match="infinite"), np.errstate(over="ignore"):
        estimator(name)(unit, scores, {**weights, "em": 1e300})


@every_estimator
def test_trajectories_without_an_action_or_a_token_take_no_part(name: str) -> None:
    """One ended before its first action, one has a turn in which nothing was sampled, two are as they should be."""
    members = [
        trajectory("none", [], finish="token_limit"),
        trajectory("empty", [turn((), (7,))], finish="token_limit"),
        trajectory("good", [turn((4, 5), (6,))]),
        trajectory("bad", [turn((4, 5), (6,))]),
    ]
    unit = Unit(kind=KINDS.get(name, "group"), trajectories=tuple(members))
    good, bad = estimator(name)(unit, *scored(unit, [1.0, 1.0, 1.0, 0.0]))
    assert (good.trajectory_id, bad.trajectory_id) == ("good", "bad")
    assert per_turn(good)[0] > 0 > per_turn(bad)[0]
    assert per_turn(good)[0] == pytest.approx(-per_turn(bad)[0])


@every_estimator
def test_a_turn_without_a_token_between_others_is_passed_over(name: str) -> None:
    members = [trajectory(f"t{i}", [turn((4, 5), (6,)), turn((), (6,)), turn((4, 5))]) for i in range(2)]
    unit = Unit(kind=KINDS.get(name, "group"), trajectories=tuple(members))
    steps = [[1.0, 0.5, 0.5], [0.0, 0.0, 0.0]]
    good, bad = estimator(name)(unit, *scored(unit, [1.0, 0.0], steps))
    assert good.loss_mask.tolist() == bad.loss_mask.tolist() == [1, 1, 0, 0, 1, 1]
    assert per_turn(good)[0] > 0 > per_turn(bad)[0]


@pytest.mark.parametrize(("name", "kind"), sorted(KINDS.items()))
def test_a_unit_of_the_wrong_kind_is_refused(name: str, kind: str) -> None:
    for wrong in {"group", "paraphrase_set", "branch_tree"} - {kind}:
        unit = replace(group_for("outcome", [1, 1]), kind=wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"credit {name} needs units of kind {kind}, but unit 'u' is a {wrong}"):
            estimator(name)(unit, *scored(unit, [1.0, 0.0]))


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("c_grpo", {"alpha": 1.5}, r"alpha is 1.5; it must be a number in \[0, 1\]"),
        ("c_grpo", {"alpha": NAN}, r"alpha is nan; it must be a number in \[0, 1\]"),
        ("c_grpo", {"rubric": ""}, "rubric is ''; give the name of a reward"),
        ("c_grpo", {"normalise": 1}, "normalise is 1; it must be true or false"),
        ("renorm", {"variant": "ppo"}, "variant is 'ppo'; choose one of grpo, paper"),
        ("step_tokens", {"step_scale": -1}, "step_scale is -1; it must be a finite number of at least 0"),
        ("step_tokens", {"token_discount": 2}, r"token_discount is 2; it must be a number in \[0, 1\]"),
        ("state", {"state": "mood"}, "state is 'mood'; choose one of hops_found, passages"),
        ("state", {"state": "hops_found"}, "state is hops_found and progress is None"),
        ("state", {"progress": "steps"}, "state is passages and progress is 'steps'"),
        ("state", {"omega": 0, "episode_weight": 0}, "both 0"),
        ("turn_normalised", {"baseline": "hop"}, "baseline is 'hop'; choose one of turn, hops_found, passages"),
        ("turn_normalised", {"progress": "steps"}, "progress is 'steps', which baseline turn does not read"),
        ("branch", {"scale": "yes"}, "scale is 'yes'; it must be true or false"),
        ("tree", {"weigh_leaves": None}, "weigh_leaves is None; it must be true or false"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(name: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimator(name, **params)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("c_grpo", {"rubric": "rubrics"}),
        ("renorm", {"process": "rubrics"}),
        ("state", {"state": "hops_found", "progress": "rubrics"}),
        ("turn_normalised", {"baseline": "hops_found", "progress": "rubrics"}),
    ],
)
def test_a_reward_that_the_config_does_not_have_is_refused(name: str, params: dict[str, Any]) -> None:
    """Before anything is sampled, and whoever calls it otherwise."""
    with pytest.raises(ValueError, match=r"is 'rubrics', but the rewards are \['em', 'steps'\]"):
        check_rewards(estimator(name, **params), composition("steps", "em"))
    of_turns = "exact_match" if name == "c_grpo" else "hop_relevance"
    check_rewards(estimator(name, **params), composition("em", "rubrics", rubrics=of_turns))
    unit = group_for(name, [1, 1])
    with pytest.raises(ValueError, match=r"is 'rubrics', but the rewards are \['em', 'rubric', 'steps'\]"):
        estimator(name, **params)(unit, *scored(unit, [1.0, 0.0]))
