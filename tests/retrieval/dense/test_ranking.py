"""Exact scores and one order for all dense backends: a score depends on query and passage alone, ties go by row."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.dense.flat import FlatVectors
from retrieval.dense.ranking import best_rows, ranked_exactly
from tests.retrieval.dense.conftest import clustered


def test_rows_that_were_not_found_do_not_count() -> None:
    vectors = np.eye(4, dtype=np.float32)
    queries = np.array([[1, 3, 2, 0], [-1, -2, -3, -4]], np.float32)
    found = np.array([[2, -1, 1, -1, 3], [-1, 3, -1, -1, -1]])
    [(rows, scores), (few, few_scores)] = ranked_exactly(queries, found, vectors, 2)
    assert rows.tolist() == [1, 2] and scores.tolist() == [3.0, 2.0]
    assert few.tolist() == [3] and few_scores.tolist() == [-4.0]


def test_a_score_does_not_depend_on_the_batch_nor_on_where_the_passage_stands() -> None:
    vectors = clustered(500, 384, seed=3)
    vectors[[17, 230, 499]] = vectors[3]
    queries = clustered(40, 384, seed=4)
    search = FlatVectors(vectors)
    together = search.nearest(queries, 500)
    for query, (rows, scores) in zip(queries, together, strict=True):
        [(rows_alone, scores_alone)] = search.nearest(query[None], 500)
        assert (rows == rows_alone).all() and (scores == scores_alone).all()
        copies = np.flatnonzero(np.isin(rows, [3, 17, 230, 499]))
        assert rows[copies].tolist() == [3, 17, 230, 499] and len(set(scores[copies].tolist())) == 1


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_ties_far_beyond_the_margin_still_go_by_row(data: st.DataObject) -> None:
    """Vectors with few different values tie in hundreds; the search behind is free to break ties as it likes."""
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    vectors = rng.integers(-1, 2, size=(data.draw(st.integers(1, 400)), 2)).astype(np.float32)
    queries = rng.integers(-2, 3, size=(3, 2)).astype(np.float32)
    k = data.draw(st.integers(1, len(vectors)))

    def search(wanted: np.ndarray, depth: int) -> np.ndarray:
        scores = wanted @ vectors.T
        return np.stack([np.lexsort((rng.permutation(len(vectors)), -row))[:depth] for row in scores])

    expected = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]
    assert [rows.tolist() for rows, _ in best_rows(queries, k, search, vectors)] == expected.tolist()
