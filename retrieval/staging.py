"""A folder that appears whole or not at all.

It is filled under a hidden name beside its place, written through to the disk, and renamed at the end. A build that is
killed leaves the hidden folder, which `is_unfinished` tells by its name; the next build of the same folder removes it,
or goes on with it where it says that it is worth that.
A lock file beside it keeps two builds of one folder apart until the exchange is over; a kill frees it too. What is
replaced changes places with the new folder in one step; where the system cannot do that, it is set aside until the new
one stands in its place, and the next build puts it back if a kill came in between.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from retrieval.build.durable import flush, flush_tree, remove
from retrieval.build.exchange import exchanged

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
        OSError: `out` lies below a file, or where nothing may be written.
    """
    out = out.absolute()
    _check_free(out, may_replace)
    with _locked(out):
        staging = staging_path(out)
        replaced = replaced_path(out)
        staging.mkdir(exist_ok=True)
        try:
            if worth_keeping is None or not worth_keeping(staging):
                for leftover in staging.iterdir():
                    remove(leftover)
            if out.exists():
                remove(replaced)
            elif replaced.exists():
                replaced.rename(out)
            _check_free(out, may_replace)
            yield staging
            _check_free(out, may_replace)
            flush_tree(staging)
            if out.exists() and exchanged(staging, out):
                staging.rename(replaced)  # it must not look like a build to go on with
            else:
                if out.exists():
                    out.rename(replaced)
                staging.rename(out)
            flush(out.parent)
            remove(replaced)
        except BaseException:
            if worth_keeping is None or not worth_keeping(staging):
                remove(staging)
            raise


def staging_path(out: Path) -> Path:
    """The hidden folder in which `out` is filled."""
    out = out.absolute()
    return out.parent / f".{out.name}{_UNFINISHED}"


def replaced_path(out: Path) -> Path:
    """The hidden folder that holds what was at `out` until it has been replaced."""
    out = out.absolute()
    return out.parent / f".{out.name}.replaced"


def is_unfinished(folder: Path) -> bool:
    """True if the folder is being filled, or was when its process was killed."""
    name = folder.absolute().name
    return name.startswith(".") and name.endswith(_UNFINISHED)


def _check_free(out: Path, may_replace: Callable[[Path], bool]) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not may_replace(out):
        raise FileExistsError(f"{out} exists")


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the lock of `out`. Its file is neither moved nor removed but by who holds it, at the very end."""
    path = out.parent / f".{out.name}.lock"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _lock(path)
    except BlockingIOError:
        raise FileExistsError(f"another process is building {out}; wait for it or choose another folder") from None
    except OSError as error:
        raise OSError(
            error.errno, f"{out} cannot be made, {error.strerror} ({error.filename}); choose another folder"
        ) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path) -> int:
    """Lock the file that is at `path` when the lock is had: one that was removed meanwhile keeps nobody out."""
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(descriptor)
            raise
        os.close(descriptor)
