"""The lists of an inverted-file index, written straight to disk in FAISS's own format.

FAISS would hold all codes in memory, or merge blocks through a second file that names its path. Here every vector is
given its list in one pass over the embeddings, which a kill interrupts for a minute at most; a second pass encodes
them again, which is cheap, and writes each code where it belongs. Memory is one group of rows, and the file has the
bytes that `faiss.write_index` would have written after adding everything in corpus order.
"""

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.build.durable import flush, write_array
from retrieval.build.memory import check_room
from retrieval.build.work import BuildWork
from retrieval.dense.embeddings import Parts
from retrieval.dense.faiss_library import import_faiss

_ROWS_A_GROUP = 1 << 15
_NUMBERS_A_PIECE = 1 << 25
"""Numbers of a piece in float32: 128 MiB."""
_ID_BYTES = 8

Piece = tuple[int, int]
"""First row and number of rows: a shard, or a part of a large one."""


def write_lists(index: Any, work: BuildWork, parts: Parts, path: Path) -> None:
    """Write the trained, empty `index` with all embeddings of `parts` in its lists, and wait until it is on the disk.

    Raises:
        ValueError: `work.ram_bytes` has no room for a group.
        OSError: the disk is full, for example.
    """
    groups = _groups(work, parts.dimension)
    check_room(
        work.ram_bytes,
        max(
            _held_bytes(max(count for _, count in group), _rows_of(group), parts.dimension, index.code_size)
            for group in groups
        ),
        "the codes of a group of passages",
    )
    for group in groups:
        _assign_group(index, work, parts, group)
    counts = np.zeros(index.nlist, dtype=np.int64)
    for group in groups:
        counts += np.bincount(_assigned(work, group), minlength=index.nlist)
    head = _head(index, counts)
    starts = len(head) + np.concatenate([[0], np.cumsum(counts * (index.code_size + _ID_BYTES))])
    written = np.zeros(index.nlist, dtype=np.int64)
    with path.open("wb", buffering=0) as file:
        file.truncate(int(starts[-1]))
        _write_at(file.fileno(), head, 0)
        for group in groups:
            _write_group(file.fileno(), index, work, parts, group, starts, counts, written)
    flush(path)


def group_bytes(num_passages: int, dimension: int, code_size: int) -> int:
    """Memory of writing lists, at most."""
    rows = min(num_passages, _ROWS_A_GROUP)
    return _held_bytes(min(rows, _rows_a_piece(dimension)), rows, dimension, code_size)


def _held_bytes(piece_rows: int, group_rows: int, dimension: int, code_size: int) -> int:
    """Memory of writing one group: embeddings and codes of a piece, and codes, lists, order and rows of the group."""
    return piece_rows * (6 * dimension + code_size) + group_rows * (code_size + 4 * _ID_BYTES)


def _rows_of(group: list[Piece]) -> int:
    return sum(count for _, count in group)


