"""A composition that cannot mean what it says is refused with the config, before anything is spent."""

from typing import Any

import pytest

from tests.train.conftest import run_settings
from tests.train.test_config import MINIMAL
from train.assembly import assemble
from train.config import check_config
from train.config_file import ConfigError
from train.testbed import Testbed

PRODUCT = {"combine": "gated_product", "bottom_line": ["format"]}
FADING = {"kind": "linear", "share": 0.5}
RISING = {"kind": "linear", "start": 0.0, "end": 1.0}


def settings(**changes: Any) -> dict[str, Any]:
    return {**MINIMAL, **changes}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rewards": {"f1": {"gate": "corect"}}}, ["rewards.f1.gate.0", "'corect'", "'correct'"]),
        ({"rewards": {"f1": {"schedule": {"kind": "linear", "end": -1}}}}, ["rewards.f1.schedule.end", "-1"]),
        ({"rewards": {"f1": {"schedule": {"kind": "linear", "share": 0.5, "steps": 4}}}}, ["length once"]),
        ({"rewards": {"f1": {"schedule": FADING}}}, ["every reward is annealed to 0 before the last step"]),
        ({"composition": {"ordring": None}}, ["composition.ordring", "'ordering'"]),
        ({"composition": {"bottom_line": ["exact_match"]}}, ["combine is sum", "gated_product"]),
        ({"composition": {"combine": "gated_product"}}, ["name its bottom line"]),
        ({"composition": PRODUCT}, ["bottom_line names format; rewards has exact_match"]),
        ({"composition": {**PRODUCT, "bottom_line": ["exact_match"]}}, ["names every reward", "needs a utility"]),
        (
            {"composition": PRODUCT, "rewards": {"format": {"weight": 2}, "f1": {}}},
            ["all of a bottom line count alike"],
        ),
        ({"composition": PRODUCT, "rewards": {"format": {}, "f1": {"weight": -1}}}, ["f1 has a negative weight"]),
        ({"composition": PRODUCT, "rewards": {"format": {}, "f1": {"schedule": FADING}}}, ["no utility", "last step"]),
        ({"rewards": {"f1": {"schedule": RISING}}}, ["every reward has weight 0 at step 0", "`start` above 0"]),
        ({"composition": PRODUCT, "rewards": {"format": {}, "f1": {"schedule": RISING}}}, ["no utility", "at step 0"]),
        ({"composition": PRODUCT, "rewards": {"format": {}, "gated_product": {"use": "f1"}}}, ["rename it"]),
        (
            {"composition": {**PRODUCT, "smoothing": 0}, "rewards": {"format": {}, "f1": {}}},
            ["smoothing", "more than 0"],
        ),
        (
            {
                "composition": PRODUCT,
                "rewards": {"format": {}, "f1": {}},
                "rollout": {"unit": "branch"},
                "credit": {"estimator": "branch"},
            },
            ["gated_product, which is of whole episodes", "use combine: sum"],
        ),
        ({"composition": {"max_judge_failure_share": 1}}, ["max_judge_failure_share", "less than 1"]),
        (
            {"composition": {"ordering": "correct_above_wrong"}, "credit": {"estimator": "turn_normalised"}},
            ["turn_normalised does not compare sums of raw rewards", "outcome, outcome_mean"],
        ),
        (
            {"composition": {"ordering": "correct_above_wrong"}, "credit": {"params": {"discount": 0.9}}},
            ["undiscounted sums", "discount is 0.9"],
        ),
    ],
)
def test_a_bad_composition_is_refused_with_the_way_out(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        check_config(settings(**changes))
    for word in words:
        assert word in str(caught.value)


def test_gates_and_schedules_are_read() -> None:
    fading = {"gate": ["em_first", "answered"], "schedule": {"kind": "cosine", "steps": 30}}
    config = check_config(settings(rewards={"exact_match": {}, "f1": fading, "format": {"gate": "correct"}}))
    assert config.rewards["f1"].gate == ("em_first", "answered") and config.rewards["format"].gate == ("correct",)
    assert config.rewards["f1"].weight_at(15, config.steps) == pytest.approx(0.5)


def test_schedules_end_with_the_trajectories_that_are_paid_for() -> None:
    rollout = {"questions_per_step": 3, "samples_per_question": 4}
    assert check_config(settings(steps=50, rollout=rollout)).planned_steps == 50
    assert check_config(settings(steps=50, rollout=rollout, max_trajectories=100)).planned_steps == 9
    assert check_config(settings(steps=5, rollout=rollout, max_trajectories=100)).planned_steps == 5
    unit = {"kind": "paraphrase_set", "wordings": 4, "samples_per_wording": 2}
    for fewer, planned in ((False, 5), (True, 50)):  # smaller sets leave trajectories for more steps
        rollout = {"questions_per_step": 3, "unit": {**unit, "allow_fewer": fewer}}
        assert check_config(settings(steps=50, rollout=rollout, max_trajectories=100)).planned_steps == planned


def refused(testbed: Testbed, words: str, **changes: Any) -> None:
    with pytest.raises(ConfigError, match=words), assemble(check_config(run_settings(testbed, **changes))):
        pass


def test_an_ordering_that_rewards_can_violate_is_refused_before_the_run(testbed: Testbed) -> None:
    ordered = {"ordering": "correct_above_wrong"}
    hops = {"params": {"value": 0.5}, "weight": 1.0}
    rewards = {"exact_match": {}, "hop_relevance": hops}
    refused(testbed, "(?s)a wrong episode.*hop_relevance: wrong up to", composition=ordered, rewards=rewards)
    rewards = {"exact_match": {}, "hop_relevance": {**hops, "gate": "correct"}}
    with assemble(check_config(run_settings(testbed, composition=ordered, rewards=rewards))) as parts:
        assert not [warning for warning in parts.warnings if "ordering" in warning]


def test_what_is_left_to_earn_is_ordered_where_credit_compares_it(testbed: Testbed) -> None:
    """A potential that ends at 0 adds up to nothing, but takes back at the end what was found before."""
    rewards = {"exact_match": {}, "hop_potential": {"weight": 4.0}}
    changes = {"composition": {"ordering": "correct_above_wrong"}, "rewards": rewards}
    words = "(?s)from some turn on.*hop_potential: wrong up to 2, correct down to -2"
    refused(testbed, words, **changes, credit={"estimator": "turn"})
    rewards["hop_potential"]["gate"] = "correct"
    refused(testbed, "hop_potential: wrong up to 0, correct down to -2", **changes, credit={"estimator": "state"})
    with assemble(check_config(run_settings(testbed, **changes, credit={"estimator": "outcome"}))):
        pass


def test_a_gate_that_cannot_be_told_of_candidates_is_warned_of(testbed: Testbed) -> None:
    rewards = {"step_quality": {"gate": "answered"}, "format": {"gate": "well_formed"}}
    changes = {"rewards": rewards, "credit": {"estimator": "branch"}, "rollout": {"unit": "branch"}}
    with assemble(check_config(run_settings(testbed, **changes))) as parts:
        assert [w for w in parts.warnings if "rewards.step_quality.gate is answered" in w]
        assert not [w for w in parts.warnings if "rewards.format" in w]


def test_an_estimator_of_ones_own_is_warned_of(testbed: Testbed) -> None:
    changes = {
        "composition": {"ordering": "correct_above_wrong"},
        "rewards": {"exact_match": {}},
        "credit": {"estimator": "train.credit.outcome:Outcome"},
    }
    with assemble(check_config(run_settings(testbed, **changes))) as parts:
        assert any("train.credit.outcome:Outcome compares those is not known" in warning for warning in parts.warnings)


def test_a_price_in_a_product_is_refused_because_it_would_be_clipped_away(testbed: Testbed) -> None:
    rewards = {"format": {}, "f1": {}, "never_answering": {}}
    refused(testbed, "never_answering never pays more than 0", composition=PRODUCT, rewards=rewards)


def test_a_part_of_a_product_that_can_pass_one_is_warned_of(testbed: Testbed) -> None:
    rewards = {"format": {}, "f1": {}, "hop_relevance": {"params": {"value": 5.0}}}
    with assemble(check_config(run_settings(testbed, composition=PRODUCT, rewards=rewards))) as parts:
        [warning] = [warning for warning in parts.warnings if "gated_product" in warning]
    assert "hop_relevance can add up to" in warning and "clipped to 1" in warning
