"""Lucene's BM25 through pyserini: the ranking that most published baselines used, built and searched by Lucene itself.

The folder holds a Lucene index of one segment. Building and searching go through Anserini's own classes
(`SimpleIndexer`, `SimpleSearcher`, what pyserini's `LuceneSearcher` wraps; a test compares them), without importing
pyserini's Python side, which loads torch and wants an API key. Scores are Anserini's: rounded to 4 decimals, equal ones
told apart in the sixth. Two builds rank alike but are not byte-identical: Lucene writes a random id into each index.
"""

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from retrieval.analyzer import no_terms
from retrieval.build.durable import flush
from retrieval.build.memory import no_room, resident_bytes
from retrieval.build.work import BuildWork
from retrieval.searcher import Backend, Estimate, PassageRows
from retrieval.sparse.java import enter_thread, java_classes

_SHARD_SIZE = 100_000
_BATCH = 1000
_BUFFER_MB = 256  # Lucene's, before it writes a segment out
_JAVA_BYTES = 150 << 20  # what a Java machine holds outside its heap: code, threads, mapped jar
_HEAP_BYTES = 512 << 20  # what indexing fills of a heap that could grow: the buffer, and a merge of segments
_LEAST_HEAP_BYTES = 192 << 20
_LUCENE_FILE = re.compile(r"_[0-9a-z]+[._].*|segments_[0-9a-z]+")
_MAX_CLAUSES = (1 << 31) - 1


class LuceneSettings(BaseModel):
    """Settings of the `pyserini` backend; the defaults are Anserini's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k1: float = Field(default=0.9, ge=0, allow_inf_nan=False)
    """How slowly repeats of a term saturate."""
    b: float = Field(default=0.4, ge=0, le=1)
    """How much long passages are discounted: 0 not at all, 1 fully."""
    stemmer: Literal["porter", "krovetz", "none"] = "porter"
    """Lucene's stemmer for passages and queries."""
    keep_stopwords: bool = False
    """Index and search for Lucene's 33 English stopwords too."""


