"""Exact scores of candidate rows, and the order that every dense backend gives: best first, equal scores by row.

A library's matrix product rounds differently from one batch size or thread to the next, so the same pair would not
always have the same score and equal passages not always equal ones. The rows that a search has found are therefore
scored once more, each by itself: a score depends on the two vectors alone. The vector of a query still differs by a few
1e-8 between batches, since the encoder's own products round with the number and length of the texts beside it; so two
passages whose scores lie closer than 1e-6 may change places from one batch to the next.
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


def ranked_exactly(
    vectors: NDArray[np.float32], rows: NDArray[np.int64], embeddings: Embeddings, k: int
) -> list[Ranked]:
    """The best `k` of the rows that were found for each of `vectors`, by inner product.

    Args:
        vectors: `[num_queries, dimension]`.
        rows: `[num_queries, depth]`, each at most once for a query; -1 is no row.
        embeddings: `[num_passages, dimension]`.
        k: how many to give, fewer where fewer were found.
    """
    ranked: list[Ranked] = []
    step = max(1, _NUMBERS_AT_ONCE // max(1, rows.shape[1] * vectors.shape[1]))
    for first in range(0, len(vectors), step):
        found = rows[first : first + step]
        products = embeddings[np.maximum(found, 0)].astype(np.float32, copy=False)
        products *= vectors[first : first + step, None, :]
        # numpy adds the numbers of each row up by themselves: BLAS would let a row's place decide the rounding
        scores = np.where(found >= 0, products.sum(axis=2), -np.inf)
        order = np.lexsort((found, -scores), axis=1)[:, :k]
        counts = np.minimum((found >= 0).sum(axis=1), k)
        best, best_scores = np.take_along_axis(found, order, axis=1), np.take_along_axis(scores, order, axis=1)
        ranked += [(best[i, :count], best_scores[i, :count]) for i, count in enumerate(counts.tolist())]
    return ranked


def in_order(rows: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> Ranked:
    """The best `k` rows, best first, equal scores by row."""
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]


def best_of_candidates(
    vectors: NDArray[np.float32], k: int, search: CandidateSearch, embeddings: Embeddings, depth: int
) -> list[Ranked]:
    """The best `k` of the `depth` rows that `search` finds for each query, `depth` at least `k`."""
    return ranked_exactly(vectors, search(vectors, min(depth, len(embeddings))), embeddings, k)


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


_NUMBERS_AT_ONCE = 1 << 22
_NOTHING: Ranked = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
