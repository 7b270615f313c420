"""Everything a resume needs, written atomically.

A checkpoint is a folder `checkpoints/step-000010/`: `model/` (an ordinary Hugging Face folder that vLLM and
`from_pretrained` load), `learner/` (optimiser, scheduler and random states as safetensors and JSON, adapters too; all
other weights are those in `model/`) and `state.json` (step, reward states, what was sampled ahead). It is written under
another name, flushed to disk and renamed, so a folder with a checkpoint's name is always whole; an
older checkpoint of the same step is kept aside until then. Data order and sampling seeds follow from (seed, step) and
are not saved.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from train.admission import AdmissionState
from train.learner import Learner

CHECKPOINTS = "checkpoints"
_UNFINISHED = ".unfinished-"
_REPLACED = ".replaced"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointState:
    """What the loop itself must know again: steps done, episodes sampled, rewards' states, units taken, the watch."""

    step: int
    trajectories: float
    rewards: dict[str, Any] = field(default_factory=dict)
    admission: dict[str, Any] = field(default_factory=dict)
    watch: dict[str, Any] = field(default_factory=dict)


def admission_of(state: CheckpointState, units_per_step: int) -> AdmissionState:
    """Which units were taken; where a checkpoint does not say (it is an older one), those of its steps."""
    spent = float(state.trajectories)
    if state.admission:
        return AdmissionState(**{"spent": spent, **state.admission})
    return AdmissionState(settled=state.step * units_per_step, spent=spent)


def rewards_of(state: CheckpointState) -> dict[str, Any]:
    """The rewards' state; where a checkpoint does not say how many steps were taken (an older one), its own."""
    return {"step": state.step, **state.rewards}


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or does not belong to this run."""


def save_checkpoint(run_dir: Path, state: CheckpointState, learner: Learner, *, keep: int) -> Path:
    """Write the checkpoint of a step, then delete all but the newest `keep`."""
    folder = run_dir / CHECKPOINTS
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{state.step:06d}"
    temporary = folder / f"{_UNFINISHED}{final.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    learner.save_model_folder(temporary / "model")
    learner.save_state(temporary / "learner", beside=temporary / "model")
    (temporary / "state.json").write_text(json.dumps(asdict(state), indent=1), encoding="utf-8")
    _flush_to_disk(temporary)
    replaced = folder / f"{final.name}{_REPLACED}"
    if final.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        final.rename(replaced)  # still listed, until its successor has the name
    temporary.rename(final)
    _flush_folder(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    for old in list_checkpoints(run_dir)[:-keep]:
        shutil.rmtree(old)
    return final


def list_checkpoints(run_dir: Path) -> list[Path]:
    """Whole checkpoints, oldest first; one that was being replaced counts where its successor is missing."""
    found = {path.name: path for path in (run_dir / CHECKPOINTS).glob("step-*")}
    names = sorted(name for name in found if _successor(name) == name or _successor(name) not in found)
    return [found[name] for name in names]


def remove_unfinished(run_dir: Path) -> None:
    """Delete what a killed save left behind, and give a checkpoint that it was replacing its name again."""
    for replaced in (run_dir / CHECKPOINTS).glob(f"step-*{_REPLACED}"):
        if (successor := replaced.with_name(_successor(replaced.name))).exists():
            shutil.rmtree(replaced)
        else:
            replaced.rename(successor)
    for leftover in (run_dir / CHECKPOINTS).glob(f"{_UNFINISHED}*"):
        shutil.rmtree(leftover)


def beginning(checkpoint: Path | None) -> CheckpointState:
    """The loop's part of a checkpoint that a run goes on from, or of none. Raises CheckpointError as `read_state`."""
    return read_state(checkpoint) if checkpoint else CheckpointState(step=0, trajectories=0)


def read_state(checkpoint: Path) -> CheckpointState:
    """The loop's part of a checkpoint. Raises CheckpointError where it cannot be read."""
    try:
        return CheckpointState(**json.loads((checkpoint / "state.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{checkpoint} is not a checkpoint of this version: {error}") from error


def _successor(name: str) -> str:
    return name.removesuffix(_REPLACED)


def _flush_to_disk(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    for path in (p for p in folder.rglob("*") if p.is_dir()):
        _flush_folder(path)
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
