"""The postings of one shard as one file: its terms in the order of first use, and who holds each of them how often.

Nothing in it depends on other shards: rows count from the shard's first passage, terms have the shard's own numbers.
Arrays stand one after the other in numpy's format; rows and counts take 2 bytes each where they fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.build.durable import write_array
from retrieval.sparse.kernels import count_documents, fill_postings, localize
from retrieval.sparse.vocabulary import WordNumbers

_SMALL = np.iinfo(np.uint16).max


@dataclass(frozen=True, slots=True, kw_only=True)
class PostingPart:
    """One shard's postings in memory."""

    terms: list[str]
    """The shard's terms in the order of first use."""
    frequencies: NDArray[np.int32]
    """Passages that hold each term, `[num_terms]`."""
    lengths: NDArray[np.int32]
    """Terms of each passage, repeats counted, `[num_passages]`."""
    rows: NDArray[Any]
    """Place of the passage in the shard, uint16 or uint32 `[num_postings]`, term after term, ascending in each."""
    counts: NDArray[Any]
    """How often the passage holds the term, uint16 or uint32 `[num_postings]`."""


def cut_part(texts: Sequence[str], words: WordNumbers) -> PostingPart:
    """Cut the texts of a shard into terms and gather the postings. Memory: 12 bytes a word beside the texts."""
    words.forget_if_full()
    numbers, places = words.cut(texts)
    tokens = np.frombuffer(numbers, dtype=np.int32) if numbers else np.zeros(0, dtype=np.int32)
    lengths = np.frombuffer(places, dtype=np.int64) if places else np.zeros(0, dtype=np.int64)
    order = np.empty(min(len(words.terms), len(tokens)), dtype=np.int32)
    kept, distinct = localize(tokens, lengths, np.full(len(words.terms), -1, dtype=np.int32), order)
    tokens = tokens[:kept]
    frequencies = np.zeros(distinct, dtype=np.int32)
    most = count_documents(tokens, lengths, np.full(distinct, -1, dtype=np.int32), frequencies)
    heads = np.zeros(distinct + 1, dtype=np.int64)
    np.cumsum(frequencies, out=heads[1:])
    small = most <= _SMALL and len(lengths) <= _SMALL + 1
    rows = np.empty(heads[-1], dtype=np.uint16 if small else np.uint32)
    counts = np.zeros(heads[-1], dtype=rows.dtype)
    fill_postings(tokens, lengths, np.full(distinct, -1, dtype=np.int32), heads[:-1], rows, counts)
    return PostingPart(
        terms=[words.terms[number] for number in order[:distinct].tolist()],
        frequencies=frequencies,
        lengths=lengths.astype(np.int32),
        rows=rows,
        counts=counts,
    )


def write_part(path: Path, part: PostingPart) -> None:
    """Write a part as one file.

    Raises:
        OSError: the disk is full, for example.
    """
    terms = np.frombuffer("\n".join(part.terms).encode("utf-8"), dtype=np.uint8)
    with path.open("wb") as file:
        for array in (terms, part.frequencies, part.lengths, part.rows, part.counts):
            write_array(file, array)


def read_terms(path: Path) -> tuple[list[str], NDArray[np.int32], NDArray[np.int32]]:
    """The terms of a part, their frequencies and the passages' lengths, without the postings."""
    with path.open("rb") as file:
        joined, frequencies, lengths = (np.load(file, allow_pickle=False) for _ in range(3))
    return joined.tobytes().decode("utf-8").split("\n") if len(joined) else [], frequencies, lengths


def read_postings(path: Path) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[Any], NDArray[Any]]:
    """Frequencies, lengths, rows and counts of a part."""
    with path.open("rb") as file:
        _, frequencies, lengths, rows, counts = (np.load(file, allow_pickle=False) for _ in range(5))
    return frequencies, lengths, rows, counts
