"""Exact scores of candidate rows, and the order that every dense backend gives: best first, equal scores by row.

A library's matrix product rounds differently from one batch size or thread to the next, so the same pair would not
always have the same score and equal passages not always equal ones. The rows that a search has found are therefore
scored once more, each by itself: a score depends on the query and the passage alone.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from retrieval.dense.embeddings import Embeddings

Ranked = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Rows and scores of one query, best first, equal scores by row."""

CandidateSearch = Callable[[NDArray[np.float32], int], NDArray[np.int64]]
"""From queries `[num_queries, dimension]` and a number of rows to rows `[num_queries, number]`, -1 for none."""

MARGIN = 16
"""Rows looked at beyond those asked for, since rounding can swap neighbours."""


def ranked_exactly(vector: NDArray[np.float32], rows: NDArray[np.int64], embeddings: Embeddings, k: int) -> Ranked:
    """The best `k` of `rows` (-1 is no row) by inner product with `vector`, `[dimension]`."""
    rows = np.unique(rows[rows >= 0])
    scores = (embeddings[rows].astype(np.float32) * vector).sum(axis=1, dtype=np.float32)
    return in_order(rows, scores, k)


def in_order(rows: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> Ranked:
    """The best `k` rows, best first, equal scores by row."""
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]


def best_of_candidates(
    vectors: NDArray[np.float32], k: int, search: CandidateSearch, embeddings: Embeddings, depth: int
) -> list[Ranked]:
    """The best `k` of the `depth` rows that `search` finds for each query, `depth` at least `k`."""
    found = search(vectors, min(depth, len(embeddings)))
    return [ranked_exactly(vector, rows, embeddings, k) for vector, rows in zip(vectors, found, strict=True)]


def best_rows(vectors: NDArray[np.float32], k: int, search: CandidateSearch, embeddings: Embeddings) -> list[Ranked]:
    """The best `k` rows of each query where `search` is exact but for rounding.

    Where the last row looked at scores as much as the last one given, there may be more of that score, with lower row
    numbers: those queries look further.
    """
    ranked: list[Ranked] = [_NOTHING] * len(vectors)
    waiting: Sequence[int] = range(len(vectors))
    depth = k + MARGIN
    while len(waiting):
        depth = min(depth, len(embeddings))
        looked = best_of_candidates(vectors[list(waiting)], depth, search, embeddings, depth)
        undecided = []
        for i, (rows, scores) in zip(waiting, looked, strict=True):
            if depth < len(embeddings) and scores[k - 1] == scores[-1]:
                undecided.append(i)
            ranked[i] = (rows[:k], scores[:k])
        waiting, depth = undecided, depth * 8
    return ranked


_NOTHING: Ranked = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
