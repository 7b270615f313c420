"""The compiled loops that search a bm25s index: scores of rows, and the best k of them with ties by row.

Why not bm25s's own retrieval: its heap breaks ties arbitrarily, so equal scores would come back in an order that
depends on k and on the rest of the corpus; it holds the GIL; and it compiles anew in every process. These loops compute
the same float32 sums (a test compares them) and release the GIL.

Two ways to the same answer. Adding up every posting of the query is the fastest where there are few. Where common words
make them many, the rare words are added up first: once a row that has none of them can no longer reach the k-th best,
the long lists are only asked about the rows that still can (MaxScore: Turtle and Flood, 1995).
"""

import numpy as np

from retrieval.sparse.kernels import Array, compiled

_BLOCK_ROWS = 64
_DENSE_SHARE = 8  # a query with more postings than an eighth of the corpus is scored over every row
_MANY_POSTINGS = 16_384  # adding up fewer takes less time than finding out which ones can be passed over
_RARE_SHARE = 4  # at most a quarter of the postings are added up to find that out, in case they cannot
_LOOKUP_POSTINGS = 100  # a look at one row of a long list takes as long as adding up so many postings
_ROUNDING = 2.0**-20  # more than float32 sums of the same numbers in two orders differ by, relative, for each number
_LEAST_PEAK = np.float32(1e-30)


@compiled
def _is_worse(score: float, row: int, other_score: float, other_row: int) -> bool:
    return score < other_score or (score == other_score and row > other_row)


@compiled
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


