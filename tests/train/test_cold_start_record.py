"""A finished cold start is used again where nothing that decides its bits changed, and refused by the leaf that did."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.train.ablation_records import TINY
from train.changed_settings import differences, refuse_changes
from train.cold_start_record import ColdStartRecord
from train.config import TrainConfig
from train.config_file import ConfigError
from train.study import Study, StudyConfig
from train.testbed import TestbedConfig, prepare_testbed

RATES = {"wrong_query": 0.5, "early_answer": 0.35}
PHASES = [{"steps": 60, "max_turns": 1}, {"steps": 100, "rates": RATES}]


def config_with(phases: Any = PHASES, **changes: Any) -> TrainConfig:
    fields: dict[str, Any] = {
        "policy": {"model": "policy"},
        "data": {"index": "index", "train_questions": "questions.train.jsonl"},
        "rewards": {"exact_match": {"weight": 1.0}},
        "cold_start": {"phases": phases},
        "evaluate_every": 0,
    }
    return TrainConfig.model_validate({**fields, **changes})


def written(path: Path, config: TrainConfig) -> dict[str, Any]:
    ColdStartRecord.of(config).write(path)
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"protocol": {"name": "search_r1", "overrides": {"tools": ["search"], "name": "None of these"}}},
        {"limits": {"max_searches": 2}},
        {"data": {"index": {"hybrid": ["a", "b"]}, "corpus_index": "a", "train_questions": "questions.train.jsonl"}},
    ],
)
def test_a_record_is_read_as_it_was_written(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = config_with(**changes)
    written(tmp_path / "cold_start.json", config)
    assert ColdStartRecord.read(tmp_path / "cold_start.json") == ColdStartRecord.of(config)


def test_a_record_without_fields_that_came_later_counts_with_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "cold_start.json"
    data = written(path, config_with())
    phases = ColdStartRecord.of(config_with()).model_dump(mode="json")["cold_start"]["phases"]
    for phase in phases:
        del phase["rates"]["wrong_statement"], phase["schedule"]
    data["cold_start.phases"] = str(phases)
    path.write_text(json.dumps({k: v for k, v in data.items() if k != "limits.max_query_chars"}), encoding="utf-8")
    assert ColdStartRecord.read(path) == ColdStartRecord.of(config_with())


def finished(folder: Path, phases: Any) -> Study:
    """A study whose cold start is there, made with these phases; nothing was trained."""
    study = Study(study_config(phases), folder)
    study.cold_start.mkdir(parents=True)
    ColdStartRecord.of(study.base_config()).write(folder / "cold_start.json")
    return study


def study_config(phases: Any) -> StudyConfig:
    train = {**TINY["train"], "cold_start": {"phases": phases}}
    return StudyConfig(testbed=TestbedConfig(**TINY["testbed"]), train=train, arms={"outcome": {}})


def test_the_message_names_the_leaf_that_differs_and_nothing_else(tmp_path: Path) -> None:
    finished(tmp_path, PHASES)
    changed = [PHASES[0], {"steps": 100, "rates": {**RATES, "early_answer": 0.25}}]
    with pytest.raises(ConfigError) as error:
        Study(study_config(changed), tmp_path).prepare()
    assert str(error.value) == (
        f"{tmp_path / 'cold_start'} was made with cold_start.phases[1].rates.early_answer=0.35, now it is 0.25: "
        "give another --out, or delete what was made"
    )


def test_another_number_of_phases_is_told_as_a_number(tmp_path: Path) -> None:
    finished(tmp_path, PHASES)
    with pytest.raises(ConfigError, match=r"made with number of cold_start\.phases=2, now it is 1: give"):
        Study(study_config(PHASES[:1]), tmp_path).prepare()


def test_a_record_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    finished(tmp_path, PHASES)
    (tmp_path / "cold_start.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="does not say what its cold start was made with"):
        Study(study_config(PHASES), tmp_path).prepare()


def test_a_testbed_is_refused_by_the_leaf_that_differs_and_newer_fields_count_with_their_defaults(
    tmp_path: Path,
) -> None:
    settings = TestbedConfig(**TINY["testbed"])
    testbed = tmp_path / "testbed"
    for made in ("world", "index", "policy"):
        (testbed / made).mkdir(parents=True)
    older = settings.model_dump(mode="json")
    del older["policy"]["initializer_range"]
    (testbed / "testbed.json").write_text(json.dumps(older), encoding="utf-8")
    assert prepare_testbed(settings, testbed).folder == testbed
    wider = {**TINY["testbed"], "policy": {**TINY["testbed"]["policy"], "hidden_size": 64}}
    with pytest.raises(ConfigError, match=r"testbed of other settings: policy\.hidden_size=32, now it is 64: give"):
        prepare_testbed(TestbedConfig(**wider), testbed)


def test_a_list_of_plain_values_is_one_leaf_and_what_is_missing_is_none() -> None:
    assert list(differences({"hops": [2]}, {"hops": [2, 3]})) == [("hops", [2], [2, 3])]
    assert list(differences({}, {"a": None})) == []
    assert list(differences({"a": [{"b": 1}]}, {"a": None})) == [("a", [{"b": 1}], None)]


def test_many_differences_are_counted() -> None:
    with pytest.raises(ConfigError, match=r"it has a=0, now it is 1; b=0, now it is 1; c=0, now it is 1; and 1 more:"):
        refuse_changes(dict.fromkeys("abcd", 0), dict.fromkeys("abcd", 1), "it has")
