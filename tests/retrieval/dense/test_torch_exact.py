"""The torch backend gives what flat gives, whatever the chunks; half precision finds nearly the same."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from retrieval.dense.flat import FlatVectors
from retrieval.dense.torch_exact import TorchVectors, top_of
from tests.retrieval.dense.merging import brute_force, recall


@pytest.mark.parametrize("chunk", [None, 1, 7, 640, 2999, 5000])
def test_torch_is_flat(vectors: NDArray[np.float32], queries: NDArray[np.float32], chunk: int | None) -> None:
    queries = queries[:10]
    found = TorchVectors(vectors, device="cpu", chunk_passages=chunk).nearest(queries, 10)
    for (rows, scores), (flat_rows, flat_scores) in zip(found, FlatVectors(vectors).nearest(queries, 10), strict=True):
        assert (rows == flat_rows).all() and (scores == flat_scores).all()


@pytest.mark.parametrize("k", [1, 300, 3000])
def test_at_every_depth(vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int) -> None:
    found = TorchVectors(vectors, device="cpu").nearest(queries, k)
    assert recall(found, brute_force(vectors, queries, k)) == 1 and all(len(rows) == k for rows, _ in found)


def test_half_precision_finds_nearly_the_same(vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> None:
    expected = brute_force(vectors, queries, 10)
    half = vectors.astype(np.float16)
    assert recall(TorchVectors(half, device="cpu").nearest(queries, 10), brute_force(half, queries, 10)) == 1
    for stored in (vectors, half):
        found = TorchVectors(stored, device="cpu", dtype="float16").nearest(queries, 10)
        assert recall(found, expected) >= 0.98
        for (rows, scores), query in zip(found, queries, strict=True):
            np.testing.assert_allclose(scores, vectors[rows] @ query, atol=1e-3)


def test_a_matrix_that_lies_on_its_device_is_searched_where_it_is(
    vectors: NDArray[np.float32], queries: NDArray[np.float32]
) -> None:
    """The path of a GPU: candidates are scored on the device."""
    for stored, least in ((torch.from_numpy(vectors), 1.0), (torch.from_numpy(vectors).half(), 0.98)):
        found = TorchVectors(stored, dtype="float16" if least < 1 else None).nearest(queries, 10)
        assert recall(found, brute_force(vectors, queries, 10)) >= least
        assert all((np.diff(scores) <= 0).all() for _, scores in found)


@given(st.integers(1, 30), st.integers(1, 9000), st.integers(0, 1 << 30))
@settings(max_examples=60, deadline=None)
def test_the_top_of_groups_is_the_top(k: int, num_scores: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-500, 500, (3, num_scores), generator=generator).float()
    k = min(k, num_scores)
    values, places = top_of(scores, k)
    assert (torch.gather(scores, 1, places) == values).all()
    assert all(len(set(row.tolist())) == k for row in places)
    assert (values.sort(dim=1, descending=True).values == scores.topk(k, dim=1).values).all()


def test_a_device_that_is_not_there_is_refused(vectors: NDArray[np.float32]) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device is cuda:1, and torch sees no CUDA GPU here; set device=cpu"):
            TorchVectors(vectors, device="cuda:1")
    with pytest.raises(ValueError, match="device is 'gpu'; give cpu, cuda or cuda:N"):
        TorchVectors(vectors, device="gpu")
