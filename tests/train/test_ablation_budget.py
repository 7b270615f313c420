"""Every method gets the same trajectories, and one whose steps are of another size is told of."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.train.ablation_records import TINY, tiny_ablation
from train.ablation_budget import spend
from train.ablation_request import AblationRequest, parse_seeds, seeds_as_text
from train.ablation_setting import SettingConfig
from train.config_file import ConfigError

SETS = {"kind": "paraphrase_set", "wordings": 4, "samples_per_wording": 2}


def spent(tmp_path: Path, unit: dict[str, Any], budget: int) -> dict[str, object]:
    """What a run of such units, two questions a step, has of the budget."""
    train = {**TINY["train"], "rollout": {"questions_per_step": 2, "unit": unit}}  # type: ignore[dict-item]
    setting = SettingConfig.model_validate({**TINY, "train": train})
    ablation = tiny_ablation(tmp_path, ["outcome"], setting=setting, budget=budget)
    return spend(ablation.config("outcome", 0), budget)


def test_sets_that_may_have_fewer_wordings_are_ended_by_the_budget_itself(tmp_path: Path) -> None:
    assert spent(tmp_path, SETS, 100) == {"steps": 100 // 16}
    # One wording of two samples is the least that a question can cost: 100 / (2 x 2).
    assert spent(tmp_path, {**SETS, "allow_fewer": True}, 100) == {"steps": 25, "max_trajectories": 100}


def test_a_method_whose_own_step_is_larger_than_the_budget_is_named_with_its_fields(tmp_path: Path) -> None:
    told = (
        "method ps_grpo under setting tiny: a budget of 16 trajectories is less than one step of 96 "
        "(questions_per_step 6 x 4 wordings x 4 samples): raise --budget to at least 96, or "
    )
    with pytest.raises(ConfigError, match=re.escape(told)) as refused:
        tiny_ablation(tmp_path, ["outcome", "ps_grpo"])
    assert str(refused.value).endswith("ps_grpo sets rollout.questions_per_step and rollout.unit itself")


def test_a_method_whose_own_step_is_not_the_settings_is_told_of(tmp_path: Path) -> None:
    told: list[str] = []
    tiny_ablation(tmp_path, ["outcome", "ps_grpo", "slate"], budget=96, say=told.append)
    assert told == [
        "ps_grpo: steps of 96 (questions_per_step 6 x 4 wordings x 4 samples), by its own rollout.questions_per_step "
        "and rollout.unit; the setting's steps have 8"
    ]


def test_the_command_makes_the_comparison_again(tmp_path: Path) -> None:
    setting, mine = tmp_path / "my settings" / "tiny.yaml", tmp_path / "mine.yaml"
    setting.parent.mkdir()
    setting.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    fields = {"title": "Mine", "source": "me", "summary": "Mine.", "tier": "candidate"}
    mine.write_text(yaml.safe_dump({**fields, "overrides": {"credit.estimator": "turn"}}), encoding="utf-8")
    words = ["outcome", str(mine), "testbed.world.seed=9"]
    request = AblationRequest.parse(words, setting=str(setting), seeds="10:12", out=tmp_path / "out")
    assert request.command(16) == (
        f"waymark ablate outcome {mine} testbed.world.seed=9 --setting '{setting}' --seeds 10:12 --budget 16 "
        "--out runs/tiny"
    )


@pytest.mark.parametrize("seeds", [(0,), (5,), (0, 1, 2), (10, 11), (7, 4), (0, 2)])
def test_seeds_are_read_as_they_are_written(seeds: tuple[int, ...]) -> None:
    assert parse_seeds(seeds_as_text(seeds)) == seeds
