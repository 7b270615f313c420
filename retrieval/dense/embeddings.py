"""Embeddings on disk: one `.npy` a shard while a build goes on, and one `embeddings.npy` in the index.

Rows are passages in corpus order. Building reads the parts, block by block, and never maps them, so that the memory it
holds is what it says; searching maps the file, and processes that search the same index share its pages.
"""

import bisect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retrieval.build.durable import flush, write_array, write_values
from retrieval.build.work import BuildWork
from retrieval.manifest import IndexCorruptError

EMBEDDINGS_FILE = "embeddings.npy"

_ROWS_A_PIECE = 1 << 13

Precision = Literal["float32", "float16"]
Embeddings = NDArray[np.float32] | NDArray[np.float16]
"""`[num_passages, dimension]`."""


def write_part(path: Path, vectors: NDArray[np.float32], precision: Precision) -> None:
    """Write the embeddings of one shard, `[num_texts, dimension]`.

    Raises:
        ValueError: a number that is not finite, or does not fit into half precision.
        OSError: the disk is full, for example.
    """
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise ValueError(
            f"the embedding of passage {int(bad[0])} of its shard holds NaN or infinity; nothing can rank it"
        )
    with np.errstate(over="ignore"):
        kept = vectors.astype(precision)
    if not np.isfinite(kept).all():
        raise ValueError("an embedding does not fit into float16; set embeddings=float32, or encoder.normalize=true")
    write_array(path, kept)


class Parts:
    """The embeddings of all shards of a build, in corpus order.

    Raises:
        ValueError: shards of different dimensions, or of another precision than the settings say.
    """

    def __init__(self, work: BuildWork) -> None:
        self._work = work
        shapes = {(part.shape[1], str(part.dtype)) for part in map(self._mapped, range(len(work.shards)))}
        if len(shapes) != 1:
            raise ValueError(
                f"the shards' embeddings have different dimensions or precisions ({sorted(shapes)}): the encoder was "
                "changed while the build was broken off; build again with --no-resume"
            )
        [(self.dimension, precision)] = shapes
        self.precision: Precision = "float16" if precision == "float16" else "float32"
        self.num_rows = work.num_passages
        self._firsts = [shard.first for shard in work.shards]

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """`(first row, embeddings [count, dimension])` of every shard, read one at a time."""
        for number in range(len(self._work.shards)):
            yield self._work.shards[number].first, self.block(number)

    def block(self, number: int) -> NDArray[np.float32]:
        """The embeddings of one shard."""
        shard = self._work.shards[number]
        return self.span(shard.first, shard.count)

    def span(self, first: int, count: int) -> NDArray[np.float32]:
        """The embeddings of `count` rows of one shard, from the row `first` of the corpus on."""
        return np.ascontiguousarray(self._stored(first, count), dtype=np.float32)

    def rows(self, wanted: NDArray[np.int64]) -> NDArray[np.float32]:
        """The embeddings of these rows, which are in rising order, `[len(wanted), dimension]`."""
        found = np.empty((len(wanted), self.dimension), dtype=np.float32)
        for first, count in self._pieces():
            begin, end = np.searchsorted(wanted, [first, first + count])
            if begin < end:
                found[begin:end] = self._stored(first, count)[wanted[begin:end] - first]
        return found

    def join(self, path: Path) -> None:
        """Write all embeddings into one file, and wait until it is on the disk.

        Raises:
            OSError: the disk is full, for example.
        """
        with path.open("wb") as file:
            shape = (self.num_rows, self.dimension)
            header = {"descr": np.dtype(self.precision).str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for first, count in self._pieces():
                write_values(file, self._stored(first, count))
                self._work.progress("joining embeddings", first + count, self.num_rows)
        flush(path)

    def _pieces(self) -> Iterator[tuple[int, int]]:
        """`(first row, count)` of every shard, a large one in pieces, so that memory does not grow with it."""
        for shard in self._work.shards:
            for first in range(shard.first, shard.first + shard.count, _ROWS_A_PIECE):
                yield first, min(_ROWS_A_PIECE, shard.first + shard.count - first)

    def _stored(self, first: int, count: int) -> Embeddings:
        """Rows of one shard as they are stored."""
        number = bisect.bisect_right(self._firsts, first) - 1
        with self._work.part(self._work.shards[number]).open("rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            row_bytes = self.dimension * np.dtype(self.precision).itemsize
            file.seek((first - self._firsts[number]) * row_bytes, os.SEEK_CUR)
            found: Embeddings = np.fromfile(file, dtype=self.precision, count=count * self.dimension)
        if len(found) != count * self.dimension:
            raise ValueError(f"the embeddings of shard {number} are cut off; build again with --no-resume")
        return found.reshape(count, self.dimension)

    def _mapped(self, number: int) -> Embeddings:
        shard = self._work.shards[number]
        part: Embeddings = np.load(self._work.part(shard), mmap_mode="r", allow_pickle=False)
        if part.ndim != 2 or len(part) != shard.count:
            raise ValueError(
                f"the embeddings of shard {number} have shape {part.shape}, for {shard.count} passages; build again "
                "with --no-resume"
            )
        return part


def open_embeddings(folder: Path) -> Embeddings:
    """The mapped embeddings of an index.

    Raises:
        IndexCorruptError: the file is missing, or is no matrix of float32 or float16.
    """
    path = folder / EMBEDDINGS_FILE
    try:
        found: Embeddings = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise IndexCorruptError(f"{path} cannot be read as embeddings ({error}); build the index again") from None
    if found.ndim != 2 or found.dtype not in (np.float32, np.float16):
        raise IndexCorruptError(f"{path} holds {found.dtype} of shape {found.shape}; build the index again")
    return found
