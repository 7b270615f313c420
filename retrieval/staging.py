"""A folder that appears whole or not at all.

It is filled under a hidden name beside its place, written through to the disk, and renamed at the end. A build that is
killed leaves the hidden folder, which `is_unfinished` tells by its name; the next build of the same folder removes it,
or goes on with it where it says that it is worth that.
A lock file beside it keeps two builds of one folder apart until the exchange is over; a kill frees it too. What is
replaced changes places with the new folder in one step; where the system cannot do that, it is set aside until the new
one stands in its place, and the next build puts it back if a kill came in between. Once the new one stands, nothing
fails any more: what cannot be removed of the old one stays under a name of its own, and that is said.
"""

import fcntl
import itertools
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from retrieval.build.durable import flush, flush_tree, remove
from retrieval.build.exchange import exchanged

_UNFINISHED = ".building"
_log = logging.getLogger(__name__)


@contextmanager
def staged_folder(
    out: Path,
    *,
    may_replace: Callable[[Path], bool],
    worth_keeping: Callable[[Path], bool] | None = None,
    notice: Callable[[str], None] = _log.warning,
) -> Iterator[Path]:
    """Yield a folder that becomes `out` when the block ends.

    `may_replace(out)` is asked before and after the block where `out` exists and is not an empty folder.
    `worth_keeping(folder)` is asked about what an earlier attempt has left, which is removed where it is not, and again
    when the block raises; without it, a block begins with an empty folder and leaves none when it raises.
    `notice` is called with what went wrong after the new folder stood in its place, where nothing is raised.

    Raises:
        FileExistsError: `out` may not be replaced.
        FileExistsError: another process is filling the same folder.
        OSError: `out` lies below a file, or where nothing may be written, or what a killed build has set aside cannot
            be put back.
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
            _remove_remains(out)
            if os.path.lexists(replaced):
                if holds_something(out):
                    _discard(replaced, out, notice)
                else:
                    _put_back(replaced, out)
            _check_free(out, may_replace)
            yield staging
            _check_free(out, may_replace)
            flush_tree(staging)
            if out.exists() and exchanged(staging, out):
                old = staging
            else:
                old = replaced
                if out.exists():
                    out.rename(replaced)
                staging.rename(out)
            _flush_names(out.parent, notice)
            if os.path.lexists(old):
                _discard(old, out, notice)
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
    if holds_something(out) and not may_replace(out):
        raise FileExistsError(f"{out} exists")


def holds_something(out: Path) -> bool:
    """False where there is nothing or an empty folder, which scripts and mounts make beforehand."""
    return out.exists() and not (out.is_dir() and not any(out.iterdir()))


def _put_back(replaced: Path, out: Path) -> None:
    """Move what a killed build has set aside into its place, where there is nothing or an empty folder."""
    try:
        replaced.rename(out)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{replaced} is what a killed build has left of {out}, and cannot be put back ({error.strerror}); move it "
            "to where it should be kept, or choose another folder",
        ) from error


def _discard(old: Path, out: Path, notice: Callable[[str], None]) -> None:
    """Remove what has been replaced, first from its name: under that, the next build would take it for a whole one.

    What stays of it (files that a server has open on NFS, or that are another user's) is told, and tried again by the
    next build.
    """
    remains = old
    with suppress(OSError):
        names = (out.parent / f".{out.name}.replaced-{number}" for number in itertools.count(1))
        remains = old.rename(next(name for name in names if not os.path.lexists(name)))
    with suppress(OSError):
        remove(remains)
    if os.path.lexists(remains):
        notice(f"what was replaced at {out} could not be removed altogether; the rest is in {remains}: remove it")


def _remove_remains(out: Path) -> None:
    """Try once more to remove what earlier builds could not."""
    name = re.compile(rf"\.{re.escape(out.name)}\.replaced-\d+")
    for path in [path for path in out.parent.iterdir() if name.fullmatch(path.name)]:
        with suppress(OSError):
            remove(path)


def _flush_names(folder: Path, notice: Callable[[str], None]) -> None:
    try:
        flush(folder)
    except OSError as error:
        notice(f"{folder} could not be written through to the disk ({error.strerror}); all is in its place")


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
