"""Merging given vectors without an encoder, and what the result should be."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.build.work import BuildWork, Marks
from retrieval.dense.embeddings import Precision, write_part
from retrieval.dense.ranking import Ranked
from retrieval.searcher import Progress, Shard


def work_over(
    folder: Path,
    vectors: NDArray[np.float32],
    *,
    shard_size: int = 500,
    precision: Precision = "float32",
    ram_bytes: int | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> BuildWork:
    """A build whose shards have been encoded: their parts are on disk, nothing is merged."""
    parts = folder / ".build" / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    shards = [
        Shard(number=number, first=first, count=min(shard_size, len(vectors) - first))
        for number, first in enumerate(range(0, len(vectors), shard_size))
    ]
    work = BuildWork(
        folder=folder,
        parts=parts,
        shards=shards,
        num_passages=len(vectors),
        ram_bytes=ram_bytes,
        progress=progress,
        marks=Marks(folder / ".build" / "marks"),
    )
    for shard in shards:
        write_part(work.part(shard), vectors[shard.first : shard.first + shard.count], precision)
    return work


def brute_force(vectors: NDArray[np.floating], queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The best `k` rows of each query by inner product in double precision, equal scores by row, `[num_queries, k]`."""
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def recall(found: list[Ranked], expected: NDArray[np.int64]) -> float:
    """Share of the expected rows that were found."""
    hits = [len(np.intersect1d(rows, best)) for (rows, _), best in zip(found, expected, strict=True)]
    return float(np.mean(hits)) / expected.shape[1]


class Stopped(BaseException):
    """Raised out of a progress report, where a kill might have come."""


class StopAt:
    """A progress report that breaks the build off at its n-th report of a stage."""

    def __init__(self, stage: str, report: int = 1) -> None:
        self._stage = stage
        self._left = report

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if stage == self._stage:
            self._left -= 1
            if self._left == 0:
                raise Stopped(stage)
