"""The bars of a verb: rates of what this call has done, a time left while there is one, no line without a stage."""

import time

import pytest
from rich.progress import Task

from scripts.stages import RateColumn, StageBar, TimeLeftColumn


def task_of(bar: StageBar) -> Task:
    [task] = bar._progress.tasks
    return task


def test_what_an_earlier_call_has_done_counts_for_neither_rate_nor_time_left() -> None:
    now = [100.0]
    with StageBar() as bar:
        bar._progress.get_time = lambda: now[0]
        bar("encoding passages", 900_000, 1_000_000)
        assert RateColumn().render(task_of(bar)).plain == "" and TimeLeftColumn().render(task_of(bar)).plain[0] == "-"
        now[0] += 10
        bar("encoding passages", 900_025, 1_000_000)
        assert RateColumn().render(task_of(bar)).plain == "2.5/s"
        assert TimeLeftColumn().render(task_of(bar)).plain == "11:06:30 left"
        now[0] += 10
        bar("encoding passages", 1_000_000, 1_000_000)
        assert RateColumn().render(task_of(bar)).plain == "5,000/s"
        assert TimeLeftColumn().render(task_of(bar)).plain == ""


def test_an_error_before_the_first_stage_stands_below_no_blank_line(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(ValueError, match="bad input"), StageBar():
        time.sleep(0.15)
        raise ValueError("bad input")
    assert capsys.readouterr().err == ""
