"""The coarse lists of an inverted-file index, and its codes, learned from a sample that the seed alone decides."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.build.durable import flush
from retrieval.build.memory import check_room
from retrieval.build.work import BuildWork
from retrieval.dense.embeddings import Parts
from retrieval.dense.faiss_library import import_faiss

POINTS_A_LIST = 8
"""FAISS advises 39; on small corpora more lists of fewer vectors find more in the same time."""

_SAMPLE_COPIES = 3
"""The sample, its residuals, and what k-means works with."""


def most_lists(num_passages: int) -> int:
    """How many lists can be learned from so many passages."""
    return max(1, num_passages // POINTS_A_LIST)


def number_of_lists(num_passages: int, wanted: int | None) -> int:
    """How many lists: what was asked for, else 4 times the root of the corpus and at most an eighth of it.

    Raises:
        ValueError: more were asked for than can be learned from so many passages.
    """
    most = most_lists(num_passages)
    if wanted is not None and wanted > most:
        raise ValueError(
            f"lists is {wanted:,}, and a corpus of {num_passages:,} passages has enough for {most:,} lists "
            f"({POINTS_A_LIST} passages each); give at most {most}, or leave lists out"
        )
    return wanted or min(most, max(1, round(4 * math.sqrt(num_passages))))


def training_rows(num_passages: int, num_lists: int, points_a_list: int, least: int, seed: int) -> np.ndarray:
    """The rows to learn from, in rising order: `points_a_list` for each list, `least` if that is more."""
    size = min(num_passages, max(num_lists * points_a_list, least))
    rows = np.random.default_rng(seed).choice(num_passages, size=size, replace=False, shuffle=False)
    return np.sort(rows)


def trained_index(index: Any, work: BuildWork, parts: Parts, rows: np.ndarray, *, seed: int, cosine: bool) -> Any:
    """Train an empty index on the embeddings of `rows`; an earlier call's result is read from disk.

    Raises:
        ValueError: `work.ram_bytes` has no room for the sample.
    """
    faiss = import_faiss()
    path = work.parts / "ivf-trained.faiss"
    if not work.done("trained"):
        check_room(
            work.ram_bytes,
            sample_bytes(len(rows), parts.dimension),
            "the training sample",
            advice=", or begin one with fewer train_vectors_per_list",
        )
        work.progress("training lists", 0, len(rows))
        index.cp.seed = seed
        index.cp.spherical = cosine
        index.cp.min_points_per_centroid = 1  # the number of lists has been chosen for the corpus
        index.cp.max_points_per_centroid = len(rows)  # the sample is the sample
        if hasattr(index, "pq"):
            index.pq.cp.seed = seed
            index.pq.cp.min_points_per_centroid = 1
        sample = parts.rows(rows)
        index.train(sample)
        del sample
        work.progress("training lists", len(rows), len(rows))
        faiss.write_index(index, str(path))
        flush(path)
        work.mark("trained")
    return read_trained(path)


def read_trained(path: Path) -> Any:
    """A trained, empty index from disk."""
    return import_faiss().read_index(str(path))


def sample_bytes(num_rows: int, dimension: int) -> int:
    """Memory of the training."""
    return _SAMPLE_COPIES * 4 * num_rows * dimension
