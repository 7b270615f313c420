"""Where a run's figures go: always `metrics.jsonl`; by setting also TensorBoard, trackio or W&B through accelerate."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, TensorBoardTracker, get_available_trackers

METRICS_FILE = "metrics.jsonl"
WALL_CLOCK_PREFIX = "seconds/"
"""Keys under this prefix differ between equal runs; everything else in a line is reproducible."""


def check_tracker(tracker: str) -> None:
    """Raises ValueError where a tracker's package is missing."""
    if tracker != "none" and tracker not in map(str, get_available_trackers()):
        raise ValueError(
            f"tracker {tracker!r} is not installed: pip install 'waymark[tracking]', or set tracker: none "
            f"({METRICS_FILE} is always written)"
        )


class MetricsLog:
    """One JSON object a step, flushed as it is written; a resumed run first drops the steps that it will repeat."""

    def __init__(self, run_dir: Path, *, tracker: str = "none", config: dict[str, Any] | None = None) -> None:
        self._path = run_dir / METRICS_FILE
        self._tracker = None
        check_tracker(tracker)
        if tracker != "none":
            tracker_class = LOGGER_TYPE_TO_CLASS[tracker]
            arguments = {"logging_dir": str(run_dir)} if tracker_class.requires_logging_directory else {}
            self._tracker = tracker_class(run_dir.name, **arguments)
            self._tracker.start()
            self._tracker.store_init_configuration(flatten(config or {}))

    def keep_until(self, step: int) -> None:
        """Drop every line of a later step, and a half-written last line."""
        if not self._path.exists():
            return
        kept = [line for line in read_metrics(self._path) if line["step"] <= step]
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        temporary.replace(self._path)

    def log(self, step: int, values: dict[str, Any]) -> None:
        """Append one step. What is not finite is written as null, because JSON has no word for it."""
        line = json.dumps(_or_null({"step": step, **values}), allow_nan=False)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if self._tracker is not None:
            self._tracker.log({name: value for name, value in values.items() if _is_number(value)}, step=step)
            self._track_histograms(step, {n: v for n, v in values.items() if _is_histogram(v)})

    def _track_histograms(self, step: int, histograms: Mapping[str, Any]) -> None:
        """As such where the tracker has a way for counts; the others have them in the metrics file alone."""
        if isinstance(self._tracker, TensorBoardTracker):
            for name, histogram in histograms.items():
                if sum(histogram["counts"]):
                    self._tracker.writer.add_histogram_raw(name, **_raw_histogram(histogram), global_step=step)

    def close(self) -> None:
        """Finish the tracker."""
        if self._tracker is not None:
            self._tracker.finish()
            self._tracker = None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _is_histogram(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"edges", "counts"}


def _raw_histogram(histogram: Mapping[str, Any]) -> dict[str, Any]:
    """What TensorBoard wants to know of values that it has not seen; each counts as the middle of its bin."""
    edges, counts = np.asarray(histogram["edges"]), np.asarray(histogram["counts"])
    middles = (edges[1:] + edges[:-1]) / 2
    return {
        "min": edges[0],
        "max": edges[-1],
        "num": counts.sum(),
        "sum": counts @ middles,
        "sum_squares": counts @ middles**2,
        "bucket_limits": edges[1:].tolist(),
        "bucket_counts": counts.tolist(),
    }


def _or_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _or_null(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_or_null(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The steps logged so far; a half-written last line (a killed run) is left out."""
    lines = []
    text = path.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError as error:
            if line.endswith("\n"):
                raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
    return lines


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as one of dotted names; what is no number, text or truth value becomes text."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, int | float | str | bool) else str(value)
    return flat
