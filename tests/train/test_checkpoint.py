"""A folder with a checkpoint's name is always whole; the newest are kept."""

import json
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

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    def save_model_folder(self, path: Path) -> None:
        path.mkdir()
        (path / "weights").write_text("w", encoding="utf-8")

    def save_state(self, path: Path, *, beside: Path) -> None:
        assert (beside / "weights").exists() and beside.parent == path.parent
        if self.fails:
            raise OSError("No space left on device")
        path.mkdir()
        (path / "state").write_text("s", encoding="utf-8")


def save(run: Path, step: int, *, keep: int = 2, fails: bool = False) -> None:
    state = CheckpointState(step=step, trajectories=step * 10, rewards={"missing": {}})
    save_checkpoint(run, state, FakeLearner(fails=fails), keep=keep)  # type: ignore[arg-type]


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


@pytest.mark.parametrize("text", ["", "{}", json.dumps({"step": 1, "trajectories": 2, "other": 3})])
def test_a_state_of_another_version_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match="not a checkpoint of this version"):
        read_state(tmp_path)
