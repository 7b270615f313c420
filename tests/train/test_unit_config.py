"""Units in a config: chosen by kind, refused with reasons where something else of the config does not fit them."""

import json
from typing import Any

import pytest

from envs.branching import BranchSampler, RefineSampler
from envs.tree_sampling import TreeSampler
from envs.units import GroupSampler, ParaphraseSetSampler
from rewards.registry import REWARDS
from rewards.reward import RewardContext
from tests.envs.small_world import BRIDGE, COMPARISON
from tests.envs.unit_parts import Scored
from tests.train.conftest import run_settings
from tests.train.test_config import MINIMAL
from train.assembly import assemble
from train.config import TrainConfig, check_config
from train.config_file import ConfigError, apply_override
from train.testbed import Testbed
from train.unit_config import (
    READS_RESULTS,
    GroupUnit,
    ParaphraseSetUnit,
    RefineUnit,
    check_paraphrases,
    refuse_blind_refinement,
)


def config(unit: Any, estimator: str = "branch", **changes: Any) -> TrainConfig:
    rollout = {"questions_per_step": 3, "samples_per_question": 4, "unit": unit}
    return check_config({**MINIMAL, "rollout": rollout, "credit": {"estimator": estimator}, **changes})


@pytest.mark.parametrize(
    ("unit", "estimator", "sampler", "most"),
    [
        ("group", "outcome", GroupSampler, 4),
        ({"kind": "group"}, "turn", GroupSampler, 4),
        ("paraphrase_set", "ps_grpo", ParaphraseSetSampler, 24),
        ({"kind": "paraphrase_set", "wordings": 3, "samples_per_wording": 2}, "outcome", ParaphraseSetSampler, 6),
        ("branch", "branch", BranchSampler, 20),
        ({"kind": "refine", "component": "exact_match", "seeds": 2, "per_seed": 3}, "branch", RefineSampler, 8),
        ({"kind": "tree", "leaves": 6}, "tree", TreeSampler, 6),
        ("branch", "my.module:Estimator", BranchSampler, 20),
    ],
)
def test_a_unit_is_chosen_by_its_kind(unit: Any, estimator: str, sampler: type, most: int) -> None:
    made = config(unit, estimator, limits={"max_turns": 4})
    assert isinstance(made.rollout.unit.sampler(4, Scored()), sampler)
    assert made.trajectories_per_unit == most and made.trajectories_per_step == 3 * most
    assert check_config(made.model_dump(mode="json")) == made


