"""BM25 with eager scores in bm25s's format: the default backend.

bm25s (Lù, 2024, arXiv:2407.03618) computes the score of every (term, passage) pair at indexing, so a query only adds
up. The folder holds bm25s's own files, equal to what `bm25s.BM25.index` computes (a test compares them), and
`bm25s.BM25.load(folder, mmap=True)` reads it. Building differs in memory: postings are counted shard by shard, on disk,
and scored for one range of terms at a time. Searching differs in ties: see `kernels`.
"""

import json
import math
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import bm25s
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from retrieval.analyzer import Analyzer, AnalyzerSettings, no_terms
from retrieval.build.work import BuildWork
from retrieval.manifest import IndexCorruptError
from retrieval.passage import Passage
from retrieval.searcher import Backend, Estimate
from retrieval.sparse.kernels import SATURATION, best_rows
from retrieval.sparse.posting_estimate import estimate_postings
from retrieval.sparse.posting_merge import DEFAULT_BUFFERED_POSTINGS, Scoring, join_vocabularies, write_scores
from retrieval.sparse.posting_part import cut_part, write_part
from retrieval.sparse.vocabulary import Vocabulary, WordNumbers

Variant = Literal["lucene", "robertson", "atire"]

# bm25s's names for its files.
SCORES_FILE = "data.csc.index.npy"
ROWS_FILE = "indices.csc.index.npy"
STARTS_FILE = "indptr.csc.index.npy"
VOCABULARY_FILE = "vocab.index.json"
PARAMETERS_FILE = "params.index.json"

_SHARD_PASSAGES = 1 << 16


