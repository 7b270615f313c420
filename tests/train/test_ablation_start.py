"""A comparison begins with the policy that is kept for its setting, or makes one where it asks for another."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train.ablation_start as ablation_start
from agent.engines.loading import load_model
from evaluation.comparability import describe_model
from tests.train.ablation_records import TINY, tiny_ablation
from train.ablation import Ablation
from train.ablation_setting import SettingConfig, load_setting, setting_names
from train.ablation_start import MADE_WITH, keep_start, made_with, start_folder
from train.changed_settings import differences
from train.cold_start_record import ColdStartRecord
from train.config_file import ConfigError
from train.method import load_methods


def started(out: Path, told: list[str] | None = None, **changes: object) -> Ablation:
    return tiny_ablation(
        out,
        setting=SettingConfig.model_validate({**TINY, "start": "tiny", **changes}),
        say=(told if told is not None else []).append,
    )


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The untrained policy of the tiny setting, kept as if it were its cold start."""
    monkeypatch.setattr(ablation_start, "start_folder", lambda name: tmp_path / "starts" / name)
    ablation = tiny_ablation(tmp_path / "first")
    testbed = ablation.study.prepare()
    record = ColdStartRecord.of(ablation.study.base_config())
    keep_start(testbed.policy, ablation.setting.testbed, record, tmp_path / "starts" / "tiny")
    return tmp_path / "starts" / "tiny"


def test_the_kept_policy_is_copied_to_the_bit_and_no_other_is_made(tmp_path: Path, kept: Path) -> None:
    ablation, told = started(tmp_path / "second"), []
    ablation.prepare()
    cold_start = ablation.study.cold_start
    assert (describe_model(cold_start) or {})["weights_sha256"] == (describe_model(kept) or {})["weights_sha256"]
    assert not (cold_start / MADE_WITH).exists()
    assert all(weights.dtype == torch.bfloat16 for weights in load_file(cold_start / "model.safetensors").values())
    assert load_model(cold_start).dtype == torch.float32
    started(tmp_path / "second", told).prepare()
    assert not told


def test_other_settings_have_their_cold_start_made_and_are_told(tmp_path: Path, kept: Path) -> None:
    told: list[str] = []
    phases = {"phases": [{"demonstrations": 64, "steps": 9, "batch_size": 8}]}
    ablation = started(tmp_path / "second", told, train={**TINY["train"], "cold_start": phases})  # type: ignore[dict-item]
    ablation.prepare()
    assert "cold_start.phases[0].steps" in told[0]
    assert (describe_model(ablation.study.cold_start) or {})["weights_sha256"] != (describe_model(kept) or {})[
        "weights_sha256"
    ]


def test_a_folder_with_another_policy_is_refused(tmp_path: Path, kept: Path) -> None:
    with pytest.raises(ConfigError, match="another policy than the setting's start 'tiny'"):
        started(tmp_path / "first").prepare()


def test_a_start_that_is_not_kept_is_refused(tmp_path: Path, kept: Path) -> None:
    with pytest.raises(ConfigError, match="no policy is kept"):
        started(tmp_path / "second", start="nowhere").prepare()


@pytest.mark.parametrize("name", [name for name in setting_names() if load_setting(name).start])
def test_a_settings_kept_start_is_the_one_its_cold_start_describes(name: str, tmp_path: Path) -> None:
    setting = load_setting(name)
    ablation = Ablation(name=name, setting=setting, methods=load_methods(["outcome"]), seeds=[0], out=tmp_path)
    record = ColdStartRecord.of(ablation.study.base_config())
    recorded = json.loads((start_folder(setting.start or "") / MADE_WITH).read_text())
    assert list(differences(recorded, made_with(setting.testbed, record))) == []
