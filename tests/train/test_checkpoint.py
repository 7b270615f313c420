"""A folder with a checkpoint's name is always whole; the newest are kept."""

import json
import shutil
from pathlib import Path

import pytest

from train.checkpoint import (
    CHECKPOINTS,
    CheckpointError,
    CheckpointState,
    list_checkpoints,
    read_state,
    remove_unfinished,
    save_checkpoint,
)


class FakeLearner:
    """Writes a file where a learner would write its tensors; fails when told to."""

    def __init__(self, *, fails: bool = False, weights: str = "w") -> None:
        self.fails = fails
        self.weights = weights

    def save_model_folder(self, path: Path) -> None:
        path.mkdir()
        (path / "weights").write_text(self.weights, encoding="utf-8")

    def save_state(self, path: Path, *, beside: Path) -> None:
        assert (beside / "weights").exists() and beside.parent == path.parent
        if self.fails:
            raise OSError("No space left on device")
        path.mkdir()
        (path / "state").write_text("s", encoding="utf-8")


def save(run: Path, step: int, *, keep: int = 2, fails: bool = False, weights: str = "w") -> None:
    state = CheckpointState(step=step, trajectories=step * 10, rewards={"missing": {}})
    save_checkpoint(run, state, FakeLearner(fails=fails, weights=weights), keep=keep)  # type: ignore[arg-type]


def test_the_newest_are_kept_and_come_back(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000002", "step-000003"]
    assert read_state(list_checkpoints(tmp_path)[-1]) == CheckpointState(
        step=3, trajectories=30, rewards={"missing": {}}
    )


def test_a_save_that_fails_leaves_the_older_checkpoint_and_nothing_that_looks_like_one(tmp_path: Path) -> None:
    save(tmp_path, 1)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 2, fails=True)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000001"]
    remove_unfinished(tmp_path)
    assert [path.name for path in (tmp_path / CHECKPOINTS).iterdir()] == ["step-000001"]


@pytest.mark.parametrize("killed_at", ["before the new one has the name", "before the old one is deleted"])
def test_a_kill_while_a_checkpoint_is_replaced_leaves_the_old_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    """At every call that renames or deletes, and where the save ends there."""

    def listed() -> list[str]:
        return [(path / "model" / "weights").read_text(encoding="utf-8") for path in list_checkpoints(tmp_path)]

    save(tmp_path, 1, weights="other")
    save(tmp_path, 2, weights="old")
    rename, rmtree = Path.rename, shutil.rmtree

    def killed_rename(path: Path, target: Path) -> Path:
        assert listed() in (["other", "old"], ["other", "new"])
        if killed_at.endswith("has the name") and target.name == "step-000002":
            raise KeyboardInterrupt
        return rename(path, target)

    def killed_rmtree(path: Path, ignore_errors: bool = False) -> None:
        assert listed() in (["other", "old"], ["other", "new"])
        if killed_at.endswith("is deleted") and Path(path).exists() and listed()[-1] == "new":
            raise KeyboardInterrupt
        rmtree(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(Path, "rename", killed_rename)
    monkeypatch.setattr(shutil, "rmtree", killed_rmtree)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2, weights="new")
    monkeypatch.undo()
    left = ["other", "old" if killed_at.endswith("has the name") else "new"]
    assert listed() == left
    remove_unfinished(tmp_path)
    assert listed() == left
    names = sorted(path.name for path in (tmp_path / CHECKPOINTS).iterdir())
    assert names == ["step-000001", "step-000002"], "nothing else is left, and the old one has its name again"


@pytest.mark.parametrize("text", ["", "{}", json.dumps({"step": 1, "trajectories": 2, "other": 3})])
def test_a_state_of_another_version_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match="not a checkpoint of this version"):
        read_state(tmp_path)
