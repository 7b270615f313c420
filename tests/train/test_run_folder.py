"""One run, one folder, one writer: what may go on in it, and what is refused before anything is overwritten."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.train.test_config import MINIMAL
from train.config import TrainConfig, check_config
from train.config_file import ConfigError
from train.run_folder import RunFolder


def config(**changes: Any) -> TrainConfig:
    return check_config({**MINIMAL, **changes})


def started(path: Path, **changes: Any) -> Path:
    RunFolder.open(path, config(**changes), resume=False).close()
    return path


def test_a_folder_with_anything_in_it_is_not_overwritten(tmp_path: Path) -> None:
    run = started(tmp_path / "run")
    with pytest.raises(ConfigError, match="go on with --resume, or choose another --out"):
        RunFolder.open(run, config(), resume=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not empty"):
        RunFolder.open(tmp_path / "mine", config(), resume=False)


def test_there_must_be_a_run_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        RunFolder.open(tmp_path / "run", config(), resume=True)


def test_a_second_writer_is_refused_until_the_first_has_closed(tmp_path: Path) -> None:
    first = RunFolder.open(tmp_path / "run", config(), resume=False)
    with pytest.raises(ConfigError, match="another process is writing"):
        RunFolder.open(tmp_path / "run", config(), resume=True)
    first.close()
    RunFolder.open(tmp_path / "run", config(), resume=True).close()


def test_going_on_with_other_settings_names_the_fields_that_differ_and_no_others(tmp_path: Path) -> None:
    run = started(tmp_path / "run")
    with pytest.raises(ConfigError) as caught:
        RunFolder.open(run, config(learner={"beta": 0.1, "peft": {"rank": 4}}, seed=3), resume=True)
    message = str(caught.value)
    assert "learner.beta: was 0.0, now 0.1" in message
    assert "learner.peft.rank: was None, now 4" in message
    assert "seed: was 0, now 3" in message
    assert "epsilon" not in message and "'None'" not in message and "was None, now None" not in message
    RunFolder.open(run, config(steps=90, keep_checkpoints=5), resume=True).close()


def test_a_run_from_before_a_field_was_there_goes_on_with_its_default_and_with_nothing_else(tmp_path: Path) -> None:
    run = started(tmp_path / "run")
    written = run / "config.yaml"
    before = yaml.safe_load(written.read_text(encoding="utf-8"))
    del before["limits"]["max_opens"], before["limits"]["max_query_chars"], before["rollout"]["max_staleness"]
    written.write_text(yaml.safe_dump(before), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"\(limits\.max_query_chars: was 8192, now 100\)"):
        RunFolder.open(run, config(limits={"max_query_chars": 100}), resume=True)
    with pytest.raises(ConfigError, match=r"\(limits\.max_opens: was None, now 3\)"):
        RunFolder.open(run, config(limits={"max_opens": 3}), resume=True)
    RunFolder.open(run, config(), resume=True).close()


def test_a_recorded_field_that_there_is_no_more_is_named(tmp_path: Path) -> None:
    run = started(tmp_path / "run")
    with (run / "config.yaml").open("a", encoding="utf-8") as file:
        file.write("lookahead: 7\n")
    with pytest.raises(ConfigError, match=r"\(lookahead: was 7, now None\)"):
        RunFolder.open(run, config(), resume=True)


def test_more_steps_would_change_the_finished_ones_under_a_falling_learning_rate(tmp_path: Path) -> None:
    run = started(tmp_path / "run", learner={"schedule": "linear"})
    with pytest.raises(ConfigError, match="steps: was 60, now 90"):
        RunFolder.open(run, config(learner={"schedule": "linear"}, steps=90), resume=True)


def test_the_trained_policy_appears_when_it_is_whole(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "run", config(), resume=False)

    def save(folder: Path) -> None:
        folder.mkdir()
        (folder / "weights").write_text("whole", encoding="utf-8")
        assert not run.model.exists()

    def fail(folder: Path) -> None:
        folder.mkdir()
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        run.write_model(fail)
    assert not run.model.exists()
    run.write_model(save)
    assert (run.model / "weights").read_text(encoding="utf-8") == "whole"
    run.close()
