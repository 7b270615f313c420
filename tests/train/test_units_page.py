"""docs/units.md names every kind and setting of a unit, and its examples are configs."""

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from tests.train.test_config import MINIMAL
from train.config import check_config
from train.unit_config import AnyUnit

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "units.md").read_text(encoding="utf-8")
EXAMPLES = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


@pytest.mark.parametrize("kind", get_args(AnyUnit))
def test_the_page_names_every_kind_and_setting(kind) -> None:
    for name, field in kind.model_fields.items():
        word = field.default if name == "kind" else name
        assert f"`{word}" in PAGE or f" {word}:" in PAGE, word


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: str(e.get("rollout", {}).get("unit", "budget")))
def test_every_example_is_a_config(example) -> None:
    assert check_config({**MINIMAL, **example})


def test_there_is_an_example_of_every_kind() -> None:
    units = [example["rollout"]["unit"] for example in EXAMPLES if "rollout" in example]
    kinds = {unit if isinstance(unit, str) else unit["kind"] for unit in units}
    assert kinds == {kind.model_fields["kind"].default for kind in get_args(AnyUnit)}
