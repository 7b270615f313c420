"""The watch's files and its end, without a run: what it does when it goes on as another watch, and what it tells."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.train.fakes import trajectory, turn
from train.checkpoint import CHECKPOINTS, CheckpointState
from train.config import check_config
from train.loop import starting_learner
from train.progress import Progress
from train.records import Records
from train.run_folder import RunFolder
from train.watch_config import WatchConfig
from train.watch_record import ALARMS_FILE, CollapseStop, WatchRecord, read_alarms, refuse_stopped

CALM = {"entropy": 0.1, "answer_rate": 0.9}
FALLEN = {"entropy": 2.0, "answer_rate": 0.01}
PATH = {"policy": {"model": "m"}, "data": {"index": "i", "train_questions": "q"}, "evaluate_every": 0}


def record(run: Path, config: WatchConfig, state: dict[str, Any], step: int) -> WatchRecord:
    return WatchRecord(config, run, state=json.loads(json.dumps(state)), step=step, tell=lambda line: None)


def warned(run: Path) -> dict[str, Any]:
    """The state of a watch that has only warned, of two signals that stand in alarm after step 1."""
    watch = record(run, WatchConfig(action="warn"), {}, 0)
    for step, line in enumerate((CALM, FALLEN)):
        watch.observe(step, dict(line))
    assert {line["signal"] for line in read_alarms(run)} == {"entropy_rise", "answer_rate_fall"}
    assert watch.stop is None
    return watch.state_dict()


def test_a_run_that_goes_on_under_stop_is_ended_by_what_it_was_only_warned_of(tmp_path: Path) -> None:
    """Alarms that stand are not told again: without a new beginning it would go on for ever, collapsed."""
    watch = record(tmp_path, WatchConfig(action="stop"), warned(tmp_path), 1)
    watch.observe(2, dict(CALM))
    assert watch.stop is None, "what is well again ends nothing"
    watch = record(tmp_path, WatchConfig(action="stop"), warned(tmp_path), 1)
    watch.observe(2, dict(FALLEN))
    assert watch.stop is not None and "step 2" in watch.stop
    assert [line["step"] for line in read_alarms(tmp_path)] == [1, 1, 2, 2]


def test_the_same_watch_goes_on_with_the_alarms_that_stand(tmp_path: Path) -> None:
    watch = record(tmp_path, WatchConfig(action="warn"), warned(tmp_path), 1)
    values = dict(FALLEN)
    watch.observe(2, values)
    assert values["watch/alarms"] == 2.0 and [line["step"] for line in read_alarms(tmp_path)] == [1, 1]


def test_a_stopped_run_is_refused_by_the_same_watch_also_of_a_version_with_more_limits(tmp_path: Path) -> None:
    config = WatchConfig(action="stop")
    watch = record(tmp_path, config, {}, 0)
    watch.observe(0, dict(CALM))
    watch.observe(1, dict(FALLEN))
    state = json.loads(json.dumps(watch.state_dict()))
    with pytest.raises(CollapseStop, match="step 1"):
        refuse_stopped(state, config)
    del state["stopped"]["watch"]["limits"]["confidence_fall"]  # an older version had none
    with pytest.raises(CollapseStop):
        refuse_stopped(state, config)
    refuse_stopped(state, WatchConfig(action="warn"))
    refuse_stopped(state, WatchConfig(action="stop", patience=4.0))
    refuse_stopped({}, config)


def test_a_refused_run_loads_no_model(tmp_path: Path) -> None:
    config = check_config({**PATH, "rewards": {"exact_match": {"weight": 1.0}}, "watch": {"action": "stop"}})
    checkpoint = tmp_path / CHECKPOINTS / "step-000001"
    checkpoint.mkdir(parents=True)
    stopped = {"stopped": {"step": 1, "watch": config.watch.model_dump(mode="json")}}
    state = {"step": 1, "trajectories": 8, "watch": stopped}
    (checkpoint / "state.json").write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(CollapseStop, match=r"watch\.action=warn"):
        starting_learner(config, None, RunFolder.attach(tmp_path), "no-such-model", checkpoint)  # type: ignore[arg-type]


def test_the_end_names_the_checkpoint_to_begin_again_from_or_says_that_there_is_none(tmp_path: Path) -> None:
    watch = record(tmp_path, WatchConfig(action="stop"), {}, 0)
    watch.observe(0, dict(CALM))
    watch.observe(7, dict(FALLEN))
    assert "no checkpoint is older" in (watch.stop or "") and "checkpoint_every" in (watch.stop or "")
    for step in (3, 5, 7):
        (tmp_path / CHECKPOINTS / f"step-{step:06d}").mkdir(parents=True)
    assert f"the model of {tmp_path / CHECKPOINTS / 'step-000005'} or older" in (watch.stop or "")


def test_a_gradient_that_is_no_number_leaves_a_batch_that_every_reader_of_json_can_read(tmp_path: Path) -> None:
    watch = record(tmp_path, WatchConfig(action="warn"), {}, 0)
    watch.observe(1, {**CALM, "grad_norm": float("nan")}, [trajectory("a", [turn((4, 5))])])
    (alarm,) = read_alarms(tmp_path)
    assert (alarm["signal"], alarm["value"], alarm["batch"]) == ("grad_norm_rise", None, "watch/step-000001")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    told = json.loads((tmp_path / "watch/step-000001/alarm.json").read_text("utf-8"), parse_constant=refuse)
    assert told["alarms"] == [alarm] and told["metrics"]["grad_norm"] is None


def test_steps_that_are_done_again_without_a_watch_leave_no_alarms_of_the_first_time(tmp_path: Path) -> None:
    state = warned(tmp_path)
    (tmp_path / "watch" / "step-000001").mkdir(parents=True)
    config = check_config({**PATH, "rewards": {"exact_match": {"weight": 1.0}}, "watch": {"action": "off"}})
    started = CheckpointState(step=0, trajectories=0, watch=state)
    Records.open(config, RunFolder.attach(tmp_path), started, Progress()).close()
    assert (tmp_path / ALARMS_FILE).read_text("utf-8") == "" and not list((tmp_path / "watch").iterdir())
