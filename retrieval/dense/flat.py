"""Exact search over the mapped embeddings with FAISS's kernels: no index file, and no copy of the matrix.

`faiss.knn` reads the vectors where they are mapped, so processes that search the same folder share one copy of it in
the page cache. Embeddings in half precision are widened a block at a time. With `gpu` the matrix is copied to the GPU,
where the installed faiss has one.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.dense.building import (
    ENCODER_LIBRARIES,
    ENCODING,
    OPEN_SETTINGS,
    DenseBuilder,
    DenseSettings,
    ray_resources,
)
from retrieval.dense.embeddings import Embeddings, open_embeddings
from retrieval.dense.faiss_library import faiss_distribution, import_faiss
from retrieval.dense.gpu import GpuSearch, flat_on_gpu
from retrieval.dense.ranking import Ranked, best_rows
from retrieval.dense.searching import DenseSearcher, open_encoder
from retrieval.passage import Passage
from retrieval.searcher import Backend

_BLOCK_NUMBERS = 1 << 25
"""Half-precision numbers widened at once: 128 MiB."""


class FlatSettings(DenseSettings):
    """Settings of the `flat` backend."""

    gpu: bool = False
    """Search on a GPU, which holds the whole matrix; needs a faiss built for GPUs."""


class FlatVectors:
    """Exact nearest rows by inner product. Thread-safe.

    Args:
        embeddings: `[num_passages, dimension]`, mapped or in memory.
        gpu: copy them to the GPU and search there.
    """

    def __init__(self, embeddings: Embeddings, *, gpu: bool = False) -> None:
        self._faiss = import_faiss()
        self._embeddings = embeddings
        self.num_rows, self.dimension = embeddings.shape
        self._gpu: GpuSearch | None = flat_on_gpu(embeddings) if gpu else None

    def nearest(self, vectors: NDArray[np.float32], k: int) -> list[Ranked]:
        """The best `k` rows of each of `vectors`, `[num_queries, dimension]`, best first, equal scores by row."""
        search = self.candidates if self._gpu is None else self._gpu.candidates
        return best_rows(vectors, k, search, self._embeddings)

    def candidates(self, vectors: NDArray[np.float32], depth: int) -> NDArray[np.int64]:
        """The `depth` rows with the largest inner products, `[num_queries, depth]`, as FAISS rounds them."""
        metric = self._faiss.METRIC_INNER_PRODUCT
        if self._embeddings.dtype == np.float32:
            rows: NDArray[np.int64] = self._faiss.knn(vectors, self._embeddings, depth, metric=metric)[1]
            return rows
        step = max(1, _BLOCK_NUMBERS // self.dimension)
        best_scores = np.empty((len(vectors), 0), dtype=np.float32)
        best = np.empty((len(vectors), 0), dtype=np.int64)
        for first in range(0, len(self._embeddings), step):
            block = self._embeddings[first : first + step].astype(np.float32)
            scores, found = self._faiss.knn(vectors, block, min(depth, len(block)), metric=metric)
            best_scores = np.concatenate([best_scores, scores], axis=1)
            best = np.concatenate([best, found + first], axis=1)
            order = np.argsort(-best_scores, axis=1, kind="stable")[:, :depth]
            best_scores = np.take_along_axis(best_scores, order, axis=1)
            best = np.take_along_axis(best, order, axis=1)
        return best


def _open(folder: Path, settings: FlatSettings, passages: Iterable[Passage]) -> DenseSearcher:
    encoder = open_encoder(folder, settings.encoder, passages)
    return DenseSearcher(encoder, FlatVectors(open_embeddings(folder), gpu=settings.gpu))


FLAT = Backend(
    name="flat",
    settings=FlatSettings,
    libraries=(*ENCODER_LIBRARIES, faiss_distribution()),
    builder=DenseBuilder,
    open=_open,
    extra="dense",
    resources=ray_resources,
    shard_stage=ENCODING,
    open_settings=OPEN_SETTINGS | {"gpu"},
)
