"""The metrics file survives a kill in the middle of a line, and a resumed run drops what it will repeat."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from train import tracking
from train.tracking import METRICS_FILE, MetricsLog, read_metrics


def test_lines_come_back_and_later_steps_are_dropped(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    for step in range(4):
        log.log(step, {"em": step / 10})
    log.keep_until(1)
    log.log(2, {"em": 0.5})
    assert [(m["step"], m["em"]) for m in read_metrics(tmp_path / METRICS_FILE)] == [(0, 0.0), (1, 0.1), (2, 0.5)]


def test_what_is_not_finite_is_null_and_the_file_stays_json(tmp_path: Path) -> None:
    MetricsLog(tmp_path).log(1, {"loss": float("nan"), "grad_norm": float("inf"), "em": 0.5, "a": {"b": float("nan")}})
    text = (tmp_path / METRICS_FILE).read_text(encoding="utf-8")
    assert text == '{"step": 1, "loss": null, "grad_norm": null, "em": 0.5, "a": {"b": null}}\n'


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / METRICS_FILE
    path.write_text('{"step": 1}\n{"step": 2, "em', encoding="utf-8")
    assert read_metrics(path) == [{"step": 1}]
    MetricsLog(tmp_path).keep_until(5)
    assert path.read_text(encoding="utf-8") == '{"step": 1}\n'


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / METRICS_FILE
    path.write_text('{"step": 1}\nbroken\n{"step": 2}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="line 2"):
        read_metrics(path)


@pytest.mark.parametrize("tracker", ["trackio", "tensorboard", "wandb"])
def test_a_tracker_that_is_not_installed_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str
) -> None:
    assert tracker in tracking.LOGGER_TYPE_TO_CLASS
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: [])
    with pytest.raises(ValueError, match=rf"tracker '{tracker}' is not installed: pip install 'waymark\[tracking\]'"):
        MetricsLog(tmp_path, tracker=tracker)


def test_a_tracker_gets_the_config_and_every_number(tmp_path: Path) -> None:
    run = tmp_path / "my-run"
    run.mkdir()
    log = MetricsLog(run, tracker="tensorboard", config={"learner": {"learning_rate": 0.5}, "seed": 3})
    log.log(1, {"em": 0.25, "note": "not a number"})
    log.log(2, {"em": 0.5})
    log.close()
    events = EventAccumulator(str(run / "my-run"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("em")] == [(1, 0.25), (2, 0.5)]
    assert "note" not in events.Tags()["scalars"]
    assert any("learner.learning_rate" in file.read_text(encoding="utf-8") for file in run.rglob("*.yml"))


def test_a_histogram_is_plain_json_in_the_file_and_a_histogram_in_tensorboard(tmp_path: Path) -> None:
    run = tmp_path / "my-run"
    run.mkdir()
    log = MetricsLog(run, tracker="tensorboard")
    values = {"em": 0.5, "ratio/histogram": {"edges": [-1.0, 0.0, 1.0], "counts": [3, 1]}, "odd": {"a": 1}}
    log.log(1, values)
    log.log(2, {"ratio/histogram": {"edges": [-1.0, 0.0, 1.0], "counts": [0, 0]}})
    log.close()
    assert read_metrics(run / METRICS_FILE)[0] == {"step": 1, **values}
    events = EventAccumulator(str(run / "my-run"))
    events.Reload()
    [event] = events.Histograms("ratio/histogram")
    assert (event.step, event.histogram_value.num) == (1, 4)
    assert list(event.histogram_value.bucket)[-2:] == [3, 1]
    assert events.Tags()["scalars"] == ["em"]


def test_what_is_not_finite_in_a_list_is_null_too(tmp_path: Path) -> None:
    MetricsLog(tmp_path).log(1, {"a": {"b": [1.0, float("inf")]}})
    assert read_metrics(tmp_path / METRICS_FILE) == [{"step": 1, "a": {"b": [1.0, None]}}]
