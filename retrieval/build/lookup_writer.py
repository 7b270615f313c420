"""Writes a lookup from 64-bit keys to rows (`retrieval.row_lookup`) in one pass and bounded memory: an external sort.

Every 131,072 pairs are sorted and put on the disk as a run; the runs are merged block by block at the end. A smaller
corpus is sorted in memory and nothing is put aside. The files depend on the pairs alone.
"""

from array import array
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from retrieval.build.durable import write_values
from retrieval.row_lookup import lookup_files

RUN_PAIRS = 1 << 17
"""Pairs of a run."""

_PAIR_BYTES = 16
_PAIR_BYTES_IN_MEMORY = 64
"""A pair of a run, its place in the order, and its sorted copy."""

_MERGE_SHARE = 2
"""The blocks of all runs together are half a run: the last run and merged pairs are in memory beside them."""

Pairs = tuple[NDArray[np.uint64], NDArray[np.int64]]


def lookup_ram_bytes(num_pairs: int) -> int:
    """The most that a writer of so many pairs holds in memory."""
    return min(num_pairs, RUN_PAIRS) * _PAIR_BYTES_IN_MEMORY


def lookup_spill_bytes(num_pairs: int) -> int:
    """What a writer of so many pairs puts on the disk until the lookup is written."""
    return num_pairs // RUN_PAIRS * RUN_PAIRS * _PAIR_BYTES


class LookupWriter:
    """Takes pairs in ascending order of their rows; to be closed.

    Args:
        folder: where the lookup's files go, and its runs beside them.
        name: of the lookup.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._files = lookup_files(folder, name)
        self._spill_path = folder / f".{name}.runs"
        self._spill_path.unlink(missing_ok=True)  # of a build that was killed
        self._spill: IO[bytes] | None = None
        self._keys, self._rows = array("Q"), array("q")
        self._run_starts: list[int] = []

    def close(self) -> None:
        """Take the runs off the disk, whether or not they have been merged."""
        if self._spill is not None:
            self._spill_path.unlink(missing_ok=True)
            with suppress(OSError):  # nobody needs what a full disk did not take
                self._spill.close()
            self._spill = None

    def __len__(self) -> int:
        return len(self._run_starts) * RUN_PAIRS + len(self._keys)

    def add(self, key: int, row: int) -> None:
        """One more pair.

        Raises:
            OSError: the disk is full, for example.
        """
        self._keys.append(key)
        self._rows.append(row)
        if len(self._keys) == RUN_PAIRS:
            self._put_run_aside()

    def finish(self, num_rows: int) -> None:
        """Write the lookup; rows are below `num_rows`.

        Raises:
            OSError: the disk is full, for example.
        """
        row_type = np.dtype(np.int32 if num_rows <= np.iinfo(np.int32).max else np.int64)
        with closing(self), self._files[0].open("wb") as keys_file, self._files[1].open("wb") as rows_file:
            for file, dtype in ((keys_file, np.dtype(np.uint64)), (rows_file, row_type)):
                header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (len(self),)}
                np.lib.format.write_array_header_1_0(file, header)
            for keys, rows in self._sorted_pairs():
                write_values(keys_file, keys)
                write_values(rows_file, rows.astype(row_type, copy=False))

    def _put_run_aside(self) -> None:
        if self._spill is None:
            self._spill = self._spill_path.open("w+b")
        self._run_starts.append(self._spill.tell())
        for values in self._sorted_run():
            write_values(self._spill, values)

    def _sorted_run(self) -> Pairs:
        """The pairs at hand, which are let go of."""
        held, held_rows = self._keys, self._rows
        self._keys, self._rows = array("Q"), array("q")
        keys, rows = np.frombuffer(held, dtype=np.uint64), np.frombuffer(held_rows, dtype=np.int64)
        order = np.argsort(keys, kind="stable")
        return keys[order], rows[order]

    def _sorted_pairs(self) -> Iterator[Pairs]:
        if not self._keys and not self._run_starts:
            return iter(())
        if self._spill is None:
            return iter([self._sorted_run()])
        newest = self._sorted_run() if self._keys else None
        self._spill.flush()
        block = max(1, RUN_PAIRS // _MERGE_SHARE // len(self._run_starts))
        runs = [_Run(self._spill, start, block) for start in self._run_starts]
        return _merged([*runs, *([_Run.of(newest)] if newest is not None else [])])


class _Run:
    """Sorted pairs, the next block of which is in memory."""

    def __init__(self, file: IO[bytes], start: int, block: int) -> None:
        self._file, self._start, self._block = file, start, block
        self._read = 0
        self._left = RUN_PAIRS
        self.keys: NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        self.rows: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._refill()

    @classmethod
    def of(cls, pairs: Pairs) -> "_Run":
        """A run that is in memory as a whole."""
        run = cls.__new__(cls)
        run._left = 0
        run.keys, run.rows = pairs
        return run

    @property
    def has_more(self) -> bool:
        """True if there are pairs behind the block in memory."""
        return self._left > 0

    def take(self, count: int) -> Pairs:
        """The first `count` pairs of the block, which are passed."""
        taken = self.keys[:count], self.rows[:count]
        self.keys, self.rows = self.keys[count:], self.rows[count:]
        if not len(self.keys) and self._left:
            self._refill()
        return taken

    def _refill(self) -> None:
        count = min(self._block, self._left)
        keys_at = self._start + self._read * 8
        self.keys = np.frombuffer(self._bytes(keys_at, count), dtype=np.uint64)
        self.rows = np.frombuffer(self._bytes(keys_at + 8 * RUN_PAIRS, count), dtype=np.int64)
        self._read += count
        self._left -= count

    def _bytes(self, start: int, count: int) -> bytes:
        self._file.seek(start)
        return self._file.read(count * 8)


def _merged(runs: list[_Run]) -> Iterator[Pairs]:
    """The pairs of all runs by key, equal keys in the order of the runs."""
    while any(len(run.keys) for run in runs):
        bounds = [run.keys[-1] for run in runs if run.has_more]
        if not bounds:
            yield _together(run.take(len(run.keys)) for run in runs)
            return
        # Behind a block its last key may stand again: what equals the least of the last keys goes run by run.
        bound = min(bounds)
        yield _together([run.take(int(np.searchsorted(run.keys, bound, side="left"))) for run in runs])
        for run in runs:
            while count := int(np.searchsorted(run.keys, bound, side="right")):
                yield run.take(count)


def _together(taken: Iterable[Pairs]) -> Pairs:
    pairs = list(taken)
    keys, rows = np.concatenate([keys for keys, _ in pairs]), np.concatenate([rows for _, rows in pairs])
    order = np.argsort(keys, kind="stable")
    return keys[order], rows[order]
