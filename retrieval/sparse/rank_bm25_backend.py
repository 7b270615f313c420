"""Okapi BM25 by rank_bm25: the readable reference behind the same interface, for small corpora.

rank_bm25 keeps its index in Python dicts, so there is nothing to map: the folder holds the passages and the settings,
and opening counts the terms again (about a second for 10,000 passages, which then stay in memory).
"""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from rank_bm25 import BM25Okapi

from retrieval.analyzer import Analyzer, AnalyzerSettings, no_terms
from retrieval.build.memory import in_words
from retrieval.build.work import BuildWork
from retrieval.passage import Passage
from retrieval.searcher import Backend, Estimate

_BYTES_PER_TERM = 100


class OkapiSettings(BaseModel):
    """Settings of the `rank_bm25` backend; the defaults are rank_bm25's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k1: float = Field(default=1.5, ge=0, allow_inf_nan=False)
    """How slowly repeats of a term saturate."""
    b: float = Field(default=0.75, ge=0, le=1)
    """How much long passages are discounted: 0 not at all, 1 fully."""
    epsilon: float = Field(default=0.25, ge=0, allow_inf_nan=False)
    """Terms in more than half of the passages, whose IDF would be negative, get this share of the mean IDF."""
    analyzer: AnalyzerSettings = AnalyzerSettings()
    """How passages and queries are cut into terms."""


class OkapiBuilder:
    """Checks that there is something to search for; rank_bm25 needs no file of its own."""

    def __init__(self, settings: OkapiSettings) -> None:
        self._analyzer = Analyzer(settings.analyzer)

    def shard_size(self) -> int:
        """16,384 passages."""
        return 1 << 14

    def build_part(self, texts: Sequence[str], path: Path) -> None:
        """Write how many terms the texts have."""
        path.write_text(str(sum(len(self._analyzer.terms(text)) for text in texts)), encoding="ascii")

    def merge(self, work: BuildWork) -> None:
        """Write nothing.

        Raises:
            ValueError: no passage has a single term.
        """
        if not any(int(work.part(shard).read_text(encoding="ascii")) for shard in work.shards):
            raise ValueError(no_terms())

    def estimate(self, sample: Sequence[str], num_passages: int, ram_bytes: int | None) -> Estimate:
        """The time to cut the texts; the memory, about 100 bytes a term, is what opening the index takes too."""
        started = time.perf_counter()
        num_terms = sum(len(self._analyzer.terms(text)) for text in sample)
        scale = num_passages / len(sample)
        return Estimate(
            ram_bytes=0,
            disk_bytes=0,
            peak_disk_bytes=0,
            shard_seconds=(time.perf_counter() - started) * scale,
            merge_seconds=0.0,
            details={"memory when opened": f"about {in_words(num_terms * scale * _BYTES_PER_TERM)}"},
        )


class OkapiSearcher:
    """Searches with rank_bm25's own scores. Thread-safe: nothing changes after the constructor."""

    def __init__(self, settings: OkapiSettings, passages: Iterable[Passage]) -> None:
        self._analyzer = Analyzer(settings.analyzer)
        tokens = (self._analyzer.terms(passage.contents) for passage in passages)
        self.okapi = BM25Okapi(tokens, k1=settings.k1, b=settings.b, epsilon=settings.epsilon)

    @property
    def num_rows(self) -> int:
        """Passages that have been counted."""
        return int(self.okapi.corpus_size)

    def top_rows(self, queries: Sequence[str], k: int) -> list[tuple[NDArray[np.int32], NDArray[np.floating]]]:
        """For each query the best rows and their scores, `[at most k]` each: positive scores only, best first, equal
        scores by row.
        """
        return [self._top(self._analyzer.terms(query), k) for query in queries]

    def _top(self, terms: list[str], k: int) -> tuple[NDArray[np.int32], NDArray[np.floating]]:
        scores = self.okapi.get_scores(terms)
        best = np.argsort(-scores, kind="stable")[:k]
        best = best[scores[best] > 0]
        return best.astype(np.int32), scores[best]


def _open(folder: Path, settings: OkapiSettings, passages: Iterable[Passage]) -> OkapiSearcher:
    return OkapiSearcher(settings, passages)


RANK_BM25 = Backend(
    name="rank_bm25",
    settings=OkapiSettings,
    libraries=("rank-bm25", "numpy", "PyStemmer"),
    builder=OkapiBuilder,
    open=_open,
)
