"""Rewards that an estimator reads by name are looked at before a run: what it could not make sense of is refused."""

from typing import Any

import pytest

from rewards.combine import GatedProduct
from rewards.compose import Composition, build_rewards
from rewards.term import RewardTerm
from tests.rewards.builders import context
from tests.train.conftest import run_settings
from train.assembly import assemble
from train.config import check_config
from train.config_file import ConfigError
from train.credit import check_rewards, load_estimator
from train.testbed import Testbed

BY_HOPS = {"progress": "hop_relevance"}
BY_VALUE = {"process": "hop_relevance"}
RISING = {"kind": "linear", "start": 0.5, "end": 3.0, "steps": 10}


def composition(terms: dict[str, dict[str, Any]], rule: GatedProduct | None = None) -> Composition:
    made = {name: RewardTerm(**term) for name, term in {"exact_match": {}, **terms}.items()}
    return build_rewards(made, context(), rule=rule, total_steps=20)


@pytest.mark.parametrize(
    ("estimator", "params", "terms", "message"),
    [
        ("c_grpo", {}, {"citation_rubric": {"weight": 4.0}}, r"alpha times the weight of 'citation_rubric' is 1.2"),
        ("c_grpo", {}, {"citation_rubric": {"weight": -1.0}}, r"alpha times the weight of 'citation_rubric' is -0.3"),
        (
            "c_grpo",
            {"alpha": 0.5},
            {"citation_rubric": {"schedule": RISING}},
            r"is 1.5; it must be a number in \[0, 1\]",
        ),
        ("c_grpo", {}, {"exact_match": {"weight": 0.0}, "citation_rubric": {}}, "'exact_match', whose weight is 0"),
        ("renorm", {}, {"principles": {}}, "set rewards.principles.params.aggregate: sum"),
        (
            "renorm",
            {},
            {"principles": {"params": {"aggregate": "sum"}, "gate": "correct"}},
            "credit.params.process is 'principles', which is behind gate correct: renorm centres it at 1/2",
        ),
        (
            "state",
            {"state": "hops_found", **BY_HOPS},
            {"hop_relevance": {"gate": ["answered", "correct"]}},
            "credit.params.progress is 'hop_relevance', which is behind gate answered and correct: where it is closed",
        ),
        ("turn_normalised", {"baseline": "hops_found", **BY_HOPS}, {"hop_relevance": {"gate": "wrong"}}, "gate wrong"),
        (
            "state",
            {"state": "hops_found", "progress": "exact_match"},
            {},
            "progress is 'exact_match', which scores trajectories",
        ),
        ("renorm", {"process": "f1"}, {"f1": {}}, "process is 'f1', which scores trajectories; name one of turns"),
        (
            "renorm",
            BY_VALUE,
            {"hop_relevance": {"params": {"value": 5.0, "normalise": True}}},
            "which can give a turn .*more than 1",
        ),
        ("renorm", BY_VALUE, {"hop_relevance": {"params": {"value": 1.0}}}, "which can give a turn .*more than 1"),
        (
            "renorm",
            {**BY_VALUE, "outcome": "never_answering"},
            {"never_answering": {}, "hop_relevance": {"params": {"value": 1.0, "normalise": True}}},
            "outcome is 'never_answering', which can come to less than 0",
        ),
    ],
)
def test_what_an_estimator_cannot_read_is_refused(
    estimator: str, params: dict[str, Any], terms: dict[str, dict[str, Any]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_rewards(load_estimator(estimator, **params), composition(terms))


@pytest.mark.parametrize(
    ("estimator", "params", "terms"),
    [
        ("c_grpo", {}, {"citation_rubric": {"weight": 3.0, "gate": "well_formed"}}),
        ("renorm", {}, {"principles": {"params": {"aggregate": "sum"}}, "format": {"gate": "correct"}}),
        ("state", {"state": "hops_found", **BY_HOPS}, {"hop_relevance": {"weight": 0.0}}),
        ("renorm", BY_VALUE, {"hop_relevance": {"params": {"value": 1.0, "normalise": True}}}),
        ("state", {}, {"hop_relevance": {"gate": "correct"}}),
        ("turn_normalised", {}, {"hop_relevance": {"gate": "correct"}}),
    ],
)
def test_what_it_can_read_is_accepted(estimator: str, params: dict[str, Any], terms: dict[str, dict[str, Any]]) -> None:
    check_rewards(load_estimator(estimator, **params), composition(terms))


@pytest.mark.parametrize(("estimator", "terms"), [("c_grpo", ["citation_rubric"]), ("renorm", ["principles"])])
def test_a_mix_of_its_own_takes_no_product(estimator: str, terms: list[str]) -> None:
    """Of a product's parts credit gets none: all that they mix would weigh 0."""
    rewards = composition({"format": {}, **{name: {} for name in terms}}, GatedProduct(bottom_line=("format",)))
    with pytest.raises(ValueError, match=f"credit.estimator {estimator} mixes rewards by a rule of its own"):
        check_rewards(load_estimator(estimator), rewards)
    check_rewards(load_estimator("outcome"), rewards)


def test_it_is_refused_before_a_run(testbed: Testbed) -> None:
    rewards = {"exact_match": {}, "principles": {}}
    changes = {"rewards": rewards, "credit": {"estimator": "renorm"}}
    with (
        pytest.raises((ConfigError, ValueError), match="aggregate: sum"),
        assemble(check_config(run_settings(testbed, **changes))),
    ):
        pass
