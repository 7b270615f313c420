"""What a run needs is looked at before anything is spent: files, limits and packages, each with its way out."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rewards.annotation import MissingAnnotation
from tests.train.conftest import run_settings
from tests.train.fakes import EvenTokens
from train import tracking
from train.assembly import assemble
from train.config import check_config
from train.config_file import ConfigError
from train.plan import plan_of
from train.testbed import Testbed


def refused(testbed: Testbed, words: str, **changes: Any) -> None:
    with pytest.raises(ValueError, match=words):
        assemble(check_config(run_settings(testbed, **changes)))


def test_what_is_in_order_is_assembled(testbed: Testbed) -> None:
    parts = assemble(check_config(run_settings(testbed)))
    assert parts.train_questions and len(parts.dev_questions) == 8 and parts.warnings == ()


def test_a_model_folder_without_tokenizer_or_weights_is_refused(testbed: Testbed, tmp_path: Path) -> None:
    shutil.copy(testbed.policy / "config.json", tmp_path)
    refused(testbed, "has no tokenizer.*tokenizer.save_pretrained", policy={"model": str(tmp_path)})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(testbed.policy / name, tmp_path)
    refused(testbed, "has no weights.*model.save_pretrained", policy={"model": str(tmp_path)})


def test_limits_that_cannot_hold_are_refused(testbed: Testbed) -> None:
    limits = run_settings(testbed)["limits"]
    refused(testbed, "top_k is 9999999.*holds only", limits={**limits, "top_k": 9_999_999})
    refused(testbed, "empty observation wrapper", limits={**limits, "max_observation_tokens": 1})
    refused(
        testbed,
        "the prompt has .* limits.max_trajectory_tokens is 12: no room is left",
        limits={**limits, "max_trajectory_tokens": 12, "max_new_tokens_per_turn": 4},
    )


def test_a_short_text_of_many_tokens_is_refused_before_the_run(testbed: Testbed, tmp_path: Path) -> None:
    data = run_settings(testbed)["data"]
    rows = [json.loads(line) for line in Path(data["train_questions"]).read_text().splitlines()]
    rows[700]["question"] = "ŵ ẅ ŷ ÿ " * 8  # fewer characters than most questions have, and many bytes
    assert sum(len(row["question"]) > len(rows[700]["question"]) for row in rows) > 1000
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    limits = {**run_settings(testbed)["limits"], "max_trajectory_tokens": 60}
    assert assemble(check_config(run_settings(testbed, limits=limits))).warnings == ()
    refused(testbed, "no room is left .*ŵ ẅ ŷ", data={**data, "train_questions": questions}, limits=limits)


def test_supports_that_the_index_lacks_are_told_for_train_and_for_dev(testbed: Testbed, tmp_path: Path) -> None:
    data = run_settings(testbed)["data"]
    for split in ("train", "dev"):
        rows = [json.loads(line) for line in Path(data[f"{split}_questions"]).read_text().splitlines()]
        rows[3]["supporting_ids"].append("gone")
        lacking = tmp_path / f"{split}.jsonl"
        lacking.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        config = check_config(run_settings(testbed, data={**data, f"{split}_questions": lacking}))
        parts = assemble(config)
        [warning] = parts.warnings
        assert warning.startswith(f"{split} questions: 1 of ") and f"gone (question {rows[3]['id']})" in warning
        assert f"warning      {warning}" in plan_of(config, parts).splitlines()


def without(field: str, testbed: Testbed, folder: Path, num_questions: int | None = None) -> tuple[str, dict[str, Any]]:
    """A file of the training questions of which the first few, or all, lack a field, and `data` that names it."""
    rows = [json.loads(line) for line in testbed.questions("train").read_text(encoding="utf-8").splitlines()]
    for row in rows[:num_questions]:
        del row[field]
    path = folder / f"without-{field}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path), {**run_settings(testbed)["data"], "train_questions": str(path)}


@pytest.mark.parametrize("num_questions", [2, None])
def test_questions_without_hops_are_refused_under_a_reward_that_reads_them(
    testbed: Testbed, tmp_path: Path, num_questions: int | None
) -> None:
    path, data = without("decomposition", testbed, tmp_path, num_questions)
    rewards = {"exact_match": {}, "steps": {"use": "sufficiency"}}
    with pytest.raises(MissingAnnotation) as error:
        assemble(check_config(run_settings(testbed, data=data, rewards=rewards)))
    told = str(error.value)
    assert "reward 'steps' needs the dataset field 'decomposition' (Question.hops), which " in told
    assert f"questions of {path} lack (train-bridge-2hop-00000, " in told and "exact_match" not in told
    assert ("which 2 of " in told) == (num_questions == 2)
    assert assemble(check_config(run_settings(testbed, data=data))).warnings == (), "which no other reward reads"


@pytest.mark.parametrize(
    ("num_questions", "allow_fewer", "words"),
    [
        (None, True, "none has any: annotate them, or set unit: group without rewards.alike"),
        (2, False, "set rollout.unit.allow_fewer: true"),
        (2, True, "reward 'alike' needs the dataset field 'paraphrases', which 2 of "),
    ],
)
def test_questions_without_paraphrases_are_refused_under_a_reward_that_compares_wordings(
    testbed: Testbed, tmp_path: Path, num_questions: int | None, allow_fewer: bool, words: str
) -> None:
    path, data = without("paraphrases", testbed, tmp_path, num_questions)
    unit = {"kind": "paraphrase_set", "wordings": 2, "samples_per_wording": 2, "allow_fewer": allow_fewer}
    rollout = {**run_settings(testbed)["rollout"], "unit": unit}
    rewards = {"f1": {}, "alike": {"use": "consistency"}}
    with pytest.raises((MissingAnnotation, ConfigError)) as error:
        assemble(check_config(run_settings(testbed, data=data, rollout=rollout, rewards=rewards)))
    told = str(error.value)
    assert words in told and f"questions of {path} " in told and "alike" in told and "f1" not in told


def test_questions_to_train_on_are_no_dev_questions(testbed: Testbed) -> None:
    data = run_settings(testbed)["data"]
    refused(testbed, "give dev questions of their own", data={**data, "dev_questions": data["train_questions"]})


def test_a_missing_tracker_and_settings_that_trl_refuses_are_told_first(
    testbed: Testbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: [])
    refused(testbed, "tracker 'wandb' is not installed", tracker="wandb")
    refused(testbed, "TRL refuses these settings: .*adamv", learner={"trl": {"optim": "adamv"}})


class Remembers(EvenTokens):
    """A reward with a state."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        return None


@pytest.mark.parametrize(
    "ahead",
    [
        {"rollout": {"zero_variance": "resample", "max_staleness": 1}, "learner": {"importance_weight_cap": 2.0}},
        {"rollout": {"zero_variance": "resample"}, "runtime": {"kind": "ray", "learners": 2}},
    ],
)
def test_a_rewards_state_may_not_run_ahead_of_the_steps(testbed: Testbed, ahead: dict[str, Any]) -> None:
    remembers = {"remembers": {"use": f"{__name__}:Remembers"}}
    refused(testbed, "the reward remembers keeps a state.*zero_variance: drop or keep", rewards=remembers, **ahead)
    assert assemble(check_config(run_settings(testbed, **ahead))).rewards.rewards
    kept = {**ahead, "rollout": {**ahead["rollout"], "zero_variance": "drop"}}
    assert assemble(check_config(run_settings(testbed, rewards=remembers, **kept))).rewards.is_stateful
