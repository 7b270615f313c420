"""FAISS on a GPU, where the installed faiss has it: the CPU wheel says so in one sentence."""

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.dense.embeddings import Embeddings
from retrieval.dense.faiss_library import import_faiss

_ROWS_A_COPY = 1 << 18


class GpuSearch:
    """A FAISS index on a GPU. One search at a time: its buffers are shared."""

    def __init__(self, index: Any, resources: Any) -> None:
        self._index = index
        self._resources = resources  # the index keeps only a pointer to them
        self._lock = threading.Lock()

    def search(self, vectors: NDArray[np.float32], depth: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and rows of the `depth` best rows of each query, `[num_queries, depth]`, row -1 for none."""
        with self._lock:
            scores, rows = self._index.search(vectors, depth)
        return scores, rows

    def candidates(self, vectors: NDArray[np.float32], depth: int) -> NDArray[np.int64]:
        """The rows alone."""
        return self.search(vectors, depth)[1]


def flat_on_gpu(embeddings: Embeddings) -> GpuSearch:
    """All embeddings on the first GPU, in their own precision.

    Raises:
        ValueError: this faiss has no GPU support, or there is no GPU.
    """
    faiss = import_faiss()
    resources = gpu_resources()
    config = faiss.GpuIndexFlatConfig()
    config.useFloat16 = embeddings.dtype == np.float16
    index = faiss.GpuIndexFlatIP(resources, embeddings.shape[1], config)
    for first in range(0, len(embeddings), _ROWS_A_COPY):
        index.add(np.ascontiguousarray(embeddings[first : first + _ROWS_A_COPY], dtype=np.float32))
    return GpuSearch(index, resources)


def ivf_on_gpu(index: Any) -> GpuSearch:
    """A copy of an inverted-file index on the first GPU, with its `nprobe`.

    Raises:
        ValueError: this faiss has no GPU support, or there is no GPU.
    """
    faiss = import_faiss()
    resources = gpu_resources()
    return GpuSearch(faiss.index_cpu_to_gpu(resources, 0, index), resources)


def gpu_resources() -> Any:
    """FAISS's GPU resources.

    Raises:
        ValueError: this faiss has no GPU support, or there is no GPU.
    """
    faiss = import_faiss()
    if not hasattr(faiss, "StandardGpuResources"):
        raise ValueError(
            f"gpu is true, and the installed faiss {faiss.__version__} is built for CPUs; install "
            "'waymark[faiss-gpu]' in place of faiss-cpu, or use the backend torch_exact with device=cuda, which needs "
            "no faiss"
        )
    if faiss.get_num_gpus() == 0:
        raise ValueError("gpu is true, and faiss sees no GPU here; leave gpu out to search on the CPU")
    return faiss.StandardGpuResources()