def _rows_a_piece(dimension: int) -> int:
    return max(1, min(_ROWS_A_GROUP, _NUMBERS_A_PIECE // dimension))


def _groups(work: BuildWork, dimension: int) -> list[list[Piece]]:
    """The rows of the corpus in pieces of a shard and groups of pieces, the same in every call of a build."""
    groups: list[list[Piece]] = []
    size, step = _ROWS_A_GROUP, _rows_a_piece(dimension)
    for shard in work.shards:
        for first in range(shard.first, shard.first + shard.count, step):
            count = min(step, shard.first + shard.count - first)
            if size + count > _ROWS_A_GROUP:
                groups.append([])
                size = 0
            groups[-1].append((first, count))
            size += count
    return groups


def _assign_group(index: Any, work: BuildWork, parts: Parts, group: list[Piece]) -> None:
    """Note the list of every row of a group, on disk."""
    mark = f"assigned.rows.{group[0][0]}"
    if work.done(mark):
        return
    found = []
    for first, count in group:
        found.append(index.quantizer.assign(parts.span(first, count), 1).reshape(-1).astype(np.int32))
        work.progress("assigning vectors", first + count, work.num_passages)
    path = _assigned_path(work, group)
    write_array(path, np.concatenate(found))
    flush(path)
    work.mark(mark)


def _write_group(
    file: int,
    index: Any,
    work: BuildWork,
    parts: Parts,
    group: list[Piece],
    starts: NDArray[np.int64],
    counts: NDArray[np.int64],
    written: NDArray[np.int64],
) -> None:
    """Put the codes and rows of a group behind those of earlier groups in every list."""
    lists = _assigned(work, group)
    first = group[0][0]
    codes = np.empty((len(lists), index.code_size), dtype=np.uint8)
    for row, count in group:
        place = slice(row - first, row - first + count)
        codes[place] = _encoded(index, parts.span(row, count), lists[place])
    order = np.argsort(lists, kind="stable")
    rows, sorted_lists = order.astype(np.int64) + first, lists[order]
    begins = np.flatnonzero(np.diff(sorted_lists, prepend=-1))
    ends = np.append(begins[1:], len(sorted_lists))
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        number = int(sorted_lists[begin])
        code_place = int(starts[number] + written[number] * index.code_size)
        row_place = int(starts[number] + counts[number] * index.code_size + written[number] * _ID_BYTES)
        _write_at(file, codes[order[begin:end]].data.cast("B"), code_place)  # a sorted copy of all would be as large
        _write_at(file, rows[begin:end].data.cast("B"), row_place)
        written[number] += end - begin
    work.progress("writing lists", first + len(lists), work.num_passages)


def _encoded(index: Any, vectors: NDArray[np.float32], lists: NDArray[np.int32]) -> NDArray[np.uint8]:
    faiss = import_faiss()
    numbers = np.ascontiguousarray(lists, dtype=np.int64)
    codes = np.empty((len(vectors), index.code_size), dtype=np.uint8)
    index.encode_vectors(len(vectors), faiss.swig_ptr(vectors), faiss.swig_ptr(numbers), faiss.swig_ptr(codes), False)
    return codes


def _head(index: Any, counts: NDArray[np.int64]) -> bytes:
    """All that FAISS writes before the first list: quantizer, codebooks, sizes of the lists.

    Raises:
        ValueError: this faiss writes inverted lists in another form.
    """
    faiss = import_faiss()
    index.ntotal = int(counts.sum())
    whole: bytes = faiss.serialize_index(index).tobytes()
    index.ntotal = 0
    prefix = b"ilar" + struct.pack("<QQ", index.nlist, index.code_size)
    empty = prefix + b"sprs" + struct.pack("<Q", 0)
    if not whole.endswith(empty):
        raise ValueError(
            f"faiss {faiss.__version__} writes inverted lists in a form that this code does not know; install the "
            "version in constraints.txt"
        )
    filled = np.flatnonzero(counts)
    if len(filled) > index.nlist // 2:
        sizes = b"full" + struct.pack("<Q", index.nlist) + counts.astype("<u8").tobytes()
    else:
        pairs = np.stack([filled, counts[filled]], axis=1).astype("<u8")
        sizes = b"sprs" + struct.pack("<Q", pairs.size) + pairs.tobytes()
    return whole[: -len(empty)] + prefix + sizes


def _write_at(file: int, content: bytes | memoryview, place: int) -> None:
    view = memoryview(content)
    while view:
        size = os.pwrite(file, view, place)
        view, place = view[size:], place + size


def _assigned(work: BuildWork, group: list[Piece]) -> NDArray[np.int32]:
    lists: NDArray[np.int32] = np.load(_assigned_path(work, group), allow_pickle=False)
    return lists


def _assigned_path(work: BuildWork, group: list[Piece]) -> Path:
    return work.parts / f"ivf-lists-of-{group[0][0]:010d}.npy"