class LuceneBuilder:
    """Hands the passages to Anserini's indexer. A part is the shard's texts, one JSON string a line."""

    def __init__(self, settings: LuceneSettings) -> None:
        self._settings = settings

    def shard_size(self) -> int:
        """Passages a shard."""
        return _SHARD_SIZE

    def build_part(self, texts: Sequence[str], path: Path) -> None:
        """Write the texts, for Lucene to read them in order."""
        with path.open("w", encoding="ascii") as file:
            file.writelines(json.dumps(text) + "\n" for text in texts)

    def merge(self, work: BuildWork) -> None:
        """Index all parts beside them and move Lucene's files into place; begins anew after a kill.

        Raises:
            ValueError: pyserini or Java is missing, `work.ram_bytes` has no room for it, or no passage has a term.
        """
        java = java_classes(_heap_within(work.ram_bytes))
        scratch = work.parts / ".lucene"
        shutil.rmtree(scratch, ignore_errors=True)
        _index(
            java,
            (text for shard in work.shards for text in _lines(work.part(shard))),
            scratch,
            self._settings,
            lambda done: work.progress("indexing with Lucene", done, work.num_passages),
        )
        for leftover in work.folder.iterdir():
            if _LUCENE_FILE.fullmatch(leftover.name):
                leftover.unlink()
        for file in sorted(scratch.iterdir()):
            flush(file)
            file.rename(work.folder / file.name)
        shutil.rmtree(scratch)
        flush(work.folder)

    def estimate(self, sample: Sequence[str], num_passages: int, ram_bytes: int | None) -> Estimate:
        """What a corpus of `num_passages` passages like the sample will need, by indexing the sample."""
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder) / "part"
            started = time.perf_counter()
            self.build_part(sample, part)
            share = num_passages / len(sample)
            part_seconds, part_bytes = time.perf_counter() - started, part.stat().st_size
            java = java_classes(_heap_within(ram_bytes))  # starting Java is no part of the rate
            started = time.perf_counter()
            _index(java, iter(sample), Path(folder) / "index", self._settings, lambda done: None)
            seconds = time.perf_counter() - started
            size = sum(file.stat().st_size for file in (Path(folder) / "index").iterdir())
        return Estimate(
            ram_bytes=_JAVA_BYTES + (_heap_within(ram_bytes) or _HEAP_BYTES),
            disk_bytes=round(size * share),
            peak_disk_bytes=round((part_bytes + 2 * size) * share),  # one segment is merged from others
            shard_seconds=part_seconds * share,
            merge_seconds=seconds * share,
            worker_ram_bytes=2 * _SHARD_SIZE * (part_bytes // len(sample)),
            details={"Java": "its memory grows where there is room; --ram-gb bounds it"},
        )


class LuceneRows:
    """Searches the Lucene index with Anserini's searcher. Thread-safe; a batch is spread over threads of Java."""

    def __init__(self, folder: Path, settings: LuceneSettings, passages: PassageRows) -> None:
        java = java_classes()
        self.num_rows = _num_rows(java, folder, passages)
        # A query is a clause a word; Lucene's limit of 1024 would refuse a pasted page.
        java("org.apache.lucene.search.IndexSearcher").setMaxClauseCount(_MAX_CLAUSES)
        self._list = java("java.util.ArrayList")
        self._searcher = java("io.anserini.search.SimpleSearcher")(str(folder))
        self._searcher.set_bm25(settings.k1, settings.b)
        self._searcher.set_analyzer(_analyzer(java, settings))
        self._threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
        self._searcher.search("warm", 1)  # it makes its index searcher at the first search, not safely for two at once

    def top_rows(self, queries: Sequence[str], k: int) -> list[tuple[NDArray[np.int32], NDArray[np.floating]]]:
        """For each query the best rows and their scores, `[at most k]` each, best first, equal scores by row."""
        enter_thread()
        # Java has no half surrogate pairs; such a character is no letter, and stands for a space.
        texts = [query.encode("utf-8", "replace").decode("utf-8").replace("\0", " ") for query in queries]
        if len(texts) == 1:
            return [_rows(self._searcher.search(texts[0], k))]
        names, strings = self._list(), self._list()
        for number, text in enumerate(texts):
            names.add(str(number))
            strings.add(text)
        found = self._searcher.batch_search(strings, names, k, self._threads)
        return [_rows(found.get(str(number))) for number in range(len(texts))]


def _rows(hits: Any) -> tuple[NDArray[np.int32], NDArray[np.floating]]:
    if hits is None:
        raise RuntimeError("Lucene gave no answer to a query of a batch; its error is in the log of Java")
    pairs = [(int(hit.docid), hit.score) for hit in hits]
    rows = np.fromiter((row for row, _ in pairs), dtype=np.int32, count=len(pairs))
    return rows, np.fromiter((score for _, score in pairs), dtype=np.float32, count=len(pairs))


def _heap_within(ram_bytes: int | None) -> int | None:
    """How large Java's heap may grow within `--ram-gb`; None where there is no bound."""
    if ram_bytes is None:
        return None
    held = resident_bytes() + _JAVA_BYTES
    heap = ram_bytes - held
    if heap < _LEAST_HEAP_BYTES:
        raise ValueError(no_room(ram_bytes, held + _LEAST_HEAP_BYTES, "Java"))
    return heap


def _index(java: Any, texts: Iterator[str], folder: Path, settings: LuceneSettings, report: Any) -> None:
    """Write a Lucene index of one segment; a passage's id is its row, so that equal scores are ordered by row."""
    arguments = ["-input", "", "-collection", "JsonCollection", "-index", str(folder), "-threads", "1", "-optimize"]
    heap_mb = java("java.lang.Runtime").getRuntime().maxMemory() >> 20
    arguments += ["-memoryBuffer", str(min(_BUFFER_MB, heap_mb // 4)), "-stemmer", settings.stemmer]
    indexer = java("io.anserini.index.SimpleIndexer")(
        [*arguments, "-keepStopwords"] if settings.keep_stopwords else arguments
    )
    done = 0
    try:
        while batch := list(islice(texts, _BATCH)):
            rows = [
                json.dumps({"id": f"{done + i:012d}", "contents": text}) for i, text in enumerate(batch) if text.strip()
            ]
            taken = indexer.addRawDocuments(rows) if rows else 0
            if taken != len(rows):
                raise OSError(
                    f"Lucene took {taken} of {len(rows)} passages near row {done}; is the disk of {folder} full?"
                )
            done += len(batch)
            report(done)
    finally:
        indexer.close()
    (folder / "write.lock").unlink(missing_ok=True)
    if _num_terms(java, folder) == 0:
        raise ValueError(no_terms("Lucene's analyzer drops stopwords and punctuation"))


def _num_terms(java: Any, folder: Path) -> int:
    with _lucene_reader(java, folder) as reader:
        terms: int = reader.getSumTotalTermFreq("contents")
        return max(terms, 0)


def _num_rows(java: Any, folder: Path, passages: PassageRows) -> int:
    """The row behind the last document and the passages without text that follow it, which Lucene does not get."""
    with _lucene_reader(java, folder) as reader:
        rows = int(reader.storedFields().document(reader.maxDoc() - 1).get("id")) + 1
    while rows < len(passages) and not passages[rows].contents.strip():
        rows += 1
    return rows


@contextmanager
def _lucene_reader(java: Any, folder: Path) -> Iterator[Any]:
    directory = java("org.apache.lucene.store.FSDirectory").open(java("java.nio.file.Paths").get(str(folder)))
    try:
        reader = java("org.apache.lucene.index.DirectoryReader").open(directory)
        try:
            yield reader
        finally:
            reader.close()
    finally:
        directory.close()


def _analyzer(java: Any, settings: LuceneSettings) -> Any:
    kind = java("io.anserini.analysis.DefaultEnglishAnalyzer")
    return kind.fromArguments(settings.stemmer, settings.keep_stopwords, None)


def _lines(part: Path) -> Iterator[str]:
    with part.open(encoding="ascii") as file:
        yield from map(json.loads, file)


def _open(folder: Path, settings: LuceneSettings, passages: PassageRows) -> LuceneRows:
    return LuceneRows(folder, settings, passages)


PYSERINI = Backend(
    name="pyserini",
    settings=LuceneSettings,
    libraries=("pyserini",),
    builder=LuceneBuilder,
    open=_open,
    extra="pyserini",
)
