"""The compiled loops that build a bm25s index: counting and scoring. They release the GIL and are cached on disk.

The loops that search it are in `ranking`.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Term-frequency parts, by the number that the score loop knows them under.
SATURATION = {"lucene": 0, "robertson": 0, "atire": 1}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled by numba, without the GIL, and kept on disk for the next process."""
    try:
        return numba.njit(function, nogil=True, cache=True)
    except RuntimeError:  # no folder that numba could write its cache to
        return numba.njit(function, nogil=True)


@compiled
def localize(tokens: Array, ends: Array, local_of: Array, order: Array) -> tuple[int, int]:
    """Renumber the terms of a shard in the order in which it first uses them, in place.

    `tokens: int32 [num_words]` are term numbers of any kind, negative where a word is no term, passage after passage;
    `ends: int64 [num_passages]` says where each one ends and is turned into its number of terms; `local_of: int32`
    holds -1 for every number and is scratch; `order: int32` receives the numbers in the order of their first use.

    Returns the number of tokens kept, which stand at the front of `tokens`, and the number of distinct terms.
    """
    kept, distinct, start = 0, 0, 0
    for p in range(len(ends)):
        end = ends[p]
        before = kept
        for i in range(start, end):
            number = tokens[i]
            if number < 0:
                continue
            local = local_of[number]
            if local < 0:
                local = distinct
                local_of[number] = local
                order[local] = number
                distinct += 1
            tokens[kept] = local
            kept += 1
        ends[p] = kept - before
        start = end
    return kept, distinct


@compiled
def count_documents(tokens: Array, lengths: Array, last_row: Array, frequencies: Array) -> int:
    """Add to `frequencies[term]` the number of passages that hold it; returns the most often that one holds a term.

    `tokens: int32 [num_terms]`, passage after passage; `lengths: int64 [num_passages]`; `last_row: int32 [vocabulary]`
    holds -1 and is scratch; `frequencies: int32 [vocabulary]`, zeros, changed in place.
    """
    start, most = 0, 0
    repeats = np.zeros(len(frequencies), dtype=np.int64)
    for p in range(len(lengths)):
        end = start + lengths[p]
        for i in range(start, end):
            term = tokens[i]
            if last_row[term] != p:
                last_row[term] = p
                frequencies[term] += 1
                repeats[term] = 0
            repeats[term] += 1
            most = max(most, repeats[term])
        start = end
    return most


@compiled
def fill_postings(tokens: Array, lengths: Array, last_row: Array, heads: Array, rows: Array, counts: Array) -> None:
    """Write the postings of a shard, term after term, passages in order within a term.

    `tokens`, `lengths` and `last_row` as above; `heads: int64 [vocabulary]` is where each term's next posting goes,
    advanced in place; `rows` and `counts`, zeros, receive the passage's place in the shard and how often it has it.
    """
    start = 0
    for p in range(len(lengths)):
        end = start + lengths[p]
        for i in range(start, end):
            term = tokens[i]
            if last_row[term] != p:
                last_row[term] = p
                rows[heads[term]] = p
                heads[term] += 1
            counts[heads[term] - 1] += 1
        start = end


@compiled
def score_postings(
    terms: Array,
    frequencies: Array,
    part_rows: Array,
    counts: Array,
    lengths: Array,
    first_row: int,
    first_term: int,
    heads: Array,
    idf: Array,
    k1: float,
    b: float,
    mean_length: float,
    saturation: int,
    scores: Array,
    rows: Array,
) -> None:
    """Score the postings of one shard that belong to the terms `first_term <= t < first_term + len(heads)`.

    `terms: int32 [shard vocabulary]` are the corpus's numbers of the shard's terms; `frequencies: int32`, postings of
    each; `part_rows` and `counts`: the postings; `lengths: int32 [num_passages]`. `heads: int64 [num_terms_of_range]`
    is where each term's next posting goes in `scores: float32` and `rows: int32`, advanced in place. Shards must come
    in row order.
    """
    last_term = first_term + len(heads)
    norms = np.empty(len(lengths), dtype=np.float64)
    for p in range(len(lengths)):
        norms[p] = k1 * ((1 - b) + b * np.int64(lengths[p]) / mean_length)
    start = 0
    for local in range(len(terms)):
        term = terms[local]
        end = start + frequencies[local]
        if first_term <= term < last_term:
            place = heads[term - first_term]
            for i in range(start, end):
                row = np.int64(part_rows[i])
                frequency = np.int64(counts[i])
                if saturation == 0:
                    weight = frequency / (norms[row] + frequency)
                else:
                    weight = np.float32(frequency * np.float64(np.float32(k1 + 1))) / (frequency + norms[row])
                scores[place] = np.float32(idf[term] * weight)
                rows[place] = first_row + row
                place += 1
            heads[term - first_term] = place
        start = end
