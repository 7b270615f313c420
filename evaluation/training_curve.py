"""Training runs as the arms of a report: their held-out curve with its intervals, and their metrics."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.curves import curve_from_metrics
from evaluation.report_parts import Arm


def training_arms(runs: Sequence[str | Path]) -> list[Arm]:
    """One arm for each run folder, named after it.

    Raises:
        FileNotFoundError: a folder without `metrics.jsonl`.
        ValueError: two runs of one name, or a run without a single readable line.
    """
    arms = [
        Arm(name=folder.resolve().name, metrics=m, curve=curve_from_metrics(m))
        for folder in map(Path, runs)
        for m in [_metrics(folder)]
    ]
    names = [arm.name for arm in arms]
    if len(set(names)) < len(names):
        raise ValueError(f"two training runs have one name: {', '.join(names)}; rename a folder")
    return arms


def _metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`; the last one may be half written by a run that goes on."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"no metrics.jsonl in {folder}; give the folder of a training run")
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict):
            found.append(record)
    if not found:
        raise ValueError(f"{path} has no readable line; the run has not finished a step")
    return found
