"""A study's file is checked like a config: every message names the field and what is allowed."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from train.config_file import ConfigError
from train.study import load_study

STUDY: dict[str, Any] = {"testbed": {}, "train": {}, "arms": {"outcome": {"credit.estimator": "outcome"}}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seedz": [1]}, "seedz: unknown field; did you mean 'seeds'"),
        ({"seeds": []}, "seeds: Tuple should have at least 1 item"),
        ({"arms": {}}, "a study needs at least one arm"),
        ({"testbed": {"policy": {"hiden_size": 8}}}, "testbed.policy.hiden_size: unknown field; did you mean 'hidden"),
    ],
)
def test_a_bad_study_is_refused_with_the_way_out(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **change}), encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        load_study(path)


def test_overrides_reach_a_study_and_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    assert load_study(path, ["seeds=[3, 4]"]).seeds == (3, 4)
    with pytest.raises(ConfigError, match="no config at"):
        load_study(tmp_path / "none.yaml")
