"""A progress bar with counts, rate and time left for work that goes through named stages, on standard error."""

import math
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text


class RateColumn(ProgressColumn):
    """Units a second since the stage began. rich's own rate starts over whenever an estimated total changes."""

    def render(self, task: Task) -> Text:
        """The rate of one stage, or nothing where it is not known yet."""
        speed = _rate(task)
        known = f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s" if speed else ""
        return Text(known, style="progress.data.speed", justify="right")


class TimeLeftColumn(ProgressColumn):
    """Time left at the rate so far."""

    def render(self, task: Task) -> Text:
        """Hours, minutes and seconds, dashes where there is no total or no rate; nothing when the stage has ended."""
        if task.finished:
            return Text("")
        speed, left = _rate(task), task.remaining
        known = "-:--:--" if left is None or not speed else str(timedelta(seconds=math.ceil(max(left, 0) / speed)))
        return Text(f"{known} left", style="progress.remaining")


def _rate(task: Task) -> float:
    """Units a second since the first report, which may be of units that an earlier call has done."""
    elapsed = task.finished_time if task.finished else task.elapsed
    done = task.completed - task.fields["done_before"]
    return done / elapsed if elapsed and done > 0 else 0.0


class StageBar:
    """Call it as `bar(stage, done, total)`; each stage gets a line of its own."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(),
            MofNCompleteColumn(),
            RateColumn(),
            TimeElapsedColumn(),
            TimeLeftColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}
        self._is_shown = False

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Show that `done` of `total` units of a stage are finished."""
        if not self._is_shown:  # a bar without stages would leave a blank line above an error
            self._progress.start()
            self._is_shown = True
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, done_before=done)
        self._progress.update(self._tasks[stage], completed=done, total=total)

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> "StageBar":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._is_shown:  # in a pipe, rich ends a bar that it never showed with a blank line
            self._progress.stop()
