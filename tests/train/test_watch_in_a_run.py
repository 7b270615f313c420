"""The watch in whole runs: it stops and warns, leaves what shows why, and a resumed run is watched like any other."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.trajectory_store import read_trajectories
from tests.train.conftest import run_settings
from train.checkpoint import list_checkpoints, read_state
from train.config import check_config
from train.progress import Progress, RunStopped
from train.run import train
from train.testbed import Testbed
from train.tracking import METRICS_FILE, WALL_CLOCK_PREFIX, read_metrics
from train.watch import CollapseWatch
from train.watch_config import WatchConfig, WatchLimits
from train.watch_record import ALARMS_FILE, CollapseStop, WatchRecord, read_alarms
from train.watch_signals import HELD_OUT_HIGH, SIGNALS

REWARDS = {"even_tokens": {"use": "tests.train.fakes:EvenTokens"}, "exact_match": {"weight": 1.0}}
LIMITS = {**dict.fromkeys(WatchLimits.model_fields), "entropy_rise": 1.0001, "entropy_fall": 0.9999, "update_tail": 0.9}
TENSE = {"limits": LIMITS, "stop_signals": 1}
"""The entropy of a run never stays where it was: so an alarm comes at its third step at the latest."""


class Told(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def stage(self, text: str) -> None:
        self.lines.append(text)


def settings(testbed: Testbed, action: str, **changes: Any) -> dict[str, Any]:
    watch = {"action": action, **TENSE}
    return run_settings(testbed, **{"rewards": REWARDS, "steps": 6, "checkpoint_every": 2, "watch": watch, **changes})


def reproducible(run: Path) -> list[dict[str, Any]]:
    lines = read_metrics(run / METRICS_FILE)
    return [{k: v for k, v in line.items() if not k.startswith(WALL_CLOCK_PREFIX)} for line in lines]


@pytest.fixture(scope="module")
def stopped(testbed: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that the watch has ended."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(CollapseStop, match="collapse watch ended the run at step") as error:
        train(check_config(settings(testbed, "stop")), run)
    assert isinstance(error.value, RunStopped), "verbs and comparisons know this end"
    return run


def test_a_stop_keeps_the_batch_that_shows_it_and_a_checkpoint_of_its_step(stopped: Path) -> None:
    alarms = read_alarms(stopped)
    step = alarms[-1]["step"]
    assert alarms[-1]["stops"] and alarms[-1]["signal"] in ("entropy_rise", "entropy_fall")
    assert read_metrics(stopped / METRICS_FILE)[-1]["step"] == step, "the step's line is not lost"
    assert read_metrics(stopped / METRICS_FILE)[-1]["watch/alarms"] == 1.0
    assert read_state(list_checkpoints(stopped)[-1]).step == step
    batch = stopped / alarms[-1]["batch"]
    stored = list(read_trajectories(batch / "trajectories"))
    assert {one.step for one in stored} == {step} and len(stored) == 12
    assert all("rewards" in one.extra and "advantages" in one.extra for one in stored)
    told = json.loads((batch / "alarm.json").read_text(encoding="utf-8"))
    assert told["step"] == step and told["alarms"] == alarms[-1:] and told["metrics"]["entropy"] == alarms[-1]["value"]
    assert not (stopped / "model").exists(), "what has collapsed is no trained policy"


def test_a_replay_of_the_metrics_gives_the_alarms_of_the_run(stopped: Path) -> None:
    config = WatchConfig.model_validate(yaml.safe_load((stopped / "config.yaml").read_text(encoding="utf-8"))["watch"])
    watch = CollapseWatch(config)
    replayed = [a for line in read_metrics(stopped / METRICS_FILE) for a in watch.observe(line["step"], line)]
    assert [(a.step, a.signal, a.message) for a in replayed] == [
        (line["step"], line["signal"], line["message"]) for line in read_alarms(stopped)
    ]


def test_a_run_has_the_figures_that_the_watch_reads(stopped: Path) -> None:
    """A figure that was renamed would silence its signal without a word."""
    figures = {name for line in read_metrics(stopped / METRICS_FILE) for name in line}
    read = {signal.metric for signal in SIGNALS} | {HELD_OUT_HIGH, "logprob/num_correct"}
    # This policy may neither search nor be right: `test_collapse_metrics` has those two.
    assert read - figures <= {"logprob/correct", "duplicate_query_rate"}


def test_a_stopped_run_goes_on_when_told_to_warn_and_equals_one_that_was_never_stopped(
    testbed: Testbed, stopped: Path, tmp_path: Path
) -> None:
    stopped = shutil.copytree(stopped, tmp_path / "stopped")
    with pytest.raises(CollapseStop, match=r"watch\.action=warn"):
        train(check_config(settings(testbed, "stop")), stopped, resume=True)
    told = Told()
    train(check_config(settings(testbed, "warn")), stopped, resume=True, progress=told)
    train(check_config(settings(testbed, "warn")), tmp_path / "whole", progress=told)
    assert any("warning: step" in line and "entropy" in line for line in told.lines)
    assert json.dumps(reproducible(stopped)) == json.dumps(reproducible(tmp_path / "whole"))
    assert [{**line, "stops": False} for line in read_alarms(stopped)] == read_alarms(tmp_path / "whole")
    # Off writes nothing of the watch, and learns the same.
    train(check_config(settings(testbed, "off")), tmp_path / "off")
    of_watch = ("watch/", "update/")
    lines = [{k: v for k, v in line.items() if not k.startswith(of_watch)} for line in reproducible(tmp_path / "whole")]
    assert reproducible(tmp_path / "off") == lines
    assert not (tmp_path / "off" / ALARMS_FILE).exists() and not (tmp_path / "off" / "watch").exists()


def test_a_run_killed_before_the_alarm_is_stopped_at_the_same_step(
    testbed: Testbed, stopped: Path, tmp_path: Path
) -> None:
    step = read_alarms(stopped)[0]["step"]
    every_step = {"checkpoint_every": 1}
    train(check_config(settings(testbed, "stop", steps=step - 1, **every_step)), tmp_path / "parts")
    with pytest.raises(CollapseStop):
        train(check_config(settings(testbed, "stop", **every_step)), tmp_path / "parts", resume=True)
    assert read_alarms(tmp_path / "parts") == [line for line in read_alarms(stopped) if line["step"] <= step]


def test_what_later_steps_left_is_dropped_when_they_are_done_again(tmp_path: Path) -> None:
    def open_at(step: int) -> WatchRecord:
        config = WatchConfig(action="warn", max_batches=0)
        return WatchRecord(config, tmp_path, state={}, step=step, tell=lambda line: None)

    record = open_at(0)
    for step, (entropy, answers) in enumerate([(0.1, 0.9), (2.0, 0.9), (2.0, 0.01)]):
        record.observe(step, {"entropy": entropy, "answer_rate": answers})
    assert [line["step"] for line in read_alarms(tmp_path)] == [1, 2]
    for name in ("step-000001", "step-000002", ".step-000002"):
        (tmp_path / "watch" / name).mkdir(parents=True)
    with (tmp_path / ALARMS_FILE).open("a", encoding="utf-8") as file:
        file.write('{"step": 2, "sig')  # a kill in the middle of a line
    open_at(1)
    assert [line["step"] for line in read_alarms(tmp_path)] == [1]
    assert [path.name for path in (tmp_path / "watch").iterdir()] == ["step-000001"]


def test_a_checkpoint_from_before_the_watch_is_gone_on_from(testbed: Testbed, tmp_path: Path) -> None:
    train(check_config(settings(testbed, "warn", steps=2)), tmp_path / "run")
    state = list_checkpoints(tmp_path / "run")[-1] / "state.json"
    old = json.loads(state.read_text(encoding="utf-8"))
    del old["watch"]
    state.write_text(json.dumps(old), encoding="utf-8")
    written = tmp_path / "run" / "config.yaml"
    config = yaml.safe_load(written.read_text(encoding="utf-8"))
    del config["watch"]
    written.write_text(yaml.safe_dump(config), encoding="utf-8")
    result = train(check_config(settings(testbed, "warn", steps=3)), tmp_path / "run", resume=True)
    assert result.steps == 3


def test_an_update_that_breaks_the_policy_reaches_no_engine(testbed: Testbed, tmp_path: Path) -> None:
    broken = {"learning_rate": 1.0, "epsilon": 1e6, "max_grad_norm": 1e6}
    changes = {"watch": {"action": "stop"}, "learner": broken, "checkpoint_every": 1, "evaluate_every": 1}
    run = tmp_path / "run"
    with pytest.raises(CollapseStop, match="no engine got, is not kept") as error:
        train(check_config(settings(testbed, "stop", **changes)), run)
    (alarm,) = [line for line in read_alarms(run) if line["signal"] == "update_tail"]
    last = read_metrics(run / METRICS_FILE)[-1]
    assert alarm["stops"] and last["step"] == alarm["step"] and last["update/tail_share"] > 0.5
    assert "dev/em" not in last, "no engine has these weights"
    assert [read_state(path).step for path in list_checkpoints(run)] == list(range(1, alarm["step"]))
    assert list(read_trajectories(run / alarm["batch"] / "trajectories"))
    assert ("the start" in str(error.value)) == (alarm["step"] == 1)
    with pytest.raises(CollapseStop, match="no engine got"):
        train(check_config(settings(testbed, "stop", **changes)), run, resume=True)
    assert len([line for line in read_alarms(run) if line["signal"] == "update_tail"]) == 1


def test_the_probe_changes_nothing_that_is_learnt(testbed: Testbed, tmp_path: Path) -> None:
    for name, limit in (("with", 0.1), ("without", None)):
        watch = {"action": "warn", "limits": {**LIMITS, "update_tail": limit}}
        train(check_config(settings(testbed, "warn", watch=watch, steps=3)), tmp_path / name)
    lines = reproducible(tmp_path / "with")
    assert all(0 <= line["update/tail_share"] < 0.5 for line in lines if line["step"])
    assert all(line["update/shift"] > 0 for line in lines if line["step"])
    kept = [{k: v for k, v in line.items() if not k.startswith("update/")} for line in lines]
    assert kept == reproducible(tmp_path / "without")
