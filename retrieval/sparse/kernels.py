"""The compiled loops of the bm25s backend: counting, scoring, and the best k with ties by row.

Why not bm25s's own retrieval: its heap breaks ties arbitrarily, so equal scores would come back in an order that
depends on k and on the rest of the corpus; it holds the GIL; and it compiles anew in every process. These loops compute
the same float32 sums (a test compares them), walk only the postings of the query, release the GIL, and are cached on
disk after the first compilation.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Term-frequency parts, by the number that the score loop knows them under.
SATURATION = {"lucene": 0, "robertson": 0, "atire": 1}

_BLOCK_ROWS = 64
_DENSE_SHARE = 8  # a query with more postings than an eighth of the corpus is scored over every row


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return numba.njit(function, nogil=True, cache=True)
    except RuntimeError:  # no folder that numba could write its cache to
        return numba.njit(function, nogil=True)


@_compiled
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


@_compiled
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


@_compiled
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


@_compiled
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


@_compiled
def _is_worse(score: float, row: int, other_score: float, other_row: int) -> bool:
    return score < other_score or (score == other_score and row > other_row)


@_compiled
def _sift_down(scores: Array, rows: Array, root: int, size: int) -> None:
    while True:
        worst = root
        for child in (2 * root + 1, 2 * root + 2):
            if child < size and _is_worse(scores[child], rows[child], scores[worst], rows[worst]):
                worst = child
        if worst == root:
            return
        scores[root], scores[worst] = scores[worst], scores[root]
        rows[root], rows[worst] = rows[worst], rows[root]
        root = worst


@_compiled
def _make_heap(scores: Array, rows: Array, size: int) -> None:
    for root in range(size // 2 - 1, -1, -1):
        _sift_down(scores, rows, root, size)


@_compiled
def _best_of_all(total: Array, k: int, heap_scores: Array, heap_rows: Array) -> int:
    """The k best positive scores of all rows as a heap, if there are as many; returns how many there are.

    Rows come in order, so an equal score later is worse. Most blocks of rows have nothing above the threshold: whether
    one has is a question that the compiler turns into a few wide instructions.
    """
    size = 0
    threshold = np.float32(0)
    num_rows = len(total)
    for start in range(0, num_rows, _BLOCK_ROWS):
        end = min(start + _BLOCK_ROWS, num_rows)
        if end - start == _BLOCK_ROWS:
            block = total[start:end]
            above = np.int32(0)
            for i in range(_BLOCK_ROWS):
                above |= np.int32(block[i] > threshold)
            if above == 0:
                continue
        for row in range(start, end):
            score = total[row]
            if score > threshold:
                if size < k:
                    heap_scores[size] = score
                    heap_rows[size] = row
                    size += 1
                    if size == k:
                        _make_heap(heap_scores, heap_rows, k)
                        threshold = heap_scores[0]
                else:
                    heap_scores[0] = score
                    heap_rows[0] = row
                    _sift_down(heap_scores, heap_rows, 0, k)
                    threshold = heap_scores[0]
    return size


@_compiled
def best_rows(
    query_terms: Array,
    query_ends: Array,
    k: int,
    scores: Array,
    rows: Array,
    starts: Array,
    total: Array,
    touched: Array,
) -> tuple[Array, Array, Array]:
    """The k best rows of each query: positive scores only, best first, equal scores by row.

    `query_terms: int32`, query after query, repeats count again; `query_ends: int64 [num_queries]`; the index as
    compressed columns: postings of term t are `starts[t]:starts[t + 1]` of `scores: float32` and `rows: int32`.
    `total: float32 [num_rows]`, zeros, is scratch and comes back as zeros; `touched: int32 [num_rows]` is scratch.

    Returns `rows int32 [num_queries, k]`, `scores float32 [num_queries, k]` and how many of the k are filled, `int64
    [num_queries]`. Scores are float32 sums in the order of the query's terms.
    """
    num_queries = len(query_ends)
    top_rows = np.zeros((num_queries, k), dtype=np.int32)
    top_scores = np.zeros((num_queries, k), dtype=np.float32)
    filled = np.zeros(num_queries, dtype=np.int64)
    num_rows = len(total)
    start = 0
    for q in range(num_queries):
        terms = query_terms[start : query_ends[q]]
        start = query_ends[q]
        num_postings = 0
        for term in terms:
            num_postings += starts[term + 1] - starts[term]
        # Few postings: remember which rows they touch. Many: touch blindly, and look at every row afterwards.
        dense = num_postings * _DENSE_SHARE > num_rows
        num_candidates = 0
        for term in terms:
            if dense:
                for i in range(starts[term], starts[term + 1]):
                    total[rows[i]] += scores[i]
            else:
                for i in range(starts[term], starts[term + 1]):
                    row = rows[i]
                    if total[row] == 0 and scores[i] > 0:
                        touched[num_candidates] = row
                        num_candidates += 1
                    total[row] += scores[i]
        heap_rows, heap_scores = top_rows[q], top_scores[q]
        size = 0
        if dense:
            size = _best_of_all(total, k, heap_scores, heap_rows)
            total[:] = 0
        else:
            threshold = np.float32(0)
            for i in range(num_candidates):
                row = touched[i]
                score = total[row]
                total[row] = 0
                if score < threshold or score == 0:
                    continue
                if size < k:
                    heap_scores[size] = score
                    heap_rows[size] = row
                    size += 1
                    if size == k:
                        _make_heap(heap_scores, heap_rows, k)
                        threshold = heap_scores[0]
                elif _is_worse(heap_scores[0], heap_rows[0], score, row):
                    heap_scores[0] = score
                    heap_rows[0] = row
                    _sift_down(heap_scores, heap_rows, 0, k)
                    threshold = heap_scores[0]
        if size < k:
            _make_heap(heap_scores, heap_rows, size)
        for last in range(size - 1, 0, -1):
            heap_scores[0], heap_scores[last] = heap_scores[last], heap_scores[0]
            heap_rows[0], heap_rows[last] = heap_rows[last], heap_rows[0]
            _sift_down(heap_scores, heap_rows, 0, last)
        filled[q] = size
    return top_rows, top_scores, filled
