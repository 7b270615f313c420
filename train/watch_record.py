"""What the collapse watch leaves in a run's folder.

`alarms.jsonl` has one object a raised alarm, in the order of steps:

    step       int     the step whose line raised it
    signal     str     a field of `watch.limits`: answer_rate_fall, entropy_rise ...
    metric     str     the figure of metrics.jsonl that it was read from
    value      float   that figure; null where it was not finite
    reference  float   what it was compared with; null where a signal has none
    limit      float   the limit of that signal
    deviation  float   how far it was beyond, in limits
    message    str     the same for a person
    standing   list    names of all signals in alarm after this step, this one included
    stops      bool    whether the run was ended by this step's alarms
    batch      str     folder of the step's batch, from the run's folder; null where none was kept

`watch/step-000012/` is the batch of a step that raised an alarm: `trajectories/`, which `read_trajectories` opens (with
scores and advantages), and `alarm.json`: `step`, `alarms` (the objects above), `metrics` (the step's whole line).
A run that goes on from a checkpoint drops what came after it, because those steps are done again.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent.trajectory import Trajectory
from evaluation.trajectory_record import plain
from evaluation.trajectory_store import TrajectoryWriter
from train.checkpoint import list_checkpoints
from train.progress import RunStopped
from train.tracking import flatten, read_metrics
from train.watch import Alarm, CollapseWatch
from train.watch_config import WatchConfig

ALARMS_FILE = "alarms.jsonl"
BATCHES = "watch"
_STOPPED = "stopped"
_CONFIG = "config"


class CollapseStop(RunStopped):
    """The watch has ended a run: the batch is in `watch/`, and a checkpoint has its last step (no refused update)."""


class WatchRecord:
    """The watch of one run and its files. Only the rank that logs has one.

    A run that goes on under `stop` with another watch than before is judged anew: alarms that stood when it only
    warned, or under other limits, must come again to count, and then end it.

    Args:
        config: of the watch; `action` is not off.
        run: the run's folder.
        state: `state_dict` of the checkpoint that the run goes on from, empty at the beginning.
        step: of that checkpoint; what the files know of later steps is dropped.
        tell: is told each alarm in one line.
    """

    def __init__(
        self, config: WatchConfig, run: Path, *, state: Mapping[str, Any], step: int, tell: Callable[[str], None]
    ) -> None:
        self._config = config
        self._run = run
        self._tell = tell
        self._watch = CollapseWatch(config)
        self._watch.load_state_dict(state)
        if config.action == "stop" and not _is_recorded(state.get(_CONFIG), config):
            self._watch.forget_alarms()  # each is told again where it still holds, and can end the run
        self._stopped: dict[str, Any] | None = None
        self._refused = False
        drop_later(run, step)

    def refuses(self, learned: Mapping[str, Any]) -> bool:
        """True if the run ends with this step and its update is thrown away: the engines must not get it."""
        self._refused = self._config.action == "stop" and self._watch.refuses(learned)
        return self._refused

    def observe(
        self,
        step: int,
        values: dict[str, Any],
        trajectories: Sequence[Trajectory] = (),
        extra: Callable[[], Sequence[Mapping[str, Any]]] | None = None,
    ) -> None:
        """Read a step's line, to which the watch's own figures are added, and record the alarms that it raises.

        `extra` is what the store keeps of the trajectories; it is called where their batch is kept.
        """
        alarms = self._watch.observe(step, values)
        values.update(self._watch.metrics())
        if not (alarms or self._refused):
            return
        stops = self._config.action == "stop" and (self._watch.says_stop or self._refused)
        if stops:
            self._stopped = {"step": step, "watch": self._config.model_dump(mode="json")}
        keeps = bool(trajectories) and (stops or len(_batches(self._run)) < self._config.max_batches)
        folder = self._run / BATCHES / f"step-{step:06d}" if keeps else None
        lines = [self._line(alarm, stops, folder) for alarm in alarms]
        if folder is not None:
            _write_batch(folder, step, lines, values, trajectories, extra)
        with (self._run / ALARMS_FILE).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        for alarm in alarms:
            self._tell(f"warning: step {step}, {alarm.message}")

    @property
    def stop(self) -> str | None:
        """Why the run ends with this step, for a person; None where it goes on."""
        if self._stopped is None:
            return None
        step = self._stopped["step"]
        standing = ", ".join(self._watch.standing)
        older = [path for path in list_checkpoints(self._run) if path.name != f"step-{step:06d}"]
        start = "the start (no checkpoint is older: see checkpoint_every)"
        again = f"the model of {older[-1]} or older" if older else start
        told = (
            f"the collapse watch ended the run at step {step}: {standing} (see {self._run / ALARMS_FILE}). The batch "
            f"is in {self._run / BATCHES / f'step-{step:06d}'}, and "
        )
        if self._refused:
            return (
                f"{told}its update, which no engine got, is not kept: begin again from {again} with a smaller learning "
                "rate, tighter clipping or a warm-up"
            )
        return (
            f"{told}a checkpoint of this step is kept: begin again from {again} with a smaller learning rate or "
            "tighter clipping, or go on as it is with --resume and watch.action=warn"
        )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        stopped = {_STOPPED: self._stopped} if self._stopped else {}
        return {**self._watch.state_dict(), _CONFIG: self._config.model_dump(mode="json"), **stopped}

    def _line(self, alarm: Alarm, stops: bool, folder: Path | None) -> dict[str, Any]:
        batch = None if folder is None else str(folder.relative_to(self._run))
        return {**plain(asdict(alarm)), "standing": list(self._watch.standing), "stops": stops, "batch": batch}


def drop_later(run: Path, step: int) -> None:
    """Delete what the watch has left of later steps, and what a kill left half-written."""
    path = run / ALARMS_FILE
    if path.exists():
        kept = [line for line in read_alarms(run) if line["step"] <= step]
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        temporary.replace(path)
    for folder in [*_batches(run), *(run / BATCHES).glob(".step-*")]:
        number = folder.name.rpartition("-")[2]
        if folder.name.startswith(".") or (number.isdecimal() and int(number) > step):
            shutil.rmtree(folder)


def read_alarms(run: Path) -> list[dict[str, Any]]:
    """The alarms of a run's folder, none where nothing was raised; a half-written last line is left out.

    Raises:
        ValueError: another line is not JSON.
    """
    path = run / ALARMS_FILE
    return read_metrics(path) if path.exists() else []


def refuse_stopped(state: Mapping[str, Any], config: WatchConfig) -> None:
    """See that a run which the watch has ended goes on only where the watch has been told otherwise.

    Raises:
        CollapseStop: `state` is of a checkpoint where this same watch ended the run.
    """
    stopped = state.get(_STOPPED)
    if stopped and config.action == "stop" and _is_recorded(stopped["watch"], config):
        raise CollapseStop(
            f"the collapse watch ended this run at step {stopped['step']}, and would do so again: go on as it is with "
            "watch.action=warn, change watch.limits, or delete the checkpoints from which it should not go on"
        )


def _is_recorded(recorded: Mapping[str, Any] | None, config: WatchConfig) -> bool:
    """True if this is the recorded watch; fields that are newer than the record do not count."""
    now = flatten(config.model_dump(mode="json"))
    return all(now.get(name) == value for name, value in flatten(recorded or {}).items())


def _batches(run: Path) -> list[Path]:
    return sorted((run / BATCHES).glob("step-*"))


def _write_batch(
    folder: Path,
    step: int,
    alarms: Sequence[Mapping[str, Any]],
    values: Mapping[str, Any],
    trajectories: Sequence[Trajectory],
    extra: Callable[[], Sequence[Mapping[str, Any]]] | None,
) -> None:
    """Under another name first, so that a folder with a step's name is whole."""
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    with TrajectoryWriter(unfinished / "trajectories") as store:
        store.append(step, trajectories, extra() if extra else None)
    told = {"step": step, "alarms": list(alarms), "metrics": plain(values)}
    (unfinished / "alarm.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
