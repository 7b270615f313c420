"""The whole road on a small scale: it must go on where it stopped, never read parts of other settings, and refuse an
easy world."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.train.conftest import SMALL_POLICY, SMALL_WORLD
from train import quickstart as module
from train.config_file import ConfigError
from train.quickstart import TooEasy, quickstart

STUDY: dict[str, Any] = {
    "testbed": {"world": SMALL_WORLD, "policy": SMALL_POLICY},
    "train": {
        "steps": 2,
        "limits": {
            "max_turns": 3,
            "top_k": 2,
            "max_new_tokens_per_turn": 16,
            "max_observation_tokens": 160,
            "max_trajectory_tokens": 600,
        },
        "rollout": {"questions_per_step": 2, "samples_per_question": 2},
        "rewards": {"exact_match": {"weight": 1.0}, "hop_relevance": {"weight": 0.5}},
        "data": {"dev_limit": 4},
        "cold_start": {"phases": [{"demonstrations": 32, "steps": 4, "batch_size": 8}]},
        "evaluate_every": 1,
        "checkpoint_every": 1,
    },
    "arms": {
        "outcome": {"credit.estimator": "outcome", "rewards.hop_relevance": None},
        "turn": {"credit.estimator": "turn"},
    },
    "test_limit": 4,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a finished quickstart and the figures that it returned."""
    out = tmp_path_factory.mktemp("quickstart") / "out"
    return out, quickstart(out, study_path=study)


def test_the_report_holds_arms_and_controls(finished: tuple[Path, dict[str, Any]]) -> None:
    out, figures = finished
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert set(report["arms"]) == {"outcome", "turn"}
    assert {"em", "trajectories_to_em_0.8", "seconds"} <= set(report["arms"]["turn"])
    assert set(report["controls"]) == {"cold_start", "closed_book", "random_retriever", "single_search"}
    assert all("em" in control for control in report["controls"].values())
    assert len(report["examples"]) == 3
    assert report["comparability"]["decoding"]["dtype"] == "float32"
    assert report["arms"]["turn"].items() >= figures["arms"]["turn"].items()
    assert (out / "report.html").is_file()


def test_a_second_call_trains_nothing_again(finished: tuple[Path, dict[str, Any]], study: Path) -> None:
    out, figures = finished
    model = out / "runs" / "turn" / "seed-0" / "model" / "model.safetensors"
    written = model.stat().st_mtime_ns
    again = quickstart(out, study_path=study)
    assert model.stat().st_mtime_ns == written
    assert again["arms"] == figures["arms"]
    assert "after an earlier one" in (out / "report.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.learner.learning_rate=1e-3", "learner.learning_rate"),
        ("train.steps=3", "steps=2, now it is 3"),
        ("arms.turn.credit.estimator=turn_normalised", "credit.estimator='turn', now it is 'turn_normalised'"),
        ("train.limits.max_turns=2", "limits.max_turns"),
        ("testbed.world.seed=4", "testbed of other settings"),
    ],
)
def test_parts_of_other_settings_are_never_read_as_this_runs(
    finished: tuple[Path, dict[str, Any]], study: Path, override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        quickstart(finished[0], study_path=study, overrides=(override,))


def test_a_cold_start_of_other_settings_is_not_read(finished: tuple[Path, dict[str, Any]], study: Path) -> None:
    changed = "train.cold_start.phases=[{demonstrations: 32, steps: 5, batch_size: 8}]"
    with pytest.raises(ConfigError, match=r"cold_start was made with cold_start\.phases"):
        quickstart(finished[0], study_path=study, overrides=(changed,))


@pytest.mark.parametrize(
    "override", ["train.stpes=1", "arms.turn.credit.estimatr=x", "testbed.world.foo=1", "testbed.world.preset=tini"]
)
def test_a_wrong_setting_is_refused_before_anything_is_made(study: Path, tmp_path: Path, override: str) -> None:
    with pytest.raises(ValueError, match=r"stpes|estimatr|foo|tini"):
        quickstart(tmp_path / "out", study_path=study, overrides=(override,))
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_not_written_to(study: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="holds other files; name a new folder"):
        quickstart(tmp_path, study_path=study)
    with pytest.raises(ValueError, match=r"notes.txt is a file; name a folder"):
        quickstart(tmp_path / "notes.txt", study_path=study)


def test_an_easy_world_is_called_one(
    finished: tuple[Path, dict[str, Any]], study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.EASY_ABOVE, "single_search", -1.0)
    with pytest.raises(TooEasy, match=r"the world is too easy: single_search EM is 0.000, above -1.0"):
        quickstart(finished[0], study_path=study)
    report = json.loads((finished[0] / "report.json").read_text(encoding="utf-8"))
    assert "The world is too easy: single_search EM is 0.000, above -1.0." in report["summary"]
    assert "Arm turn stays below the EM of 0.8 that it should reach on this world." in report["summary"]
