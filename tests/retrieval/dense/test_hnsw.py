"""The graph finds what flat finds, is mapped beside the embeddings, and says what memory it needs to be built."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.dense.embeddings import EMBEDDINGS_FILE, Parts, Precision, open_embeddings
from retrieval.dense.hnsw import GRAPH_FILE, HnswBuilder, HnswSettings, HnswVectors
from retrieval.manifest import IndexCorruptError
from tests.retrieval.dense.merging import brute_force, recall, work_over


def built(folder: Path, vectors: NDArray[np.float32], precision: Precision = "float32", **settings: int) -> None:
    work = work_over(folder, vectors, precision=precision)
    parts = Parts(work)
    parts.join(folder / EMBEDDINGS_FILE)
    HnswBuilder(HnswSettings(**settings)).write_index(work, parts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, vectors: NDArray[np.float32]) -> Path:
    folder = tmp_path_factory.mktemp("hnsw")
    built(folder, vectors)
    return folder


def opened(folder: Path, ef_search: int = 64) -> HnswVectors:
    return HnswVectors(folder / GRAPH_FILE, open_embeddings(folder), ef_search)


def test_the_graph_finds_what_brute_force_finds_with_exact_scores(
    folder: Path, vectors: NDArray[np.float32], queries: NDArray[np.float32]
) -> None:
    found = opened(folder).nearest(queries, 10)
    assert recall(found, brute_force(vectors, queries, 10)) > 0.99
    for (rows, scores), query in zip(found, queries, strict=True):
        np.testing.assert_allclose(scores, vectors[rows] @ query, atol=1e-6)
        assert (np.diff(scores) <= 0).all()


def test_more_candidates_find_more(folder: Path, vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> None:
    expected = brute_force(vectors, queries, 1)
    few, many = (recall(opened(folder, ef).nearest(queries, 1), expected) for ef in (1, 500))
    assert many == 1 and few <= many


@pytest.mark.parametrize("k", [1, 500, 3000])
def test_it_gives_k_rows_though_the_graph_may_end_before(
    folder: Path, vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int
) -> None:
    found = opened(folder, ef_search=1).nearest(queries[:5], k)
    assert all(len(rows) == len(set(rows.tolist())) == k for rows, _ in found)


def test_a_graph_over_halves(tmp_path: Path, vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> None:
    built(tmp_path, vectors, precision="float16")
    assert recall(opened(tmp_path).nearest(queries, 10), brute_force(vectors, queries, 10)) > 0.97


def test_the_vectors_are_stored_once(folder: Path, vectors: NDArray[np.float32]) -> None:
    assert not opened(folder)._index.hnsw.neighbors.is_owned, "the graph is mapped, not read"
    assert (folder / GRAPH_FILE).stat().st_size < len(vectors) * HnswBuilder(HnswSettings())._graph_bytes() * 1.1


def test_a_graph_that_is_built_again_finds_as_much(
    folder: Path, tmp_path: Path, vectors: NDArray[np.float32], queries: NDArray[np.float32]
) -> None:
    built(tmp_path, vectors)
    expected = brute_force(vectors, queries, 10)
    first, again = (recall(opened(one, 32).nearest(queries, 10), expected) for one in (folder, tmp_path))
    assert abs(first - again) <= 0.005


def test_too_little_memory_is_told_before_the_graph_is_begun(tmp_path: Path, vectors: NDArray[np.float32]) -> None:
    work = work_over(tmp_path, vectors, ram_bytes=1_000_000)
    with pytest.raises(ValueError, match=r"--ram-gb 0.001 has no room for a graph over 3,000 vectors.*use .* ivf_sq8"):
        HnswBuilder(HnswSettings()).write_index(work, Parts(work))


def test_a_graph_over_other_embeddings_or_cut_short_is_refused(
    folder: Path, tmp_path: Path, vectors: NDArray[np.float32]
) -> None:
    with pytest.raises(IndexCorruptError, match=r"a graph over 3000 vectors of 24 numbers, the emb.* are \(9, 24\)"):
        HnswVectors(folder / GRAPH_FILE, vectors[:9], 64)
    (tmp_path / GRAPH_FILE).write_bytes((folder / GRAPH_FILE).read_bytes()[:5000])
    with pytest.raises(IndexCorruptError, match="cannot be read"):
        HnswVectors(tmp_path / GRAPH_FILE, vectors, 64)
