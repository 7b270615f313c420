"""Parts of postings into bm25s's arrays: one vocabulary, then the scores of one range of terms after the other.

Terms are numbered in the order in which the corpus first uses them, whatever the shards. A range is as large as the
buffer for its scored postings, so memory is bounded, and each range reads every part once; the bytes written do not
depend on the size of the buffer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.build.durable import write_array, write_values
from retrieval.build.memory import no_room, release_freed, resident_bytes
from retrieval.build.work import BuildWork
from retrieval.searcher import Shard
from retrieval.sparse.kernels import score_postings
from retrieval.sparse.posting_part import read_postings, read_terms
from retrieval.sparse.vocabulary import write_vocabulary

POSTING_BYTES = 8
DEFAULT_BUFFERED_POSTINGS = 32 << 20
"""Scored postings held at once where no bound is given: 256 MiB."""

LEAST_BUFFERED_POSTINGS = 1 << 20

_USABLE_SHARE = 0.95
"""Share of a bound that buffers are sized for; the rest is for what allocators keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """What the score of a posting depends on beside its counts."""

    k1: float
    b: float
    saturation: int
    """Number of the term-frequency part, `kernels.SATURATION`."""
    inverse_document_frequency: Callable[[int, int], float]
    """From (passages that hold the term, passages) to its IDF."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusCounts:
    """Counts over the whole corpus."""

    frequencies: NDArray[np.int64]
    """Passages that hold each term, `[num_terms]`."""
    num_words: int
    """Terms of all passages, repeats counted."""


def join_vocabularies(work: BuildWork, vocabulary_file: Path) -> CorpusCounts:
    """Number the terms of all parts, write the vocabulary, and beside each part the numbers of its terms.

    Held in memory: the vocabulary, about 190 bytes a term.

    Raises:
        ValueError: the vocabulary does not fit into `work.ram_bytes`.
    """
    if work.ram_bytes is not None:
        release_freed()
    numbers: dict[str, int] = {}
    frequencies = np.zeros(1 << 16, dtype=np.int64)
    num_words = 0
    for shard in work.shards:
        terms, part_frequencies, lengths = read_terms(work.part(shard))
        places = np.fromiter(
            (numbers.setdefault(term, len(numbers)) for term in terms), dtype=np.int32, count=len(terms)
        )
        if len(numbers) > len(frequencies):
            frequencies = np.concatenate([frequencies, np.zeros(len(numbers), dtype=np.int64)])
        frequencies[places] += part_frequencies
        num_words += int(lengths.sum(dtype=np.int64))
        write_array(_places_file(work, shard), places)
        if work.ram_bytes is not None and (held := resident_bytes()) > work.ram_bytes:
            raise ValueError(no_room(work.ram_bytes, held, f"the vocabulary, {len(numbers):,} terms so far,"))
        work.progress("counting terms", shard.first + shard.count, work.num_passages)
    write_vocabulary(vocabulary_file, numbers)
    return CorpusCounts(frequencies=frequencies[: len(numbers)].copy(), num_words=num_words)


def write_scores(
    work: BuildWork,
    counts: CorpusCounts,
    scoring: Scoring,
    *,
    default_buffered: int,
    starts_file: Path,
    scores_file: Path,
    rows_file: Path,
) -> None:
    """Write the postings as compressed columns: where each term's begin, their scores and their rows.

    Raises:
        ValueError: `work.ram_bytes` leaves no room for a buffer of a million postings.
        OSError: the disk is full, for example.
    """
    starts = np.zeros(len(counts.frequencies) + 1, dtype=np.int64)
    np.cumsum(counts.frequencies, out=starts[1:])
    write_array(starts_file, starts)
    num_terms, num_postings = len(counts.frequencies), int(starts[-1])
    idf = _idf(counts.frequencies, work.num_passages, scoring)
    mean_length = counts.num_words / work.num_passages
    buffered = buffered_postings(work, num_postings, default_buffered)
    with scores_file.open("wb") as scores_out, rows_file.open("wb") as rows_out:
        for file, dtype in ((scores_out, "<f4"), (rows_out, "<i4")):
            header = {"descr": dtype, "fortran_order": False, "shape": (num_postings,)}
            np.lib.format.write_array_header_1_0(file, header)
        first = 0
        while first < num_terms:
            limit = starts[first] + buffered
            last = max(first + 1, int(np.searchsorted(starts, limit, side="right")) - 1)
            size = int(starts[last] - starts[first])
            scores, rows = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.int32)
            heads = starts[first:last] - starts[first]
            for shard in work.shards:
                places = np.load(_places_file(work, shard), allow_pickle=False)
                part_frequencies, lengths, part_rows, part_counts = read_postings(work.part(shard))
                score_postings(
                    places,
                    part_frequencies,
                    part_rows,
                    part_counts,
                    lengths,
                    shard.first,
                    first,
                    heads,
                    idf,
                    scoring.k1,
                    scoring.b,
                    mean_length,
                    scoring.saturation,
                    scores,
                    rows,
                )
                share = (shard.first + shard.count) / work.num_passages
                work.progress("scoring postings", int(starts[first]) + round(size * share), num_postings)
            write_values(scores_out, scores)
            write_values(rows_out, rows)
            first = last


def buffered_postings(work: BuildWork, num_postings: int, default: int) -> int:
    """How many scored postings to hold at once: `default` without a bound, else as many as it leaves room for.

    Raises:
        ValueError: `work.ram_bytes` leaves no room for a million.
    """
    if work.ram_bytes is None:
        return default
    release_freed()
    largest_part = max(work.part(shard).stat().st_size for shard in work.shards)
    least = min(num_postings, LEAST_BUFFERED_POSTINGS)
    room = round(_USABLE_SHARE * work.ram_bytes) - resident_bytes() - 4 * largest_part
    if room < least * POSTING_BYTES:
        needed = work.ram_bytes - room + least * POSTING_BYTES
        raise ValueError(no_room(work.ram_bytes, needed, "a buffer for scored postings"))
    return min(num_postings, room // POSTING_BYTES)


def _idf(frequencies: NDArray[np.int64], num_passages: int, scoring: Scoring) -> NDArray[np.float32]:
    distinct, places = np.unique(frequencies, return_inverse=True)
    values = [scoring.inverse_document_frequency(count, num_passages) for count in distinct.tolist()]
    idf: NDArray[np.float32] = np.asarray(values, dtype=np.float32)[places]
    return idf


def _places_file(work: BuildWork, shard: Shard) -> Path:
    return work.part(shard).with_suffix(".places.npy")
