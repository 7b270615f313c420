"""The flat backend is numpy's brute force, in both precisions, without a copy of the matrix."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.dense.embeddings import EMBEDDINGS_FILE, Parts, open_embeddings
from retrieval.dense.flat import FlatVectors
from retrieval.manifest import IndexCorruptError
from tests.retrieval.dense.merging import brute_force, recall, work_over


@pytest.mark.parametrize("k", [1, 10, 250, 3000])
def test_flat_is_brute_force(vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int) -> None:
    found = FlatVectors(vectors).nearest(queries, k)
    assert recall(found, brute_force(vectors, queries, k)) == 1
    for (rows, scores), query in zip(found, queries, strict=True):
        assert len(rows) == k and (np.diff(scores) <= 0).all()
        np.testing.assert_allclose(scores, vectors[rows] @ query, atol=1e-6)


def test_half_precision_is_brute_force_over_what_was_kept(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.dense.flat._BLOCK_NUMBERS", 24 * 700)  # four blocks and a rest
    half = vectors.astype(np.float16)
    assert recall(FlatVectors(half).nearest(queries, 10), brute_force(half, queries, 10)) == 1
    assert recall(FlatVectors(half).nearest(queries, 10), brute_force(vectors, queries, 10)) > 0.97


def test_many_equal_passages_come_in_corpus_order(queries: NDArray[np.float32]) -> None:
    vectors = np.concatenate([-queries[:1], np.repeat(queries[:1], 700, axis=0)])
    [(rows, scores)] = FlatVectors(vectors).nearest(queries[:1], 300)
    assert rows.tolist() == list(range(1, 301)) and len(set(scores.tolist())) == 1


def test_no_queries(vectors: NDArray[np.float32]) -> None:
    assert FlatVectors(vectors).nearest(np.empty((0, 24), np.float32), 3) == []


def test_searching_a_mapped_matrix_takes_no_memory_of_its_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / EMBEDDINGS_FILE, rng.standard_normal((300_000, 64), dtype=np.float32))
    before = anonymous_bytes()
    search = FlatVectors(open_embeddings(tmp_path))
    search.nearest(rng.standard_normal((64, 64), dtype=np.float32), 10)
    assert anonymous_bytes() - before < 30e6, "77 MB of vectors must stay in the page cache, for all processes"


def anonymous_bytes() -> int:
    """Memory of this process that is its own, not a file's."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


def test_parts_join_to_one_matrix(tmp_path: Path, vectors: NDArray[np.float32]) -> None:
    parts = Parts(work_over(tmp_path, vectors, shard_size=700))
    parts.join(tmp_path / EMBEDDINGS_FILE)
    assert (open_embeddings(tmp_path) == vectors).all()
    wanted = np.array([0, 5, 699, 700, 1400, 2999])
    assert (parts.rows(wanted) == vectors[wanted]).all()
    np.save(tmp_path / "as-numpy.npy", vectors)
    assert (tmp_path / EMBEDDINGS_FILE).read_bytes() == (tmp_path / "as-numpy.npy").read_bytes()


def test_parts_of_two_encoders_are_refused(tmp_path: Path, vectors: NDArray[np.float32]) -> None:
    work = work_over(tmp_path, vectors)
    np.save(tmp_path / "other.npy", np.zeros((500, 48), np.float32))
    (tmp_path / "other.npy").rename(work.part(work.shards[2]))
    with pytest.raises(ValueError, match=r"different dimensions .*encoder was changed while the build was broken off"):
        Parts(work)
    np.save(tmp_path / "other.npy", vectors[:499])
    (tmp_path / "other.npy").rename(work.part(work.shards[2]))
    with pytest.raises(ValueError, match=r"shard 2 have shape \(499, 24\), for 500 passages"):
        Parts(work)


def test_what_is_not_finite_is_never_written(tmp_path: Path) -> None:
    bad = np.ones((3, 4), np.float32)
    bad[1, 2] = np.nan
    with pytest.raises(ValueError, match="the embedding of passage 1 of its shard holds NaN or infinity"):
        work_over(tmp_path, bad)
    with pytest.raises(ValueError, match="does not fit into float16"):
        work_over(tmp_path, np.full((3, 4), 1e6, np.float32), precision="float16")


def test_a_file_that_is_no_matrix_is_told_at_open(tmp_path: Path) -> None:
    with pytest.raises(IndexCorruptError, match="cannot be read as embeddings"):
        open_embeddings(tmp_path)
    np.save(tmp_path / EMBEDDINGS_FILE, np.zeros(5, np.int32))
    with pytest.raises(IndexCorruptError, match=r"holds int32 of shape \(5,\)"):
        open_embeddings(tmp_path)
    (tmp_path / EMBEDDINGS_FILE).write_bytes(b"\x80\x04K\x01.")  # a pickle
    with pytest.raises(IndexCorruptError, match="cannot be read as embeddings"):
        open_embeddings(tmp_path)


def test_a_gpu_that_this_faiss_lacks_is_told_in_one_sentence(vectors: NDArray[np.float32]) -> None:
    import faiss

    if not hasattr(faiss, "StandardGpuResources"):
        with pytest.raises(ValueError, match=r"faiss .* is built for CPUs; install 'waymark\[faiss-gpu\]'.*torch"):
            FlatVectors(vectors, gpu=True)
