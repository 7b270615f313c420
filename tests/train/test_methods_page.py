"""The recipe, the training config and the setting that docs/methods.md shows load, and are the real ones."""

import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY
from train.ablation_setting import load_setting
from train.config import check_config
from train.config_file import ConfigError
from train.method import MethodConfig, load_method

PAGE = (REPOSITORY / "docs" / "methods.md").read_text(encoding="utf-8")
WHOLE, OVERRIDES, CONFIG, SETTING = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_recipes_load_with_the_fields_that_are_called_required() -> None:
    recipe = yaml.safe_load(WHOLE)
    assert MethodConfig.model_validate(recipe)
    required = {name for name, field in MethodConfig.model_fields.items() if field.is_required()}
    said = re.search(r"^(.*) are required; (.*) may be left out", PAGE, re.MULTILINE)
    assert said and set(re.findall(r"`(\w+)`", said[1])) == required
    assert set(re.findall(r"`(\w+)`", said[2])) == set(MethodConfig.model_fields) - required
    assert yaml.safe_load(OVERRIDES)["overrides"] == load_method("ps_grpo").config.overrides


def test_the_training_config_has_the_overrides_of_the_default() -> None:
    config = yaml.safe_load(CONFIG)
    assert check_config(config)
    assert {key: config[key] for key in ("rewards", "credit")} == load_method("waymark").config.overrides


def test_the_setting_loads_and_its_smallest_values_are_the_smallest(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SETTING, encoding="utf-8")
    setting = load_setting(str(path))
    assert setting.testbed.world_settings().question_wordings == 4
    check_config({**setting.train, **yaml.safe_load(CONFIG), "limits": setting.train["limits"]})
    for world in ("question_wordings=3", "statement_wordings=3"):
        with pytest.raises(ValueError, match="greater than or equal to 4"):
            load_setting(str(path), [f"testbed.world.{world}"]).testbed.world_settings()
    with pytest.raises(ConfigError, match="consistency_wordings"):
        load_setting(str(path), ["consistency_wordings=1"])
    with pytest.raises(ConfigError, match="cold_start"):
        load_setting(str(path), ["train.cold_start=null"])
