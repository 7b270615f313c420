"""From 64-bit keys to rows of the corpus, on disk: two arrays, keys in ascending order and the row of each.

Equal keys come in the order of their rows. Who looks something up compares what it finds: two ids may share a key.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.manifest import IndexCorruptError


def lookup_files(folder: Path, name: str) -> tuple[Path, Path]:
    """The files of a lookup: its keys and its rows."""
    return folder / f"passages.{name}_hashes.npy", folder / f"passages.{name}_rows.npy"


class RowLookup:
    """An opened lookup; nothing of it is held in memory but what the system keeps of its files. Thread-safe.

    Raises:
        IndexCorruptError: a file is cut off, is no array, or does not fit the other one.
    """

    def __init__(self, folder: Path, name: str) -> None:
        keys, rows = (mapped_array(path) for path in lookup_files(folder, name))
        if keys.dtype != np.uint64 or rows.dtype.kind != "i" or keys.ndim != 1 or keys.shape != rows.shape:
            raise IndexCorruptError(
                f"the {name} lookup in {folder} is not whole: the arrays {' and '.join(_names(folder, name))} do not "
                "fit each other; build the index again"
            )
        self._keys: NDArray[Any] = keys
        self._rows: NDArray[Any] = rows

    def __len__(self) -> int:
        return len(self._keys)

    def rows(self, first: int, last: int) -> NDArray[np.signedinteger]:
        """The rows of the keys from `first` to `last`, both included, in the order of their keys."""
        start = int(np.searchsorted(self._keys, np.uint64(first), side="left"))
        end = int(np.searchsorted(self._keys, np.uint64(last), side="right"))
        return self._rows[start:end]


def mapped_array(path: Path) -> NDArray[np.generic]:
    """An array on disk, mapped into memory.

    Raises:
        IndexCorruptError: the file is cut off, or is no array.
    """
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise IndexCorruptError(f"{path} is cut off or is no array ({error}); build the index again") from None


def _names(folder: Path, name: str) -> list[str]:
    return [path.name for path in lookup_files(folder, name)]
