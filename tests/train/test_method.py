"""Methods and settings are files: each is checked when it is read, and every built-in one is opened as a run opens it.

A recipe that no longer fits the rewards, estimators or units that it names would otherwise be found hours into a
comparison.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY
from train.ablation import Ablation
from train.ablation_budget import spend
from train.ablation_setting import SettingConfig, load_setting, setting_names
from train.assembly import assemble
from train.config import TrainConfig, check_config
from train.config_file import ConfigError
from train.method import BASELINE, load_method, load_methods, method_names
from train.study import Study, load_study
from train.testbed import Testbed, prepare_testbed

METHODS = [*method_names("methods"), *method_names("candidates")]
FIRST_TIER = {
    *("search_r1", "stepsearch", "c_grpo", "ps_grpo", "slate", "r3_rag", "smartsearch", "reseek", "re_searcher"),
    *("ikea", "ppr", "nuggets", "zerosearch", "gated", "hops_per_turn", "hops_normalised"),
}
SECOND_TIER = {
    *("subsearch", "inforage", "co_reward", "tearag", "efficiency", "sd_e2", "r3_bias", "shaping_explanations"),
}

METHOD: dict[str, Any] = {
    "title": "Mine",
    "source": "me",
    "tier": "first",
    "summary": "What it does.",
    "overrides": {"rewards": {"exact_match": {}}},
}


@pytest.fixture(scope="module")
def testbeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Testbed]:
    """The testbeds of two hops, made once; policies are untrained."""
    made = {}
    for name in ("2hops", "2hops_stating"):
        config = load_setting(name, ["testbed.world.train_questions=120", "testbed.policy.hidden_size=32"]).testbed
        made[name] = prepare_testbed(config, tmp_path_factory.mktemp(name) / "testbed")
    return made


def config_of(method: str, setting: str, testbed: Testbed, tmp_path: Path) -> TrainConfig:
    ablation = Ablation(
        name=setting, setting=load_setting(setting), methods=load_methods([method]), seeds=[0], out=tmp_path
    )
    data = ablation.config(method, 0).model_dump(mode="json")
    data["policy"]["model"] = str(testbed.policy)
    data["data"] |= {
        "index": str(testbed.index),
        "train_questions": str(testbed.questions("train")),
        "dev_questions": str(testbed.questions("dev")),
    }
    return check_config(data)


@pytest.mark.parametrize("name", METHODS)
def test_every_recipe_opens(name: str, testbeds: dict[str, Testbed], tmp_path: Path) -> None:
    setting = "2hops_stating" if "stating" in load_method(name).config.needs else "2hops"
    config = config_of(name, setting, testbeds[setting], tmp_path)
    with assemble(config) as parts:
        assert set(parts.rewards.rewards) >= set(config.rewards)
        assert callable(parts.estimator)


def test_the_named_recipes_are_there_each_in_its_tier() -> None:
    tiers = {name: load_method(name).config.tier for name in method_names()}
    assert {name for name, tier in tiers.items() if tier == "first"} == FIRST_TIER
    assert {name for name, tier in tiers.items() if tier == "second"} == SECOND_TIER
    assert [name for name, tier in tiers.items() if tier == "baseline"] == [BASELINE]
    assert [name for name, tier in tiers.items() if tier == "default"] == ["waymark"]
    assert {load_method(name).config.tier for name in method_names("candidates")} == {"candidate"}


def test_no_two_methods_share_a_name_or_a_title() -> None:
    methods = [load_method(name) for name in METHODS]
    assert len({method.name for method in methods}) == len({method.title for method in methods}) == len(METHODS)


@pytest.mark.parametrize("hops", [2, 3])
def test_runs_start_from_the_policy_of_the_committed_claims(hops: int, tmp_path: Path) -> None:
    claim = Study(load_study(REPOSITORY / "configs" / "claims" / f"credit_{hops}hops.yaml"), tmp_path)
    ours = Ablation(
        name="x", setting=load_setting(f"{hops}hops_claims"), methods=load_methods([BASELINE]), seeds=[0], out=tmp_path
    ).study
    assert ours.config.testbed == claim.config.testbed
    before, now = claim.base_config(), ours.base_config()
    for part in ("seed", "protocol", "limits", "learner", "cold_start", "evaluate_every"):
        assert getattr(now, part) == getattr(before, part), part
    assert now.rollout == before.rollout


def test_the_baseline_is_the_claims_outcome_arm(tmp_path: Path) -> None:
    claim = Study(load_study(REPOSITORY / "configs" / "claims" / "credit_2hops.yaml"), tmp_path)
    setting = load_setting("2hops_claims")
    ours = Ablation(name="2hops_claims", setting=setting, methods=load_methods(["outcome"]), seeds=[3], out=tmp_path)
    arm, config = claim.arm_config("outcome", 3), ours.config("outcome", 3)
    for part in ("rewards", "credit", "rollout", "learner", "limits", "seed"):
        assert getattr(config, part) == getattr(arm, part), part
    assert config.steps * config.trajectories_per_step == setting.budget == 3840


@pytest.mark.parametrize("name", ["2hops", "3hops", "4hops", "2hops_noisy", "2hops_stating"])
def test_the_other_settings_open_for_the_baseline(name: str, tmp_path: Path) -> None:
    ablation = Ablation(
        name=name, setting=load_setting(name), methods=load_methods(["outcome"]), seeds=[0], out=tmp_path
    )
    assert ablation.setting.testbed.world_settings().hops
    assert ablation.config("outcome", 0).evaluate_every


def test_a_method_with_noise_of_its_own_is_evaluated_like_the_others(tmp_path: Path) -> None:
    for name in ("2hops", "2hops_noisy"):
        ablation = Ablation(
            name=name,
            setting=load_setting(name),
            methods=load_methods(["outcome", "zerosearch"]),
            seeds=[0],
            out=tmp_path,
        )
        noises = [ablation.config(method, 0).rollout.noise for method in ("outcome", "zerosearch")]
        assert len({noise.evaluation if noise else 0.0 for noise in noises}) == 1
        assert noises[1] is not None and (noises[1].start, noises[1].end) == (0.0, 0.5)


def test_noisy_retrieval_shares_world_and_cold_start_with_clean() -> None:
    clean, noisy = load_setting("2hops"), load_setting("2hops_noisy")
    assert noisy.testbed == clean.testbed
    assert noisy.train["cold_start"] == clean.train["cold_start"]
    assert noisy.train["limits"] == clean.train["limits"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"overrides": {"learner.learning_rate": 1.0}}, "a method sets composition, credit, rewards, rollout"),
        ({"overrides": {"rollout": {"unit": "group"}}}, "rollout replaces the setting's whole section"),
        ({"overrides": {"rollout.noise": {"end": 0.5}}}, r"rollout\.noise replaces the setting's whole section"),
        ({"overrides": {"rollout.noise.evaluation": 0.5}}, "all methods are evaluated alike"),
        ({"overrides": {}}, "overrides: Dictionary should have at least 1 item"),
        ({"titel": "x"}, "titel: unknown field; did you mean 'title'"),
        ({"needs": ["luck"]}, "needs"),
        ({"tier": "third"}, "tier"),
    ],
)
def test_a_bad_method_is_refused_with_the_way_out(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**METHOD, **change}), encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        load_method(str(path))


def test_a_name_that_is_no_method_or_setting_is_answered_with_a_near_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'stepsearch'"):
        load_method("step_search")
    with pytest.raises(ConfigError, match="did you mean '2hops'"):
        load_setting("2hop")
    (tmp_path / "Bad Name.yaml").write_text(yaml.safe_dump(METHOD), encoding="utf-8")
    with pytest.raises(ConfigError, match="use lower-case letters"):
        load_method(str(tmp_path / "Bad Name.yaml"))


def test_a_recipe_of_ones_own_needs_no_tier_and_is_named_with_its_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("braises.yaml").write_text(yaml.safe_dump({k: v for k, v in METHOD.items() if k != "tier"}), encoding="utf-8")
    assert load_method("braises.yaml").config.tier == "candidate"
    with pytest.raises(ConfigError, match=r" braises\.yaml in this folder is named with its ending\."):
        load_method("braises")
    Path("empty.yaml").write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"empty\.yaml is empty; a config is a mapping of fields"):
        load_method("empty.yaml")


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "outcome.yaml").write_text(yaml.safe_dump(METHOD), encoding="utf-8")
    with pytest.raises(ConfigError, match="two methods are named outcome"):
        load_methods(["outcome", str(tmp_path / "outcome.yaml")])
    assert [method.name for method in load_methods(["outcome", "outcome"])] == ["outcome"]


def test_a_method_whose_need_is_not_met_names_settings_that_meet_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reseek needs stating, which setting 2hops lacks: .*2hops_stating"):
        Ablation(name="2hops", setting=load_setting("2hops"), methods=load_methods(["reseek"]), seeds=[0], out=tmp_path)


def test_a_setting_must_leave_open_what_the_comparison_fills_in() -> None:
    with pytest.raises(ConfigError, match="steps: filled in from the testbed, the seeds and the budget"):
        load_setting("2hops", ["train.steps=3"])
    with pytest.raises(ConfigError, match="cold_start is missing"):
        load_setting("2hops", ["train.cold_start=null"])
    assert "2hops" in setting_names()


def test_overrides_reach_a_setting_and_its_world() -> None:
    setting = load_setting("2hops", ["testbed.world.seed=7", "budget=960"])
    assert isinstance(setting, SettingConfig)
    assert (setting.testbed.world_settings().seed, setting.budget) == (7, 960)


@pytest.mark.parametrize(
    ("method", "budget", "spent"),
    [
        ("outcome", 3840, {"steps": 40}),
        ("outcome", 100, {"steps": 1}),
        ("ps_grpo", 3840, {"steps": 40}),
        ("slate", 3840, {"steps": 240, "max_trajectories": 3840}),
        ("tree_outcome", 960, {"steps": 80, "max_trajectories": 960}),
    ],
)
def test_the_budget_is_steps_where_units_have_a_known_size(
    method: str, budget: int, spent: dict[str, int], tmp_path: Path
) -> None:
    ablation = Ablation(
        name="2hops", setting=load_setting("2hops"), methods=load_methods([method]), seeds=[0], out=tmp_path
    )
    assert spend(ablation.config(method, 0), budget) == spent


def test_a_budget_that_buys_no_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="less than one step of 96"):
        Ablation(
            name="2hops",
            setting=load_setting("2hops"),
            methods=load_methods(["outcome"]),
            seeds=[0],
            out=tmp_path,
            budget=95,
        )
