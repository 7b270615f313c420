"""A staged folder: whole or not there, the old one kept until the new one stands."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retrieval import staging
from retrieval.build.exchange import exchanged
from retrieval.manifest import read_manifest
from retrieval.staging import is_unfinished, staged_folder

REPLACE = """
import os, signal, sys
from pathlib import Path
from retrieval import staging

moves = []
def then_die(move):
    def run(*paths):
        moved = move(*paths)
        moves.append(paths)
        if len(moves) == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return moved
    return run
Path.rename = then_die(Path.rename)
if sys.argv[3] == "in one step":
    staging.exchanged = then_die(staging.exchanged)
else:
    staging.exchanged = lambda one, other: False
with staging.staged_folder(Path(sys.argv[1]), may_replace=lambda path: True) as folder:
    (folder / "content").write_text("new")
"""


def fill(out: Path, content: str) -> None:
    with staged_folder(out, may_replace=lambda path: True) as folder:
        (folder / "content").write_text(content)


def test_a_folder_appears_when_its_block_ends(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "out", may_replace=lambda path: False) as folder:
        (folder / "content").write_text("new")
        assert is_unfinished(folder) and not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["content"]
    assert not is_unfinished(tmp_path / "out")


def test_a_folder_that_may_not_be_replaced_is_kept_though_it_appeared_meanwhile(tmp_path: Path) -> None:
    with (
        pytest.raises(FileExistsError),
        staged_folder(tmp_path / "out", may_replace=lambda path: False) as folder,
    ):
        (folder / "content").write_text("new")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "content").write_text("theirs")
    assert (tmp_path / "out" / "content").read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("how", "moves", "there"),
    [("in one step", 1, "new"), ("in one step", 2, "new"), ("in two", 1, None), ("in two", 2, "new")],
)
def test_a_kill_during_the_exchange_loses_neither_folder(
    tmp_path: Path, how: str, moves: int, there: str | None
) -> None:
    out = tmp_path / "out"
    fill(out, "old")
    root = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", REPLACE, str(out), str(moves), how], cwd=root, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (out / "content").read_text() == there if there else not out.exists()
    with pytest.raises(RuntimeError), staged_folder(out, may_replace=lambda path: True):
        raise RuntimeError("the next build fails")
    assert (out / "content").read_text() == (there or "old")
    fill(out, "newer")
    assert (out / "content").read_text() == "newer" and list(tmp_path.iterdir()) == [out]


def test_an_empty_folder_in_its_place_does_not_cost_the_index_that_a_killed_build_has_set_aside(tmp_path: Path) -> None:
    out, replaced = tmp_path / "out", tmp_path / ".out.replaced"
    fill(replaced, "the only one")
    out.mkdir()
    with pytest.raises(ValueError), staged_folder(out, may_replace=lambda path: True):
        raise ValueError("the corpus has a broken line")
    assert (out / "content").read_text() == "the only one" and list(tmp_path.iterdir()) == [out]


def test_what_cannot_be_put_back_is_kept_and_told(tmp_path: Path) -> None:
    out, replaced, empty = tmp_path / "out", tmp_path / ".out.replaced", tmp_path / "empty"
    fill(replaced, "the only one")
    empty.mkdir()
    out.symlink_to(empty)
    with pytest.raises(
        OSError, match=r"\.out\.replaced is what a killed build has left of .*out, and cannot be put back"
    ):
        fill(out, "new")
    assert (replaced / "content").read_text() == "the only one"


@pytest.mark.parametrize("in_one_step", [True, False])
def test_what_cannot_be_removed_of_the_old_folder_is_told_and_fails_no_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_one_step: bool
) -> None:
    """As on NFS, where a file that a server has open stays as .nfs0001 until it is closed."""
    if not in_one_step:
        monkeypatch.setattr(staging, "exchanged", lambda one, other: False)
    remove = staging.remove

    def remove_but_one(path: Path) -> None:
        is_old = ".replaced" in path.name
        remove(path)
        if is_old:
            path.mkdir()
            (path / ".nfs0001").touch()

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    out = tmp_path / "out"
    fill(out, "0")
    monkeypatch.setattr(staging, "remove", remove_but_one)
    monkeypatch.setattr(staging, "flush", refuse)
    told: list[str] = []
    for n in (1, 2):
        with staged_folder(out, may_replace=lambda path: True, notice=told.append) as folder:
            (folder / "content").write_text(str(n))
        assert (out / "content").read_text() == str(n)
        assert sum("could not be removed" in line and f".out.replaced-{n}: remove it" in line for line in told) == 1
    assert sum("could not be written through to the disk (Permission denied)" in line for line in told) == 2
    monkeypatch.undo()
    fill(out, "3")
    assert list(tmp_path.iterdir()) == [out], "tried again, and now they could be removed"


def test_two_folders_change_places_where_the_system_can_and_else_nothing_happens(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert exchanged(tmp_path / "one", tmp_path / "other"), "Linux has it on ext4, xfs, btrfs, tmpfs and overlays"
    assert (tmp_path / "one" / "other").exists() and (tmp_path / "other" / "one").exists()
    assert not exchanged(tmp_path / "one", tmp_path / "none")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]


@pytest.mark.parametrize("in_one_step", [True, False])
def test_nobody_else_gets_in_at_any_moment_of_an_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_one_step: bool
) -> None:
    """At every step from the end of the block on, a second builder of the same folder is turned away."""
    if not in_one_step:
        monkeypatch.setattr(staging, "exchanged", lambda one, other: False)
    out = tmp_path / "out"
    fill(out, "old")
    turned_away = []

    def try_to_get_in() -> None:
        with (
            pytest.raises(FileExistsError, match=r"another process is building .*out; wait for it"),
            staged_folder(out, may_replace=lambda path: True),
        ):
            pass
        turned_away.append(sorted(path.name for path in tmp_path.iterdir()))

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            try_to_get_in()
            result = function(*arguments)
            try_to_get_in()
            return result

        return run

    for name in ("flush", "flush_tree", "remove", "exchanged"):
        monkeypatch.setattr(staging, name, watched(getattr(staging, name)))
    monkeypatch.setattr(Path, "rename", watched(Path.rename))
    fill(out, "new")
    names = [set(found) for found in turned_away]
    assert {"out", ".out.building", ".out.lock"} in names, "before the exchange"
    between = {".out.replaced", ".out.building", ".out.lock"}
    assert (between not in names and all("out" in found for found in names)) if in_one_step else between in names
    assert {"out", ".out.replaced-1", ".out.lock"} in names and names[-1] == {"out", ".out.lock"}, "behind it"
    assert (out / "content").read_text() == "new" and list(tmp_path.iterdir()) == [out]


def test_who_waits_for_a_lock_that_is_removed_meanwhile_takes_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening the lock file and locking it, its holder may finish and remove it."""
    out = tmp_path / "out"
    real, calls = staging.fcntl.flock, []

    def flock_after_the_holder_left(descriptor: int, operation: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            (tmp_path / ".out.lock").unlink()
        real(descriptor, operation)

    monkeypatch.setattr(staging.fcntl, "flock", flock_after_the_holder_left)
    with staged_folder(out, may_replace=lambda path: True) as folder:
        (folder / "content").write_text("new")
        with pytest.raises(FileExistsError), staged_folder(out, may_replace=lambda path: True):
            pass
    assert len(calls) == 3 and list(tmp_path.iterdir()) == [out]


def test_where_nothing_can_be_made_the_error_says_what_and_the_way_out() -> None:
    with (
        pytest.raises(FileNotFoundError, match=r"/proc/out cannot be made, No such file.*choose another folder"),
        staged_folder(Path("/proc/out"), may_replace=lambda path: True),
    ):
        pass


def test_what_a_killed_build_has_left_beside_an_index_that_is_not_there_is_told(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(FileNotFoundError, match=rf"no index at {out}; build one with `waymark build-index"):
        read_manifest(out)
    (tmp_path / ".out.building").mkdir()
    with pytest.raises(FileNotFoundError, match=rf"an unfinished build in {tmp_path}/\.out\.building; .* goes on"):
        read_manifest(out)
    (tmp_path / ".out.replaced").mkdir()
    (tmp_path / ".out.replaced" / "manifest.json").touch()
    told = rf"which is whole in {tmp_path}/\.out\.replaced; move it back \(mv .*\.replaced {out}\), or give the build"
    with pytest.raises(FileNotFoundError, match=told):
        read_manifest(out)
    out.touch()
    with pytest.raises(FileNotFoundError, match=f"{out} is a file, and an index is a folder"):
        read_manifest(out)
