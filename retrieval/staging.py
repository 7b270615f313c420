"""A folder that appears whole or not at all.

It is filled under a hidden name beside its place, written through to the disk, and renamed at the end. A build that is
killed leaves the hidden folder, which `is_unfinished` tells by its name; the next build of the same folder removes it,
or goes on with it where it says that it is worth that.
A lock in it keeps two builds of one folder apart, and goes when its process goes. What is replaced is set aside until
the new folder stands in its place, and put back by the next build if a kill came in between.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = ".lock"
_UNFINISHED = ".building"


@contextmanager
def staged_folder(
    out: Path, *, may_replace: Callable[[Path], bool], worth_keeping: Callable[[Path], bool] | None = None
) -> Iterator[Path]:
    """Yield a folder that becomes `out` when the block ends.

    `may_replace(out)` is asked before and after the block where `out` exists and is not an empty folder.
    `worth_keeping(folder)` is asked about what an earlier attempt has left, which is removed where it is not, and again
    when the block raises; without it, a block begins with an empty folder and leaves none when it raises.

    Raises:
        FileExistsError: `out` may not be replaced.
        FileExistsError: another process is filling the same folder.
    """
    out = out.absolute()
    _check_free(out, may_replace)
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = staging_path(out)
    replaced = out.parent / f".{out.name}.replaced"
    lock = _lock(staging)
    try:
        if worth_keeping is None or not worth_keeping(staging):
            for leftover in staging.iterdir():
                if leftover.name != _LOCK:
                    _remove(leftover)
        if out.exists():
            _remove(replaced)
        elif replaced.exists():
            replaced.rename(out)
        _check_free(out, may_replace)
        yield staging
        _check_free(out, may_replace)
        for path in sorted(staging.rglob("*")):
            if path.name != _LOCK:
                _write_through(path)
        (staging / _LOCK).unlink()
        _write_through(staging)
        if out.exists():
            out.rename(replaced)
        staging.rename(out)
        _write_through(out.parent)
        _remove(replaced)
    except BaseException:
        if worth_keeping is None or not worth_keeping(staging):
            _remove(staging)
        raise
    finally:
        os.close(lock)


def staging_path(out: Path) -> Path:
    """The hidden folder in which `out` is filled."""
    out = out.absolute()
    return out.parent / f".{out.name}{_UNFINISHED}"


def is_unfinished(folder: Path) -> bool:
    """True if the folder is being filled, or was when its process was killed."""
    name = folder.absolute().name
    return name.startswith(".") and name.endswith(_UNFINISHED)


def _check_free(out: Path, may_replace: Callable[[Path], bool]) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not may_replace(out):
        raise FileExistsError(f"{out} exists")


def _lock(staging: Path) -> int:
    while True:
        staging.mkdir(exist_ok=True)
        try:
            descriptor = os.open(staging / _LOCK, os.O_CREAT | os.O_RDWR, 0o644)
        except FileNotFoundError:  # renamed or removed by its builder in between
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise FileExistsError(
                f"another process is building {staging}; wait for it or choose another folder"
            ) from None
        try:
            if os.path.samestat(os.fstat(descriptor), (staging / _LOCK).stat()):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _write_through(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
