"""The runs that the viewer shows: folders found below those that were named, and what each says of itself.

A run is a folder with a `config.yaml` beside metrics or trajectories, an evaluation (`evaluation.json`), or a bare
store of trajectories. Nothing is ever written into it. Everything is read leniently: what is torn, missing or newer
than this version becomes a line that the page shows, never an error.
"""

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from evaluation.trajectory_store import DATA_FILE, INDEX_FILE
from evaluation.viewer.metric_log import MetricLog

RunKind = Literal["training", "evaluation", "trajectories"]
RunState = Literal["running", "finished", "stopped", "gone"]

EVALUATION_FILE = "evaluation.json"
SEARCH_DEPTH = 5
"""Folders below a named one in which runs are looked for."""

_NEVER_A_RUN = frozenset({"trajectories", "checkpoints", "model", "cold_start", "node_modules", "__pycache__"})
_QUIET_S = 120.0
"""A run without a model that wrote nothing for so long (or for four of its steps) counts as stopped."""


@dataclass(eq=False, slots=True, kw_only=True)
class Run:
    """One run folder.

    Attributes:
        key: as it stands in addresses; the same for the same path in every session.
        name: the path below the folder that was named, for readers.
    """

    key: str
    name: str
    path: Path
    metrics: MetricLog
    _read: dict[str, tuple[int, Any, str | None]] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        """The folder of its trajectories."""
        return self.path if (self.path / DATA_FILE).is_file() else self.path / "trajectories"

    @property
    def is_there(self) -> bool:
        """False once the folder has been deleted."""
        return self.path.is_dir()

    @property
    def kind(self) -> RunKind:
        """What wrote the folder."""
        if (self.path / "evaluation.json").is_file():
            return "evaluation"
        return "training" if (self.path / "config.yaml").is_file() else "trajectories"

    @property
    def state(self) -> RunState:
        """Whether it still goes on, as far as its files tell."""
        if not self.is_there:
            return "gone"
        if (self.path / "model").is_dir() or (self.path / "evaluation.json").is_file():
            return "finished"
        step_s = self.metrics.last.get("seconds/step")
        quiet = max(_QUIET_S, 4 * step_s if isinstance(step_s, int | float) else 0.0)
        return "running" if time.time() - self.last_written < quiet else "stopped"

    @property
    def last_written(self) -> float:
        """When metrics, ledger, trajectories or figures were last written, in seconds since the epoch; 0 for never."""
        latest = 0.0
        own = [self.path / name for name in ("ledger.jsonl", "config.yaml", EVALUATION_FILE)]
        for path in (self.metrics.path, self.store / INDEX_FILE, *own):
            try:
                latest = max(latest, path.stat().st_mtime)
            except OSError:
                continue
        return latest

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config, a batch's being that of its run; empty where it cannot be read."""
        found: dict[str, Any] | None = self._load("config.yaml", _mapping(yaml.safe_load))
        if found is None and self.kind == "trajectories":
            for folder in list(self.path.parents)[:3]:
                if (folder / "config.yaml").is_file():
                    found = self._load(os.path.relpath(folder / "config.yaml", self.path), _mapping(yaml.safe_load))
                    break
        return found or {}

    @property
    def told_by(self) -> dict[str, Any]:
        """The evaluation that it is, or a condition of: that of the nearest folder above with one."""
        file = self.evaluation_file
        found: dict[str, Any] | None = (
            self._load(os.path.relpath(file, self.path), _mapping(json.loads)) if file else None
        )
        return found or {}

    @property
    def evaluation_file(self) -> Path | None:
        """Where that evaluation is told."""
        above = list(self.path.parents)[:3] if self.kind == "trajectories" else []
        return next((f for folder in (self.path, *above) if (f := folder / EVALUATION_FILE).is_file()), None)

    @property
    def alarms(self) -> list[dict[str, Any]]:
        """What the collapse watch has raised (`alarms.jsonl`), the newest first; damaged lines are left out."""
        found = self._load("alarms.jsonl", _lines_of_json)
        return [alarm for alarm in reversed(found or []) if isinstance(alarm, dict)]

    @property
    def evaluation(self) -> dict[str, Any]:
        """What `evaluation.json` holds; empty where there is none."""
        found: dict[str, Any] | None = self._load(EVALUATION_FILE, _mapping(json.loads))
        return found or {}

    def troubles(self) -> list[str]:
        """What could not be read of it, in sentences."""
        if not self.is_there:
            return ["The folder of this run is gone: it was deleted or moved while it was being viewed."]
        assert self.config is not None and self.evaluation is not None
        told = [message for _, _, message in list(self._read.values()) if message]
        if (self.store / DATA_FILE).is_file() and not (self.store / INDEX_FILE).is_file():
            told.append(f"{INDEX_FILE} is missing beside the trajectories: they cannot be listed.")
        if self.kind == "training" and not self.metrics.path.is_file():
            told.append("There is no metrics.jsonl yet: the run has not finished a step, or was copied in part.")
        if self.metrics.num_bad_lines:
            told.append(f"{self.metrics.num_bad_lines} lines of metrics.jsonl could not be read and are left out.")
        return told

    def _load(self, name: str, parse: Any) -> Any:
        """A parsed file, read again only when it changed; its trouble is kept beside it."""
        path = self.path / name
        try:
            changed = path.stat().st_mtime_ns
        except OSError:
            self._read.pop(name, None)
            return None
        known = self._read.get(name)  # pages are made on several threads: one may drop what another has just put there
        if known is None or known[0] != changed:
            try:
                known = (changed, parse(path.read_text(encoding="utf-8")), None)
            except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
                told = f"{name} cannot be read ({' '.join(str(error).split())[:200]}): half written, or damaged."
                known = (changed, None, told)
            self._read[name] = known
        return known[1]


