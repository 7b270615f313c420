"""The term numbers of a whole corpus on disk, written once and read again in blocks of bounded size."""

from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

_BLOCK_TERMS = 1 << 20


class TermSpill:
    """Passages as int32 term numbers in a file. Held in memory: 4 bytes a passage (its length) and one block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._buffer = array("i")
        self._lengths = array("i")
        self.num_terms = 0

    def add(self, terms: list[int]) -> None:
        """Append one passage."""
        self._buffer.extend(terms)
        self._lengths.append(len(terms))
        self.num_terms += len(terms)
        if len(self._buffer) >= _BLOCK_TERMS:
            self._flush()

    @property
    def num_passages(self) -> int:
        """How many passages have been added."""
        return len(self._lengths)

    def _flush(self) -> None:
        self._buffer.tofile(self._file)
        self._buffer = array("i")

    def blocks(self) -> Iterator[tuple[int, NDArray[np.int32], NDArray[np.int64]]]:
        """`(first row, terms [num_terms], ends [num_passages])` of one block after the other, about a million terms
        each; `ends` says where in `terms` each passage ends.
        """
        self._flush()
        self._file.flush()
        lengths = np.frombuffer(self._lengths, dtype=np.int32)
        row = 0
        with self._path.open("rb") as file:
            while row < len(lengths):
                ends = np.cumsum(lengths[row : row + (1 << 18)], dtype=np.int64)
                size = max(1, int(np.searchsorted(ends, _BLOCK_TERMS, side="right")))
                ends = ends[:size]
                yield row, np.fromfile(file, dtype=np.int32, count=int(ends[-1])), ends
                row += size

    def __enter__(self) -> "TermSpill":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)
