"""The compiled search against adding up every posting with numpy, where common words make many postings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from retrieval.sparse.ranking import _best_by_passing_over, best_rows

NUM_ROWS = 4000
COMMON = 9
"""Terms that nearly every row has, after the rare ones."""


class Columns:
    """Postings of rare terms of any number of rows, and of common terms; scores are drawn from few values or many."""

    def __init__(self, seed: int, rare: list[int], common_score: float, values: int) -> None:
        rng = np.random.default_rng(seed)
        sizes = [*rare, *rng.integers(NUM_ROWS // 2, NUM_ROWS + 1, size=COMMON)]
        rows = [np.sort(rng.choice(NUM_ROWS, size=size, replace=False)) for size in sizes]
        tops = [*(1 + rng.random(len(rare)) * 8), *rng.random(COMMON) * common_score]
        scores = [top * rng.integers(0, values + 1, size=size) / values for top, size in zip(tops, sizes, strict=True)]
        self.rows = np.concatenate(rows).astype(np.uint32)
        self.scores = np.concatenate(scores).astype(np.float32)
        self.starts = np.cumsum([0, *sizes], dtype=np.int64)
        self.peaks = np.zeros(len(sizes), dtype=np.float32)
        self.total = np.zeros(NUM_ROWS, dtype=np.float32)
        self.touched = np.zeros(NUM_ROWS, dtype=np.int32)

    def by_numpy(self, terms: list[int], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        total = np.zeros(NUM_ROWS, dtype=np.float32)
        for term in terms:
            postings = slice(self.starts[term], self.starts[term + 1])
            total[self.rows[postings]] += self.scores[postings]
        order = np.lexsort((np.arange(NUM_ROWS), -total))[:k]
        order = order[total[order] > 0]
        return order, total[order]

    def by_kernel(self, queries: list[list[int]], k: int) -> list[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        terms = np.asarray([term for query in queries for term in query], dtype=np.int32)
        ends = np.cumsum([len(query) for query in queries], dtype=np.int64)
        rows, scores, filled = best_rows(
            terms, ends, k, self.scores, self.rows, self.starts, self.peaks, self.total, self.touched
        )
        return [(rows[q, :size], scores[q, :size]) for q, size in enumerate(filled)]

    def passes_over(self, terms: list[int], k: int) -> bool:
        numbers = np.asarray(terms, dtype=np.int32)
        postings = int((self.starts[numbers + 1] - self.starts[numbers]).sum())
        heap = np.zeros(k, np.float32), np.zeros(k, np.int32)
        return _best_by_passing_over(
            numbers, postings, k, self.scores, self.rows, self.starts, self.peaks, self.total, self.touched, *heap
        )


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    rare=st.lists(st.integers(0, 600), max_size=4),
    common_score=st.sampled_from([0.0, 0.01, 0.3, 3.0]),
    values=st.sampled_from([1, 3, 10**6]),
    k=st.sampled_from([1, 2, 5, 10, 40]),
    data=st.data(),
)
def test_every_query_gets_what_adding_up_and_sorting_gives(
    seed: int, rare: list[int], common_score: float, values: int, k: int, data: st.DataObject
) -> None:
    columns = Columns(seed, rare, common_score, values)
    several = st.lists(st.integers(0, len(rare) + COMMON - 1), max_size=3)
    queries = []
    for _ in range(3):
        queries.append(data.draw(st.permutations([*range(len(rare) + COMMON), *data.draw(several)])))
        queries.append(data.draw(several))
    for query, (rows, scores) in zip(queries, columns.by_kernel(queries, k), strict=True):
        expected_rows, expected_scores = columns.by_numpy(query, k)
        np.testing.assert_array_equal(rows, expected_rows)
        np.testing.assert_array_equal(scores, expected_scores)
    assert not columns.total.any(), "scratch is left as it was found"


@pytest.mark.parametrize("values", [9, 10**6])
def test_common_words_are_passed_over_where_rare_ones_decide(values: int) -> None:
    columns = Columns(0, [4, 40, 400], 0.01, values)
    query = [5, 1, 6, 7, 0, 8, 9, 2, 10, 3, 11, 4]
    assert columns.passes_over(query, 2)
    assert not columns.total.any()
    assert not columns.passes_over(query, 300), "no more rows than the rare words have"
    assert not Columns(0, [4, 40, 400], 20.0, values).passes_over(query, 2), "the common words decide"