def _mapping(parse: Callable[[str], Any]) -> Callable[[str], dict[str, Any]]:
    def parsed(text: str) -> dict[str, Any]:
        found = parse(text)
        if not isinstance(found, dict):
            raise ValueError(f"it holds {type(found).__name__}, not names with values")
        return found

    return parsed


def _lines_of_json(text: str) -> list[Any]:
    found = []
    for line in text.splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


class RunList:
    """The runs below some folders, looked for again when asked; a run once seen is kept, so that its page can say
    that it is gone.

    Raises:
        FileNotFoundError: a folder that is not there.
        ValueError: no folder is named, or a file is.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        if not folders:
            raise ValueError("there is nothing to view; name a run, an evaluation, or a folder that holds some")
        for folder in folders:
            if not folder.exists():
                raise FileNotFoundError(f"{folder} is not there; name a run, an evaluation, or a folder of them")
            if not folder.is_dir():
                raise ValueError(f"{folder} is a file; name the folder of the run that it belongs to")
        self.folders = [folder.resolve() for folder in folders]
        self._runs: dict[str, Run] = {}
        self._looked_at = 0.0
        self._looking = threading.Lock()
        self.look()

    def look(self, *, every_s: float = 0.0) -> None:
        """Find runs that are new; at most once in `every_s` seconds."""
        if time.monotonic() - self._looked_at < every_s or not self._looking.acquire(blocking=False):
            return
        try:
            for folder in self.folders:
                for path in find_runs(folder):
                    self._add(path, folder)
        finally:
            self._looked_at = time.monotonic()
            self._looking.release()

    def _add(self, path: Path, folder: Path) -> None:
        key = run_key(path)
        if key not in self._runs:
            name = str(path.relative_to(folder)) if path != folder else path.name
            named = name if len(self.folders) == 1 or path == folder else f"{folder.name}/{name}"
            self._runs[key] = Run(key=key, name=named, path=path, metrics=MetricLog(path / "metrics.jsonl"))

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._runs.values()))

    def get(self, key: str) -> Run | None:
        """The run of a key."""
        return self._runs.get(key)


def run_key(path: Path) -> str:
    """A short name for addresses: the folder's, as far as an address can hold it, and a hash of the whole path."""
    digest = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_.]+', '-', path.name).strip('-.')[:40] or 'run'}-{digest}"


def find_runs(folder: Path, depth: int = SEARCH_DEPTH) -> Iterator[Path]:
    """Run folders at and below `folder`, by name; one that may not be read is none."""
    try:
        if is_run(folder):
            yield folder
        if depth == 0:
            return
        children = sorted(child for child in folder.iterdir() if child.is_dir() and not child.is_symlink())
    except OSError:
        return
    for child in children:
        if child.name not in _NEVER_A_RUN and not child.name.startswith("."):
            yield from find_runs(child, depth - 1)


def is_run(folder: Path) -> bool:
    """True if a folder holds a run, an evaluation or a store of trajectories."""
    if (folder / "evaluation.json").is_file() or (folder / DATA_FILE).is_file():
        return True
    parts = ("metrics.jsonl", "ledger.jsonl", "trajectories")
    return any((folder / part).exists() for part in (parts if (folder / "config.yaml").is_file() else parts[::2]))