@pytest.mark.parametrize(
    ("unit", "estimator", "words"),
    [
        ("forest", "branch", ["rollout.unit", "paraphrase_set", "tree"]),
        ("paraphrases", "ps_grpo", ["no kind 'paraphrases'; did you mean 'paraphrase_set'?"]),
        ({"candidates": 2}, "branch", ["rollout.unit: 'kind' is missing"]),
        ({"kind": "branch", "candidats": 2}, "branch", ["candidats", "'candidates'"]),
        ({"kind": "branch", "candidates": 1}, "branch", ["candidates", "at least 2"]),
        ({"kind": "branch", "eta": 0}, "branch", ["eta"]),
        ({"kind": "refine"}, "branch", ["rollout.unit.component"]),
        ({"kind": "refine", "component": "query_quality"}, "branch", ["'query_quality'", "exact_match", "weight 0"]),
        ({"kind": "tree", "leaves": 2, "roots": 3}, "tree", ["roots is 3 and leaves 2"]),
        ("branch", "outcome", ["unit is branch", "outcome", "use branch", "unit: group"]),
        ("branch", "tree", ["use branch"]),
        ({"kind": "tree"}, "turn", ["use branch or tree"]),
        ("group", "tree", ["needs branches", "unit: branch, refine or tree"]),
        ("group", "ps_grpo", ["ps_grpo", "unit: paraphrase_set"]),
    ],
)
def test_what_does_not_fit_is_refused_with_the_way_out(unit: Any, estimator: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        config(unit, estimator)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_rewards_of_what_a_search_found_need_every_candidates_search() -> None:
    rewards = {"found": {"use": "information_gain"}}
    with pytest.raises(ConfigError, match=r"rewards.found pays for what a search found.*set retrieve: all"):
        config({"kind": "branch", "retrieve": "winner"}, rewards=rewards)
    assert config({"kind": "branch", "retrieve": "all"}, rewards=rewards)
    assert config({"kind": "branch", "retrieve": "winner"})


def test_a_kind_takes_overrides_of_its_settings() -> None:
    data: dict[str, Any] = {"rollout": {"unit": "branch"}}
    apply_override(data, "rollout.unit.candidates=3")
    assert data == {"rollout": {"unit": {"kind": "branch", "candidates": 3}}}


def test_a_budget_and_wordings_to_compare_are_checked() -> None:
    assert check_config({**MINIMAL, "max_trajectories": 500}).max_trajectories == 500
    for change, word in (
        ({"max_trajectories": 0}, "max_trajectories"),
        ({"max_trajectories": 1}, r"max_trajectories is 1, less than one step of \d+"),
        ({"evaluate_wordings": 1}, "evaluate_wordings"),
    ):
        with pytest.raises(ConfigError, match=word):
            check_config({**MINIMAL, **change})


def test_questions_with_too_few_paraphrases_are_refused_by_dataset_and_count() -> None:
    asked = [BRIDGE, COMPARISON]
    with pytest.raises(ConfigError) as error:
        check_paraphrases(ParaphraseSetUnit(wordings=2), asked, source="data/hotpot.jsonl")
    for word in ("2 wordings", "1 of 2 questions of data/hotpot.jsonl", "comparison with 0", "allow_fewer: true"):
        assert word in str(error.value)
    check_paraphrases(ParaphraseSetUnit(wordings=2), [BRIDGE], source="x")
    check_paraphrases(ParaphraseSetUnit(wordings=6, allow_fewer=True), asked, source="x")
    with pytest.raises(ConfigError, match="none has any"):
        check_paraphrases(ParaphraseSetUnit(allow_fewer=True), [COMPARISON], source="x")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rollout": {"unit": {"kind": "paraphrase_set", "wordings": 99}}}, "asks 99 wordings"),
        (
            {
                "rollout": {"unit": "branch", "max_staleness": 1},
                "credit": {"estimator": "branch"},
                "learner": {"importance_weight_cap": 2.0},
                "rewards": {"exact_match": {"schedule": {"kind": "linear", "end": 0.0}}},
            },
            "max_staleness: 0",
        ),
        ({"rewards": {"consistency": {}}}, "rewards.consistency scores units of kind paraphrase_set alone"),
        ({"rewards": {"mine": {"use": "agreement"}}}, "rewards.mine scores .* alone, and rollout.unit is group"),
    ],
)
def test_an_assembly_refuses_what_only_files_or_rewards_tell(
    testbed: Testbed, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        assemble(check_config(run_settings(testbed, **changes)))


def test_rewards_that_read_what_a_search_found_are_rewards() -> None:
    assert set(REWARDS) >= READS_RESULTS, "a name that no reward has would refuse nothing"
    assert "hop_relevance" in READS_RESULTS


@pytest.mark.parametrize(
    ("use", "params", "is_refused"),
    [
        ("query_quality", {}, True),
        ("exact_match", {}, True),
        ("reflection", {}, True),
        ("query_quality", {"placed": "turns"}, False),
        ("hop_relevance", {"value": 1.0}, False),
    ],
)
def test_a_component_that_scores_no_turn_cannot_say_which_query_is_bad(
    use: str, params: dict[str, Any], is_refused: bool
) -> None:
    unit = RefineUnit(component="bad")
    rewards = {"bad": REWARDS[use](RewardContext(passage={}.__getitem__, corpus=list), **params)}
    if is_refused:
        with pytest.raises(ConfigError, match="component is 'bad', which scores whole trajectories"):
            refuse_blind_refinement(unit, rewards)
        refuse_blind_refinement(GroupUnit(), rewards)
    else:
        refuse_blind_refinement(unit, rewards)


def test_a_small_budget_is_refused_only_where_a_steps_cost_is_known() -> None:
    branch = {"rollout.unit": {"kind": "branch", "candidates": 5}, "credit": {"estimator": "branch"}}
    data: dict[str, Any] = json.loads(json.dumps(MINIMAL))
    for key, value in {"max_trajectories": 60, "rollout.questions_per_step": 12, **branch}.items():
        apply_override(data, f"{key}={json.dumps(value)}")
    assert check_config(data).max_trajectories == 60, "a branch unit costs its candidates, and no step is known before"
