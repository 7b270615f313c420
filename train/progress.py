"""What a run tells while it goes, what it leaves, and where its time goes."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from train.tracking import WALL_CLOCK_PREFIX

if TYPE_CHECKING:
    from train.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a finished run leaves: the trained model's folder, steps done, trajectories sampled (in whole episodes), and
    the last dev evaluation.
    """

    model: Path
    steps: int
    trajectories: float
    dev: dict[str, Any] | None


class RunStopped(RuntimeError):
    """A run that cannot go on as it is; the message says what to do. Its folder is as the last checkpoint left it."""


class Progress:
    """Where the loop tells how far it is; the default says nothing. A context manager, for displays that end.

    Stages may be told from any thread.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        return None

    def plan(self, plan: "Plan") -> None:
        """What the run will do, before it does anything."""

    def stage(self, text: str) -> None:
        """A stage before or after the steps begins, or something happened that a person should know."""

    def step(self, step: int, steps: int, values: dict[str, Any]) -> None:
        """A step has been logged."""


class Stopwatch:
    """Seconds of each phase of a step."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._start = self._last = now()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """End a phase."""
        now = self._now()
        self._laps[name] = now - self._last
        self._last = now

    def split(self, name: str, part: str, seconds: float) -> None:
        """Name a part of a phase that has ended."""
        self._laps[name] -= seconds
        self._laps[part] = self._laps.get(part, 0.0) + seconds

    def seconds(self) -> dict[str, float]:
        """Phases and their total under the wall-clock prefix."""
        laps = {**self._laps, "step": self._now() - self._start}
        return {f"{WALL_CLOCK_PREFIX}{name}": round(value, 4) for name, value in laps.items()}