@compiled
def _make_heap(scores: Array, rows: Array, size: int) -> None:
    for root in range(size // 2 - 1, -1, -1):
        _sift_down(scores, rows, root, size)


@compiled
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


@compiled
def _best_of_rows(total: Array, candidates: Array, least: float, k: int, heap_scores: Array, heap_rows: Array) -> int:
    """The k best positive scores of rows in any order, as a heap if there are as many; returns how many there are.

    `least` is 0, or a score that k of the rows are known to reach.
    """
    size = 0
    threshold = np.float32(least)
    for row in candidates:
        score = total[row]
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
    return size


@compiled
def _sort_heap(heap_scores: Array, heap_rows: Array, size: int, k: int) -> None:
    """Order the first `size` of a heap of k, best first."""
    if size < k:
        _make_heap(heap_scores, heap_rows, size)
    for last in range(size - 1, 0, -1):
        heap_scores[0], heap_scores[last] = heap_scores[last], heap_scores[0]
        heap_rows[0], heap_rows[last] = heap_rows[last], heap_rows[0]
        _sift_down(heap_scores, heap_rows, 0, last)


@compiled
def _touch(first: int, end: int, scores: Array, rows: Array, total: Array, touched: Array, num_touched: int) -> int:
    """Add the postings `first:end` to `total` and the rows that had nothing to `touched`; returns how many it has."""
    for i in range(first, end):
        row = rows[i]
        if total[row] == 0 and scores[i] > 0:
            touched[num_touched] = row
            num_touched += 1
        total[row] += scores[i]
    return num_touched


@compiled
def _best_by_adding_up(
    terms: Array,
    num_postings: int,
    k: int,
    scores: Array,
    rows: Array,
    starts: Array,
    total: Array,
    touched: Array,
    heap_scores: Array,
    heap_rows: Array,
) -> int:
    """The k best rows of one query as a heap, every posting added up; returns how many there are."""
    # Few postings: remember which rows they touch. Many: touch blindly, and look at every row afterwards.
    if num_postings * _DENSE_SHARE > len(total):
        for term in terms:
            for i in range(starts[term], starts[term + 1]):
                total[rows[i]] += scores[i]
        size = _best_of_all(total, k, heap_scores, heap_rows)
        total[:] = 0
        return size
    num_touched = 0
    for term in terms:
        num_touched = _touch(starts[term], starts[term + 1], scores, rows, total, touched, num_touched)
    size = _best_of_rows(total, touched[:num_touched], 0.0, k, heap_scores, heap_rows)
    total[touched[:num_touched]] = 0
    return size


@compiled
def _peak(term: int, scores: Array, starts: Array, peaks: Array) -> np.float32:
    """The largest score in a term's postings, found when it is first asked for."""
    if peaks[term] == 0:
        peak = _LEAST_PEAK
        for i in range(starts[term], starts[term + 1]):
            peak = max(peak, scores[i])
        peaks[term] = peak  # two threads that come here at once write the same number
    return peaks[term]


@compiled
def _score_in(term: int, row: int, num_rows: int, scores: Array, rows: Array, starts: Array) -> np.float32:
    """The score of one row for a term, by binary search in its postings; 0 where the passage lacks it."""
    first, end = starts[term], starts[term + 1]
    # Rows ascend without repeats: as many postings stand before this row's as rows do, less those that are missing.
    low = first + max(0, row - (num_rows - (end - first)))
    size = min(end, first + row + 1) - low
    while size > 1:
        half = size // 2
        if rows[low + half] <= row:
            low += half
        size -= half
    return scores[low] if size == 1 and rows[low] == row else np.float32(0)


@compiled
def _score_of_row(row: int, terms: Array, num_rows: int, scores: Array, rows: Array, starts: Array) -> np.float32:
    """The score of one row, the same float32 sum as adding up every posting gives."""
    score = np.float32(0)
    for term in terms:
        score += _score_in(term, row, num_rows, scores, rows, starts)
    return score


@compiled
def _best_by_passing_over(
    terms: Array,
    num_postings: int,
    k: int,
    scores: Array,
    rows: Array,
    starts: Array,
    peaks: Array,
    total: Array,
    touched: Array,
    heap_scores: Array,
    heap_rows: Array,
) -> bool:
    """The k best rows of one query as a heap, most postings passed over; False where that would not pay."""
    num_terms, num_rows = len(terms), len(total)
    # Without words that most passages have, the k-th best is seldom far enough above the rest.
    if num_postings < max(_MANY_POSTINGS, num_rows, k * num_terms * _LOOKUP_POSTINGS):
        return False
    highest = np.empty(num_terms, dtype=np.float64)
    for i in range(num_terms):
        highest[i] = _peak(terms[i], scores, starts, peaks)
    order = np.argsort(-highest)
    slack = 1 + num_terms * _ROUNDING
    left, num_touched, threshold = num_postings, 0, np.float32(0)
    rest = highest.sum()  # the most that a row can get from the terms that are not added up yet
    found = False
    for place in range(num_terms - 1):
        term, following = terms[order[place]], terms[order[place + 1]]
        left -= starts[term + 1] - starts[term]
        rest -= highest[order[place]]
        if (num_postings - left) * _RARE_SHARE > num_postings:
            break
        num_touched = _touch(starts[term], starts[term + 1], scores, rows, total, touched, num_touched)
        if num_touched < k or starts[following + 1] - starts[following] < num_touched:
            continue  # too early, or quicker added up than asked whether it must be
        _best_of_rows(total, touched[:num_touched], threshold, k, heap_scores, heap_rows)
        threshold = heap_scores[0]
        enough = threshold / slack - rest
        if enough <= 0:  # a row without any of the terms so far may still be among the best
            continue
        candidates = 0
        for row in touched[:num_touched]:
            candidates += total[row] >= enough
        if (candidates + k * num_terms) * _LOOKUP_POSTINGS < left:
            found = True
            break
    if found:
        for slot in range(k):  # the best so far first: their whole scores rule out most of the others
            row = heap_rows[slot]
            total[row] = 0
            heap_scores[slot] = _score_of_row(row, terms, num_rows, scores, rows, starts)
        _make_heap(heap_scores, heap_rows, k)
        for row in touched[:num_touched]:
            enough = heap_scores[0] / slack
            most = total[row] + rest
            if most < enough or total[row] == 0:
                continue
            for i in order[place + 1 :]:
                most -= highest[i] - _score_in(terms[i], row, num_rows, scores, rows, starts)
                if most < enough:
                    break
            if most >= enough:
                score = _score_of_row(row, terms, num_rows, scores, rows, starts)
                if _is_worse(heap_scores[0], heap_rows[0], score, row):
                    heap_scores[0] = score
                    heap_rows[0] = row
                    _sift_down(heap_scores, heap_rows, 0, k)
    total[touched[:num_touched]] = 0
    return found


@compiled
def best_rows(
    query_terms: Array,
    query_ends: Array,
    k: int,
    scores: Array,
    rows: Array,
    starts: Array,
    peaks: Array,
    total: Array,
    touched: Array,
) -> tuple[Array, Array, Array]:
    """The k best rows of each query: positive scores only, best first, equal scores by row.

    `query_terms: int32`, query after query, repeats count again; `query_ends: int64 [num_queries]`; the index as
    compressed columns: postings of term t are `starts[t]:starts[t + 1]` of `scores: float32`, none negative, and
    `rows: int32`, ascending. `peaks: float32 [vocabulary]` is zeros at first, and kept for the next call, of any
    thread. `total: float32 [num_rows]`, zeros, and `touched: int32 [num_rows]` are scratch of this thread; `total` is
    zeros again afterwards.

    Returns `rows int32 [num_queries, k]`, `scores float32 [num_queries, k]` and how many of the k are filled, `int64
    [num_queries]`. Scores are float32 sums in the order of the query's terms.
    """
    num_queries = len(query_ends)
    top_rows = np.zeros((num_queries, k), dtype=np.int32)
    top_scores = np.zeros((num_queries, k), dtype=np.float32)
    filled = np.zeros(num_queries, dtype=np.int64)
    start = 0
    for q in range(num_queries):
        terms = query_terms[start : query_ends[q]]
        start = query_ends[q]
        num_postings = 0
        for term in terms:
            num_postings += starts[term + 1] - starts[term]
        heap_scores, heap_rows = top_scores[q], top_rows[q]
        size = k
        if not _best_by_passing_over(
            terms, num_postings, k, scores, rows, starts, peaks, total, touched, heap_scores, heap_rows
        ):
            size = _best_by_adding_up(
                terms, num_postings, k, scores, rows, starts, total, touched, heap_scores, heap_rows
            )
        _sort_heap(heap_scores, heap_rows, size, k)
        filled[q] = size
    return top_rows, top_scores, filled