class BM25Settings(BaseModel):
    """Settings of the `bm25s` backend; the defaults are bm25s's, with its English analyzer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k1: float = Field(default=1.5, ge=0, allow_inf_nan=False)
    """How slowly repeats of a term saturate."""
    b: float = Field(default=0.75, ge=0, le=1)
    """How much long passages are discounted: 0 not at all, 1 fully."""
    method: Variant = "lucene"
    """Variant of the term-frequency part (Kamphuis et al., ECIR 2020)."""
    idf_method: Variant | None = None
    """Variant of the IDF; None takes that of `method`. `atire` with IDF `robertson` is Okapi as rank_bm25 has it."""
    analyzer: AnalyzerSettings = AnalyzerSettings()
    """How passages and queries are cut into terms."""


def inverse_document_frequency(variant: Variant, frequency: int, num_passages: int) -> float:
    """IDF of a term that `frequency` of `num_passages` passages hold, >= 0 (Kamphuis et al., ECIR 2020, table 1).

    `robertson` is cut off at 0, where the term stands in half of the passages or more.
    """
    odds = (num_passages - frequency + 0.5) / (frequency + 0.5)
    match variant:
        case "lucene":
            return math.log(1 + odds)
        case "robertson":
            return math.log(max(1.0, odds))
        case "atire":
            return math.log(num_passages / frequency)


class BM25sBuilder:
    """Builds bm25s's arrays: postings shard by shard, then scores for one range of terms after the other.

    Held in memory: a shard and its postings; at the merge the vocabulary, and 256 MiB of scored postings or what the
    bound leaves for them.
    """

    def __init__(self, settings: BM25Settings, *, buffered_postings: int = DEFAULT_BUFFERED_POSTINGS) -> None:
        self._settings = settings
        self._buffered_postings = buffered_postings
        self._words = WordNumbers(Analyzer(settings.analyzer))

    def shard_size(self) -> int:
        """65,536 passages: a place in the shard fits into two bytes."""
        return _SHARD_PASSAGES

    def build_part(self, texts: Sequence[str], path: Path) -> None:
        """Write the postings of one shard at `path`."""
        write_part(path, cut_part(texts, self._words))

    def merge(self, work: BuildWork) -> None:
        """Compute and write the arrays, the vocabulary and the parameters.

        Raises:
            ValueError: no passage has a single term, or `work.ram_bytes` is too little.
        """
        counts = join_vocabularies(work, work.folder / VOCABULARY_FILE)
        if counts.num_words == 0:
            raise ValueError(no_terms())
        write_scores(
            work,
            counts,
            self._scoring(),
            default_buffered=self._buffered_postings,
            starts_file=work.folder / STARTS_FILE,
            scores_file=work.folder / SCORES_FILE,
            rows_file=work.folder / ROWS_FILE,
        )
        self._write_parameters(work)

    def estimate(self, sample: Sequence[str], num_passages: int, ram_bytes: int | None) -> Estimate:
        """What a corpus like the sample will need; builds the sample in a temporary folder to measure it."""
        return estimate_postings(self, sample, num_passages, ram_bytes)

    def _scoring(self) -> Scoring:
        settings = self._settings
        return Scoring(
            k1=settings.k1,
            b=settings.b,
            saturation=SATURATION[settings.method],
            inverse_document_frequency=partial(inverse_document_frequency, settings.idf_method or settings.method),
        )

    def _write_parameters(self, work: BuildWork) -> None:
        settings = self._settings
        parameters = {
            "k1": settings.k1,
            "b": settings.b,
            "delta": 0.5,
            "method": settings.method,
            "idf_method": settings.idf_method or settings.method,
            "dtype": "float32",
            "int_dtype": "int32",
            "num_docs": work.num_passages,
            "version": bm25s.__version__,
            "backend": "numba",
        }
        (work.folder / PARAMETERS_FILE).write_text(json.dumps(parameters, indent=2) + "\n", encoding="utf-8")


class BM25sSearcher:
    """Searches the memory-mapped arrays. Thread-safe, and releases the GIL while it adds up."""

    def __init__(self, folder: Path, settings: BM25Settings) -> None:
        try:
            self.bm25 = bm25s.BM25.load(folder, mmap=True, load_corpus=False, show_progress=False)
        except (ValueError, KeyError, EOFError) as error:
            raise IndexCorruptError(f"the arrays in {folder} are not whole ({error}); build the index again") from None
        self._scores = np.asarray(self.bm25.scores["data"])
        self._rows = np.asarray(self.bm25.scores["indices"]).view(np.uint32)  # spares the loops a test for negatives
        self._starts = np.asarray(self.bm25.scores["indptr"])
        if not int(self._starts[-1]) == len(self._scores) == len(self._rows):
            raise IndexCorruptError(f"the arrays in {folder} differ in length; build the index again")
        self.num_rows: int = self.bm25.scores["num_docs"]
        self._scratch: list[tuple[NDArray[np.float32], NDArray[np.int32]]] = []
        self._vocabulary = Vocabulary(Analyzer(settings.analyzer), self.bm25.vocab_dict)
        self.top_rows([""], 1)  # compile now, or read the compiled loop from numba's cache, not in the first search

    def top_rows(self, queries: Sequence[str], k: int) -> list[tuple[NDArray[np.int32], NDArray[np.floating]]]:
        """For each query the best rows and their scores, `[at most k]` each: positive scores only, best first, equal
        scores by row. Working memory: 8 bytes a passage of the corpus for each search at once, kept for the next one:
        to write zeros into it anew takes longer than a search of a large corpus.
        """
        numbers = [self._vocabulary.look_up(query) for query in queries]
        terms = np.asarray([number for query in numbers for number in query], dtype=np.int32)
        ends = np.cumsum([len(query) for query in numbers], dtype=np.int64)
        try:
            total, touched = self._scratch.pop()
        except IndexError:
            total, touched = np.zeros(self.num_rows, dtype=np.float32), np.empty(self.num_rows, dtype=np.int32)
        rows, scores, filled = best_rows(terms, ends, k, self._scores, self._rows, self._starts, total, touched)
        self._scratch.append((total, touched))
        return [(rows[i, :size], scores[i, :size]) for i, size in enumerate(filled.tolist())]


def _open(folder: Path, settings: BM25Settings, passages: Iterable[Passage]) -> BM25sSearcher:
    return BM25sSearcher(folder, settings)


BM25S = Backend(
    name="bm25s",
    settings=BM25Settings,
    libraries=("bm25s", "numba", "numpy", "PyStemmer"),
    builder=BM25sBuilder,
    open=_open,
)
