"""Build an index folder from a corpus, and open it.

A folder holds `manifest.json`, the passages (`passages.*`) and the backend's own files. Building reads the corpus once,
as a stream; the folder appears under its name only when it is complete and on the disk. Opening maps files into memory.

>>> manifest = build_index("corpus.jsonl.gz", "index")                                          # doctest: +SKIP
>>> with open_index("index") as index:                                                          # doctest: +SKIP
...     [hit.passage.title for hit in index.search(["who painted the ceiling"], k=3)[0]]
"""

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from retrieval.corpus import CorpusReader
from retrieval.manifest import (
    FORMAT_VERSION,
    MANIFEST_FILE,
    Manifest,
    file_checksum,
    read_manifest,
    verify_files,
)
from retrieval.passage import Hit, Passage
from retrieval.passage_store import PASSAGES_FILE, PassageStore, PassageWriter
from retrieval.request import check_request
from retrieval.searcher import Backend, Progress, RowSearcher
from retrieval.sparse.bm25s_backend import BM25S
from retrieval.sparse.rank_bm25_backend import RANK_BM25
from retrieval.staging import staged_folder

BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (BM25S, RANK_BM25)}

_REPORT_EVERY = 1000


class Index:
    """An opened index: a `Retriever` that also knows its manifest. Thread-safe; a context manager."""

    def __init__(self, manifest: Manifest, passages: PassageStore, searcher: RowSearcher) -> None:
        self.manifest = manifest
        self.searcher = searcher
        self._passages = passages

    @property
    def num_passages(self) -> int:
        """Number of passages in the corpus."""
        return self.manifest.num_passages

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The best `k` hits of every query, best first, equal scores by id: the row in the corpus.

        Fewer than `k` hits come back only where fewer passages have a positive score.

        Raises:
            ValueError: `k` < 1 or larger than the corpus, or an empty query.
        """
        check_request(queries, k, self.num_passages)
        read = self._passages.passage
        return [
            [
                Hit(passage=read(row), score=score, rank=rank)
                for rank, (row, score) in enumerate(zip(rows.tolist(), scores.tolist(), strict=True), start=1)
            ]
            for rows, scores in self.searcher.top_rows(queries, k)
        ]

    def get(self, passage_id: str) -> Passage:
        """The passage with this id.

        Raises:
            KeyError: no such passage.
        """
        passage = self._passages.find(passage_id)
        if passage is None:
            raise KeyError(passage_id)
        return passage

    def __contains__(self, passage_id: object) -> bool:
        """True if the corpus has a passage with this id."""
        return isinstance(passage_id, str) and self._passages.find(passage_id) is not None

    def passages(self) -> Iterator[Passage]:
        """All passages in corpus order, streamed."""
        return iter(self._passages)

    @property
    def corpus(self) -> PassageStore:
        """The passages by row, `len(corpus)` and `corpus[row]`, read from disk as they are asked for."""
        return self._passages

    def close(self) -> None:
        """Give the mapped passages back; the index cannot be used afterwards."""
        self._passages.close()

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def backend_named(name: str) -> Backend:
    """The backend of this name.

    Raises:
        ValueError: no such backend; the message lists them.
    """
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; choose one of {', '.join(BACKENDS)}")
    return BACKENDS[name]


def build_index(
    corpus_path: str | Path,
    out: str | Path,
    *,
    backend: str = "bm25s",
    settings: BaseModel | Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Build the index of a corpus into the folder `out`, and return its manifest.

    `settings` are the backend's (`BM25Settings`, `OkapiSettings`), as an object or a mapping; None takes the defaults.
    Held in memory: the vocabulary, about 40 bytes a passage (offsets, id hashes), and the backend's buffers, which do
    not grow with the corpus. The disk needs room for passages, terms and postings at once.

    Raises:
        FileNotFoundError: no such corpus.
        CorpusError: an empty corpus, a broken line or a repeated id, with file and line.
        FileExistsError: `out` holds a finished index and `overwrite` is off, or holds something else.
        ValueError: an unknown backend or setting, or a corpus without a single term.
    """
    started = time.perf_counter()
    kind = backend_named(backend)
    values = settings if isinstance(settings, BaseModel) else _settings_of(kind, settings or {})
    if not isinstance(values, kind.settings):
        raise ValueError(f"backend {backend} takes {kind.settings.__name__}, not {type(values).__name__}")
    report = progress or (lambda stage, done, total: None)
    reader = CorpusReader(corpus_path)
    out = Path(out)
    _refuse_existing(out, overwrite)
    with staged_folder(out, may_replace=lambda path: _refuse_existing(path, overwrite)) as folder:
        builder = kind.builder(folder, values)
        done = 0
        with PassageWriter(folder) as writer:
            for done, passage in enumerate(reader, start=1):
                writer.add(passage)
                builder.add(passage.contents)
                if done % _REPORT_EVERY == 0:
                    report("reading passages", done, max(done, round(done / max(reader.share_read, 1e-9))))
            corpus_hash = writer.finish()
        report("reading passages", done, done)
        builder.finish(report)
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            backend=backend,
            num_passages=done,
            corpus_hash=corpus_hash,
            settings=values.model_dump(mode="json"),
            files=_checksums(folder, {PASSAGES_FILE: corpus_hash}, report),
            index_hash="",
            corpus=reader.path.name,
            versions={"python": platform.python_version(), **{name: version(name) for name in kind.libraries}},
            built_at=datetime.now(UTC).isoformat(timespec="seconds"),
            build_seconds=round(time.perf_counter() - started, 3),
        ).sealed()
        manifest.write(folder)
    return manifest


def open_index(path: str | Path, *, verify: bool = True) -> Index:
    """Open an index folder for searching.

    `verify` reads every file once and compares its checksum; off, only the manifest is checked.

    Raises:
        FileNotFoundError: there is no finished index at `path`.
        IndexCorruptError: a file is missing, or differs from its checksum.
        ValueError: the index needs a backend that does not exist here.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    backend = backend_named(manifest.backend)
    if verify:
        verify_files(folder, manifest)
    passages = PassageStore(folder)
    searcher = backend.open(folder, backend.settings.model_validate(manifest.settings), passages)
    return Index(manifest, passages, searcher)


def _settings_of(kind: Backend, values: Mapping[str, Any]) -> BaseModel:
    known = kind.settings.model_fields
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"backend {kind.name} has no setting {', '.join(unknown)}; its settings: {', '.join(known)}")
    return kind.settings.model_validate(values)


def _refuse_existing(out: Path, overwrite: bool) -> bool:
    """True if `out` may be written; raises where it may not."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return True
    if not (out / MANIFEST_FILE).is_file():
        raise FileExistsError(f"{out} exists and is not an index; choose a new folder for --out")
    if not overwrite:
        raise FileExistsError(f"{out} already holds an index; add --overwrite to replace it, or choose another folder")
    return True


def _checksums(folder: Path, known: dict[str, str], report: Progress) -> dict[str, str]:
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    checksums = {}
    for i, name in enumerate(names, start=1):
        checksums[name] = known.get(name) or file_checksum(folder / name)
        report("checksums", i, len(names))
    return checksums
