"""A result must not pass for that of a reward which its author has changed since."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.train.ablation_records import TINY, fake_record, tiny_ablation, write_fakes
from train.ablation_record import read_record, record_path, write_record
from train.ablation_report import compare
from train.ablation_request import AblationRequest
from train.config_file import ConfigError
from train.recorded_sources import OWN_PACKAGES, source_hashes

METHOD = {
    "title": "Mine",
    "source": "mine",
    "summary": "mine",
    "tier": "candidate",
    "overrides": {"rewards.mine": {"use": "mine.deep:Reward", "params": {"file": "rubrics.json"}}},
}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Writes a file in the current folder; a method, its reward and what it reads are there already."""

    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    monkeypatch.chdir(tmp_path)
    write("mine/__init__.py", "raise RuntimeError('was run')")
    write("mine/deep.py", "one = 1")
    write("rubrics.json", "{}")
    write("mine.yaml", yaml.safe_dump(METHOD))
    return write


def recorded(out: Path) -> Path:
    """The record of a run of the method that is here."""
    ablation = tiny_ablation(out, ["mine.yaml"])
    sources = source_hashes(ablation.config("mine", 0).model_dump(mode="json"))
    path = record_path(ablation.records, "mine", 0)
    write_record(path, fake_record(ablation, "mine", 0, sources=sources))
    return path


def test_sources_of_ones_own_are_found_wherever_they_are_named_and_are_not_run(written: Any) -> None:
    config = {
        "rewards": {
            "mine.deep:AsName": {"use": None, "params": {}},
            "trl": {"use": "rewards.adapters:trl_reward", "params": {"function": "mine.deep:f", "file": "absent"}},
            "nuggets": {"use": None, "params": {"nuggets": "rubrics.json", "judge": {"cache": "mine.yaml"}}},
        },
        "credit": {"estimator": "mine:Estimator"},
        "data": {"index": "http://host:80", "format": "no_such_module:read"},
    }
    assert sorted(source_hashes(config)) == [
        "mine.deep:AsName", "mine.deep:f", "mine:Estimator", "rewards.nuggets.params.nuggets",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "named"), [("mine/deep.py", "mine.deep:Reward"), ("rubrics.json", "rewards.mine.params.file")]
)
def test_a_record_of_a_source_that_was_changed_since_is_refused(
    tmp_path: Path, written: Any, changed: str, named: str
) -> None:
    path = recorded(tmp_path / "out")
    assert tiny_ablation(tmp_path / "out", ["mine.yaml"]).read()["mine"].keys() == {0}
    written(changed, "{} # changed")
    with pytest.raises(ConfigError, match=rf"{path} .* {named} .*delete the record .* or give another --records"):
        tiny_ablation(tmp_path / "out", ["mine.yaml"]).read()


def test_the_projects_own_packages_are_those_that_it_installs() -> None:
    pyproject = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(pyproject["tool"]["mypy"]["packages"]) | {"configs"} == OWN_PACKAGES


def test_what_one_side_does_not_know_is_not_compared(tmp_path: Path, written: Any) -> None:
    path = recorded(tmp_path / "out")
    (tmp_path / "mine/deep.py").unlink()
    assert tiny_ablation(tmp_path / "out", ["mine.yaml"]).read()["mine"].keys() == {0}
    data = json.loads(path.read_text(encoding="utf-8"))
    without = {key: value for key, value in data.items() if key != "sources"}
    path.write_text(json.dumps(without), encoding="utf-8")
    assert read_record(path).sources == {}
    written("mine/deep.py", "two = 2")
    assert tiny_ablation(tmp_path / "out", ["mine.yaml"]).read()["mine"].keys() == {0}


@pytest.mark.parametrize(
    ("seeds", "words"), [(1, "1 run has a record already and is"), (2, "2 runs have records already and are")]
)
def test_it_is_told_what_is_not_run_again(tmp_path: Path, seeds: int, words: str) -> None:
    setting = tmp_path / "tiny.yaml"
    setting.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    write_fakes(tiny_ablation(tmp_path / "out", ["outcome"]), {"outcome": [[1.0, 0.0]] * seeds})
    request = AblationRequest.parse(
        ["outcome"], setting=str(setting), seeds=str(seeds), budget=16, out=tmp_path / "out"
    )
    told: list[str] = []
    compare(request, say=told.append)
    assert told == [f"{words} not run again"]
