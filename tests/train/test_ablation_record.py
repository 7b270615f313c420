"""A record is all that is left of a run: it must come back as it was written, and never pass for another run's."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.train.ablation_records import TINY, fake_record, tiny_ablation, write_fakes
from train.ablation_record import read_record, record_path, write_record
from train.ablation_setting import SettingConfig
from train.config_file import ConfigError


def test_a_record_comes_back_as_it_was_written_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path)
    record = fake_record(ablation, "outcome", 1, em=[1.0, None, 0.333])
    path = record_path(tmp_path / "records", "outcome", 1)
    write_record(path, record)
    assert read_record(path) == record
    assert [file.name for file in path.parent.iterdir()] == ["seed-1.json"]


def test_a_record_holds_no_path_of_the_machine_that_made_it(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path / "deep" / "folder")
    assert str(tmp_path) not in fake_record(ablation, "outcome", 0).model_dump_json()


def test_records_are_found_where_another_folder_made_them(tmp_path: Path) -> None:
    there = tiny_ablation(tmp_path / "there")
    write_fakes(there, {"outcome": [[1.0], [0.0]], "hops_normalised": [[1.0]]})
    here = tiny_ablation(tmp_path / "here", records=tmp_path / "there" / "records")
    assert here.missing() == [("hops_normalised", 1)]
    assert sorted(here.read()["outcome"]) == [0, 1]


def test_a_record_is_of_the_same_run_whatever_the_watch_was_told(tmp_path: Path) -> None:
    """No figure of a finished run depends on it, and records from before there was one must stay what they are."""
    plain = tiny_ablation(tmp_path)
    write_fakes(plain, {"outcome": [[1.0]]})
    path = record_path(plain.records, "outcome", 0)
    assert "watch" not in json.loads(path.read_text(encoding="utf-8"))["settings"]["config"]
    told = _changed({"train.watch": {"action": "stop", "limits": {"entropy_rise": None}}})
    watched = tiny_ablation(tmp_path, setting=told)
    assert sorted(watched.read()["outcome"]) == [0]
    assert fake_record(watched, "outcome", 0).config_sha256 == read_record(path).config_sha256


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"budget": 32}, "steps=2, now it is 4"),
        ({"setting": {"test_limit": 5}}, "test_limit=6, now it is 5"),
        (
            {"setting": {"testbed.world": {"preset": "tiny", "hops": [2], "seed": 4}}},
            "testbed.world.seed=3, now it is 4",
        ),
        ({"setting": {"train.learner": {"learning_rate": 2e-3}}}, "learner.learning_rate=0.001, now it is 0.002"),
    ],
)
def test_a_record_of_other_settings_is_refused_with_what_differs(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    write_fakes(tiny_ablation(tmp_path), {"outcome": [[1.0]]})
    settings = dict(change)
    if "setting" in settings:
        settings["setting"] = _changed(settings["setting"])
    with pytest.raises(ConfigError, match=words):
        tiny_ablation(tmp_path, **settings).read()


def _changed(changes: dict[str, Any]) -> SettingConfig:
    data = deepcopy(TINY)
    for key, value in changes.items():
        section, _, field = key.partition(".")
        if field:
            data[section][field] = value
        else:
            data[section] = value
    return SettingConfig.model_validate(data)


def test_a_method_that_was_changed_since_does_not_pass_for_itself(tmp_path: Path) -> None:
    write_fakes(tiny_ablation(tmp_path, ["hops_normalised"]), {"hops_normalised": [[1.0]]})
    path = record_path(tmp_path / "records", "hops_normalised", 0)
    data = json.loads(path.read_text(encoding="utf-8"))
    data["settings"]["config"]["rewards"]["hop_relevance"]["weight"] = 0.25
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"rewards\.hop_relevance\.weight=0\.25, now it is 0\.5"):
        tiny_ablation(tmp_path, ["hops_normalised"]).read()


def test_a_field_that_is_newer_than_the_record_counts_with_its_default(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path)
    write_fakes(ablation, {"outcome": [[1.0]]})
    path = record_path(ablation.records, "outcome", 0)
    data = json.loads(path.read_text(encoding="utf-8"))
    del data["settings"]["config"]["rollout"]["zero_variance"]
    del data["settings"]["config"]["keep_checkpoints"]
    path.write_text(json.dumps(data), encoding="utf-8")
    assert ablation.read()["outcome"].keys() == {0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not a record: .*delete it to have the run made again"),
        ("[]", "a record of format 'list'"),
        ('{"format": 99}', "a record of format 99; this version reads format 1"),
        ('{"format": 1}', "method"),
    ],
)
def test_what_is_no_record_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "seed-0.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        read_record(path)


def test_a_record_in_the_place_of_another_run_is_refused(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path)
    write_record(record_path(ablation.records, "outcome", 0), fake_record(ablation, "outcome", 1))
    with pytest.raises(ConfigError, match="of outcome with seed 1: it lies where that of outcome with seed 0"):
        ablation.read()
