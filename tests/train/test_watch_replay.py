"""The benchmark of the watch counts what its page says: alarms, steps to alarm, and stops that came in time."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.watch import STUDIES, overrides_of, replay, summary, table
from train.watch_config import WatchConfig

CALM = {"entropy": 0.3, "answer_rate": 0.8, "grad_norm": 0.2}


def run_of(folder: Path, lines: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True)
    text = "".join(json.dumps({"step": step, **line}) + "\n" for step, line in enumerate(lines))
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    fallen = {"entropy": 6.0, "answer_rate": 0.02}
    return {
        "calm": run_of(
            tmp_path / "outcome" / "seed-1", [{**CALM, "dev/em": 0.4}, *[CALM] * 5, {**CALM, "dev/em": 0.5}]
        ),
        "seen": run_of(
            tmp_path / "collapse_lr30" / "seed-0",
            [{**CALM, "dev/em": 0.6}, CALM, fallen, {**fallen, "dev/em": 0.5}, {**fallen, "dev/em": 0.1}],
        ),
        "late": run_of(
            tmp_path / "collapse_lr30" / "seed-1",
            [{**CALM, "dev/em": 0.6}, CALM, {**CALM, "dev/em": 0.2}, {**fallen, "dev/em": 0.0}],
        ),
        "blip": run_of(tmp_path / "collapse_not", [CALM, CALM, {**CALM, "entropy": 6.0}, CALM, CALM]),
    }


def test_a_run_is_replayed_to_where_the_watch_would_have_stopped_it(runs: dict[str, Path], tmp_path: Path) -> None:
    seen = replay(runs["seen"], WatchConfig())
    assert (seen["run"], seen["healthy"]) == ("collapse_lr30/seed-0", False)
    assert (seen["first_alarm_step"], seen["stop_step"], seen["lost_half_step"]) == (2, 2, 4)
    assert (seen["best_em"], seen["em_at_stop"], seen["last_em"], seen["in_time"]) == (0.6, 0.6, 0.1, True)
    late = replay(runs["late"], WatchConfig())
    assert (late["lost_half_step"], late["stop_step"], late["in_time"]) == (2, 3, False), "EM was gone before"
    half = run_of(tmp_path / "collapse_half", [{"dev/em": 0.6}, {"dev/em": 0.3}])
    assert replay(half, WatchConfig())["lost_half_step"] == 1, "half of the best is half lost"
    fallen = {"update/tail_share": 0.8, "dev/em": 0.0}
    sudden = replay(run_of(tmp_path / "collapse_sudden", [{"dev/em": 0.4}, fallen]), WatchConfig())
    assert (sudden["stop_step"], sudden["refused"], sudden["lost_half_step"], sudden["in_time"]) == (1, True, 1, True)
    assert sudden["em_at_stop"] == 0.4, "that update would have been evaluated by nobody"
    blip = replay(runs["blip"], WatchConfig())
    assert [signal for _, signal in blip["alarms"]] == ["entropy_rise"] and blip["stop_step"] is None


def test_runs_are_counted_apart_by_whether_they_were_made_to_collapse(runs: dict[str, Path]) -> None:
    rows = [replay(run, WatchConfig()) for run in runs.values()]
    figures = summary(rows)
    assert (figures["healthy_runs"], figures["false_alarms"], figures["collapsing_runs"]) == (1, 0, 3)
    assert (figures["steps_to_alarm"], figures["collapses_stopped_in_time"]) == ([2, 2, 2], 1)
    text = table(rows)
    assert len(text.splitlines()) == 2 + len(rows) and "| outcome/seed-1 | 6 | none | none |" in text


def test_a_folder_without_metrics_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="give the folder of a run"):
        replay(tmp_path, WatchConfig())


def test_the_limits_are_tested_on_other_hops_and_seeds_than_they_were_set_on() -> None:
    (set_on, first), (tested_on, second) = STUDIES["thresholds"], STUDIES["test"]
    assert (len(first), len(second)) == (5, 10) and set_on != tested_on and not set(first) & set(second)
    for arm, _ in (*first, *second):
        assert overrides_of(arm)["steps"] >= (4 if arm == "collapse_sudden" else 10)
