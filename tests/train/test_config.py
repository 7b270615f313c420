"""A config is checked whole before anything is spent; every message says what to do."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from train.config import check_config, dump_config, load_config
from train.config_file import ConfigError

MINIMAL: dict[str, Any] = {
    "policy": {"model": "some/model"},
    "data": {"index": "i", "train_questions": "q"},
    "rewards": {"exact_match": {"weight": 1.0}},
    "evaluate_every": 0,
}


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(MINIMAL), encoding="utf-8")
    return path


def test_dotted_overrides_reach_nested_fields_and_floats_without_a_point(minimal: Path) -> None:
    config = load_config(
        minimal, ["learner.learning_rate=1e-4", "rollout.questions_per_step=5", "credit.estimator=turn"]
    )
    assert config.learner.learning_rate == 1e-4
    assert config.rollout.questions_per_step == 5


def test_a_dumped_config_loads_as_the_same_config(minimal: Path, tmp_path: Path) -> None:
    config = load_config(minimal)
    dump_config(config, tmp_path / "again.yaml")
    assert load_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stepz": 3}, ["stepz", "unknown field", "'steps'"]),
        ({"learner": {"learning_rat": 1}}, ["learner.learning_rat", "'learning_rate'"]),
        ({"rewards": {"exact_match": {"wieght": 1}}}, ["wieght", "'weight'"]),
        ({"steps": 0}, ["steps: 0 is too small; give at least 1"]),
        ({"steps": "many"}, ["steps: 'many' is not a whole number"]),
        ({"rollout": {"temperature": 0}}, ["rollout.temperature is 0", "above 0"]),
        ({"rollout": {"top_p": 0.9}}, ["top_p=0.9", "full distribution"]),
        ({"rollout": {"samples_per_question": 1}}, ["group of one", "use 2 or more"]),
        ({"rewards": {}}, ["rewards is empty", "exact_match"]),
        ({"rewards": {"exact_match": {"weight": 0}}}, ["weight 0"]),
        ({"evaluate_every": 5}, ["dev_questions is not set"]),
        ({"rollout": {"temperature": float("nan")}}, ["rollout.temperature", "finite"]),
        ({"learner": {"learning_rate": float("inf")}}, ["learner.learning_rate", "finite"]),
        ({"learner": {"peft": {"alpha": float("inf")}}}, ["learner.peft.alpha", "finite"]),
        ({"learner": {"seed": 7}}, ["learner.seed is 7, but seed is 0", "leave learner.seed out"]),
        ({"learner": {"importance_sampling_level": "sequence"}}, ["credit.estimator turn", "outcome_mean"]),
        (
            {"learner": {"loss_type": "luspo", "importance_sampling_level": "sequence"}, "credit": {}},
            ["credit.estimator turn", "outcome_mean"],
        ),
        ({"limits": 4}, ["limits: must be a section", "max_turns", "not 4"]),
        ({"learner": {"peft": {"rang": 4}}}, ["learner.peft.rang", "'rank'"]),
        ({"cold_start": {"phases": [{"rates": {"early_anser": 1}}]}}, ["early_anser", "'early_answer'"]),
        ({"rewards": {"exact_match": None}}, ["rewards.exact_match: must be a section", "weight", "not None"]),
    ],
)
def test_a_bad_config_is_refused_with_the_way_out(change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        check_config({**MINIMAL, **change})
    for word in words:
        assert word in str(caught.value)


def test_null_takes_a_reward_out(minimal: Path) -> None:
    rewards = load_config(minimal, ["rewards.f1.weight=0.5", "rewards.exact_match=null"]).rewards
    assert set(rewards) == {"f1"}


def test_an_error_inside_a_list_is_told_alone() -> None:
    with pytest.raises(ConfigError) as caught:
        check_config({**MINIMAL, "cold_start": {"phases": [{"stepz": 1}]}})
    assert "cold_start.phases.0.stepz: unknown field; did you mean 'steps'?" in str(caught.value)
    assert "at least 1 item" not in str(caught.value)


def test_two_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        check_config({**MINIMAL, "stepz": 3, "seed": -1})
    assert "stepz" in str(caught.value)
    assert "seed" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "override", "words"),
    [
        (None, [], "no config at"),
        ("a: [", [], "not valid YAML"),
        ("- 1", [], "a config is a mapping"),
        (yaml.safe_dump(MINIMAL), ["steps"], "field.subfield=value"),
        (yaml.safe_dump(MINIMAL), ["seed=2", "seed.x=1"], "holds a value"),
        (yaml.safe_dump(MINIMAL), ["seed=[1"], r"override 'seed=\[1': '\[1' is not a YAML value"),
        ("steps: 3\nseed: 1\nsteps: 4\n", [], r"(?s)'steps' stands twice.*line 3"),
        ("learner: {beta: 0.1, beta: 0.2}", [], "'beta' stands twice"),
    ],
)
def test_a_file_or_override_that_cannot_be_read_is_named(
    tmp_path: Path, text: str | None, override: list[str], words: str
) -> None:
    path = tmp_path / "c.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        load_config(path, override)
