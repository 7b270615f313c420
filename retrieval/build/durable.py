"""Writing so that a full disk is told as one and a kill leaves either the old file or the new one.

numpy writes arrays past Python's file objects and reports a full disk without its error number; `write_array` writes
the bytes that `numpy.save` would write, with the operating system's own error.
"""

import os
import shutil
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_CHUNK_BYTES = 64 << 20


def write_array(target: Path | IO[bytes], array: NDArray[Any]) -> None:
    """Write an array as `numpy.save` does, into a new file or at the end of an open one.

    Raises:
        OSError: with its errno, ENOSPC for a full disk.
    """
    if isinstance(target, Path):
        with target.open("wb") as file:
            write_array(file, array)
        return
    header = np.lib.format.header_data_from_array_1_0(np.ascontiguousarray(array))
    np.lib.format.write_array_header_1_0(target, header)
    write_values(target, array)


def write_values(file: IO[bytes], array: NDArray[Any]) -> None:
    """Append the values of an array in C order, without a header, in pieces that a file system takes at once."""
    flat = np.ascontiguousarray(array).reshape(-1)
    step = max(1, _CHUNK_BYTES // max(flat.itemsize, 1))
    for start in range(0, len(flat), step):
        file.write(flat[start : start + step].data.cast("B"))


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in place, whole and on the disk, or not at all."""
    new = path.with_name(f".new-{path.name}")
    new.write_bytes(content)
    flush(new)
    new.replace(path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Wait until a file, or the list of names of a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(path: Path) -> None:
    """Wait until a file, or a folder with all that is in it, is on the disk."""
    if path.is_dir():
        for inner in sorted(path.rglob("*")):
            flush(inner)
    flush(path)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
