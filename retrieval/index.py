"""Build an index folder from a corpus, and open it.

A folder holds `manifest.json`, the passages (`passages.*`) and the backend's own files. Building reads the corpus once,
as a stream; the folder appears under its name only when it is complete and on the disk. Opening maps files into memory.

>>> manifest = build_index("corpus.jsonl.gz", "index")                                          # doctest: +SKIP
>>> with open_index("index") as index:                                                          # doctest: +SKIP
...     [hit.passage.title for hit in index.search(["who painted the ceiling"], k=3)[0]]
"""

import logging
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from retrieval.backends import BACKENDS, backend_named, library_versions, opened_settings, settings_of
from retrieval.build.forecast import BuildForecast, crew_within, forecast
from retrieval.build.limits import checked_shard_size, ram_bound
from retrieval.build.out_folder import refuse_existing
from retrieval.build.pipeline import Crew, run_stages
from retrieval.build.record import BuildRecord
from retrieval.build.resumption import Resumption, told_where_it_broke_off
from retrieval.build.work import WORK_FOLDER
from retrieval.corpus import CorpusReader
from retrieval.manifest import (
    FORMAT_VERSION,
    IndexCorruptError,
    Manifest,
    file_checksums,
    read_manifest,
    verify_files,
)
from retrieval.passage import Hit, Passage
from retrieval.passage_store import PASSAGES_FILE, PassageStore
from retrieval.request import check_request
from retrieval.searcher import Backend, Progress, RowSearcher
from retrieval.staging import staged_folder
from retrieval.title import MAX_PASSAGES_PER_TITLE

__all__ = ["BACKENDS", "Index", "backend_named", "build_index", "forecast_index", "open_index"]

_log = logging.getLogger(__name__)


class Index:
    """An opened index: a `Retriever` that also knows its manifest. Thread-safe; a context manager."""

    def __init__(
        self, manifest: Manifest, passages: PassageStore, searcher: RowSearcher, settings: Mapping[str, Any]
    ) -> None:
        self.manifest = manifest
        self.searcher = searcher
        self.settings = settings
        """The backend's settings: the build's, with what was changed for searching."""
        self._passages = passages

    @property
    def num_passages(self) -> int:
        """Number of passages in the corpus."""
        return self.manifest.num_passages

    @property
    def prefix_depth(self) -> int:
        """Down to which depth the first `k` hits of a search are the search with `k`; 0 for approximate backends."""
        return self.num_passages if backend_named(self.manifest.backend).prefix_exact else 0

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the answers, as JSON: for comparing runs."""
        manifest = self.manifest
        return {
            "kind": "index",
            "backend": manifest.backend,
            "settings": self.settings,
            "num_passages": manifest.num_passages,
            "corpus_hash": manifest.corpus_hash,
            "index_hash": manifest.index_hash,
        }

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The best `k` hits of every query, best first, equal scores by id: the row in the corpus.

        Fewer than `k` hits come back only where the backend is a sparse one and fewer passages have a positive score.

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

    def known_ids(self, passage_ids: Iterable[str]) -> set[str]:
        """Those of the ids that the corpus has."""
        return {passage_id for passage_id in passage_ids if passage_id in self}

    def titled(self, title: str, *, limit: int = MAX_PASSAGES_PER_TITLE) -> list[Passage]:
        """The first `limit` passages of this title in corpus order: those that have it as it is written; where there
        are none, those that have it but for case, whitespace and underscores (`retrieval.title`).

        Raises:
            ValueError: `limit` < 1.
        """
        return self._passages.titled(title, limit=limit)

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


def build_index(
    corpus_path: str | Path,
    out: str | Path,
    *,
    backend: str = "bm25s",
    settings: BaseModel | Mapping[str, Any] | None = None,
    overwrite: bool = False,
    resume: bool = True,
    workers: int = 1,
    ray_address: str | None = None,
    ram_gb: float | None = None,
    shard_size: int | None = None,
    progress: Progress | None = None,
    notice: Callable[[str], None] | None = None,
) -> Manifest:
    """Build the index of a corpus into the folder `out`, and return its manifest.

    A build that is killed, runs out of disk or is interrupted leaves what it has finished in a hidden folder beside
    `out`; the next call with the same backend and settings goes on with it (`resume`), and its files come out as if
    nothing had happened. Shards are built in this process while the corpus is read, in `workers` spawned processes (a
    script that asks for more than one needs `if __name__ == "__main__":`), or on the Ray cluster at `ray_address`.

    `settings` are the backend's (`BM25Settings`, `OkapiSettings` ...), as an object or a mapping; None takes the
    defaults. `ram_gb` bounds the memory of the build, in 10^9 bytes, workers and interpreter included; None leaves it
    to the backend. `shard_size` replaces the backend's number of passages a shard. `notice` is told in one line what a
    person should know, such as that a build goes on.

    Raises:
        FileNotFoundError: no such corpus.
        CorpusError: an empty corpus, a broken line or a repeated id, with file and line.
        FileExistsError: `out` holds a finished index and `overwrite` is off, or holds something else, or another
            process is building it.
        ValueError: an unknown backend or setting, a corpus that the backend cannot use, or too small a `ram_gb`.
        OSError: the disk is full (ENOSPC) or the file system refuses; the message says where the unfinished build lies.
    """
    started = time.perf_counter()
    kind = backend_named(backend)
    values = settings_of(kind, settings)
    versions = library_versions(kind)
    crew = Crew(workers=workers, ray_address=ray_address)
    ram_bytes = ram_bound(ram_gb)
    reader = CorpusReader(corpus_path)
    report = progress or (lambda stage, done, total: None)
    say = notice or _log.info
    out = Path(out)
    refuse_existing(out, overwrite)
    shard_size = checked_shard_size(kind.builder(values).shard_size() if shard_size is None else shard_size)
    if ram_bytes is not None:
        crew, restriction = crew_within(crew, reader, kind, values, shard_size=shard_size, ram_bytes=ram_bytes)
        if restriction:
            say(restriction)
    record = _record(kind, values, shard_size, versions)
    with (
        told_where_it_broke_off(out),
        staged_folder(
            out,
            may_replace=lambda path: refuse_existing(path, overwrite),
            worth_keeping=Resumption(record, resume=resume, notice=say),
            notice=say,
        ) as folder,
    ):
        record.write(folder)
        found = run_stages(
            folder,
            reader,
            kind,
            values,
            shard_size=shard_size,
            crew=crew,
            ram_bytes=ram_bytes,
            progress=report,
            notice=say,
        )
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            backend=backend,
            num_passages=found.num_passages,
            corpus_hash=found.corpus_hash,
            settings=values.model_dump(mode="json"),
            files=file_checksums(folder, {PASSAGES_FILE: found.corpus_hash}, report),
            index_hash="",
            corpus=reader.path.name,
            versions={"python": platform.python_version(), **versions},
            built_at=datetime.now(UTC).isoformat(timespec="seconds"),
            build_seconds=round(time.perf_counter() - started, 3),
        ).sealed()
        manifest.write(folder)
    shutil.rmtree(out / WORK_FOLDER, ignore_errors=True)
    return manifest


def _record(kind: Backend, values: BaseModel, shard_size: int, versions: dict[str, str]) -> BuildRecord:
    return BuildRecord(
        format_version=FORMAT_VERSION,
        backend=kind.name,
        settings=values.model_dump(mode="json"),
        shard_size=shard_size,
        versions=versions,
    )


def forecast_index(
    corpus_path: str | Path,
    out: str | Path,
    *,
    backend: str = "bm25s",
    settings: BaseModel | Mapping[str, Any] | None = None,
    workers: int = 1,
    ray_address: str | None = None,
    ram_gb: float | None = None,
    shard_size: int | None = None,
) -> BuildForecast:
    """What `build_index` with these arguments will need of memory, disk and time, measured on the head of the corpus.

    Raises:
        As `build_index` does before it writes anything; an index that it would replace is told in the forecast.
    """
    kind = backend_named(backend)
    values = settings_of(kind, settings)
    versions = library_versions(kind)
    out = Path(out)
    refuse_existing(out, overwrite=True)
    crew, ram_bytes = Crew(workers=workers, ray_address=ray_address), ram_bound(ram_gb)
    shard_size = checked_shard_size(kind.builder(values).shard_size() if shard_size is None else shard_size)
    record = _record(kind, values, shard_size, versions)
    return forecast(CorpusReader(corpus_path), out, kind, values, crew=crew, ram_bytes=ram_bytes, record=record)


def open_index(path: str | Path, *, verify: bool = True, settings: Mapping[str, Any] | None = None) -> Index:
    """Open an index folder for searching.

    `verify` reads every file once and compares its checksum; off, only the manifest is checked. `settings` replaces
    settings that only a search needs, such as `{"nprobe": 64}` or `{"encoder": {"device": "cpu"}}`.

    An index that is replaced while it is being opened is opened anew, so that no two are mixed.

    Raises:
        FileNotFoundError: there is no finished index at `path`.
        IndexCorruptError: a file is missing, differs from its checksum, or holds more or fewer passages than the
            manifest says.
        ValueError: the index needs a backend that does not exist here, or `settings` holds one that is the build's.
    """
    folder = Path(path)
    while True:
        before = _inode(folder)
        try:
            index = _opened(folder, verify, settings)
        except (FileNotFoundError, IndexCorruptError):
            if _inode(folder) in (before, None):
                raise
        else:
            if _inode(folder) in (before, None):
                return index
            index.close()


def _opened(folder: Path, verify: bool, settings: Mapping[str, Any] | None) -> Index:
    manifest = read_manifest(folder)
    backend = backend_named(manifest.backend)
    values = opened_settings(backend, manifest.settings, settings)
    if verify:
        verify_files(folder, manifest)
    passages = PassageStore(folder)
    try:
        _check_rows(folder, manifest, len(passages), "passages")
        searcher = backend.open(folder, values, passages)
        _check_rows(folder, manifest, searcher.num_rows, f"rows in the files of backend {backend.name}")
    except BaseException:
        passages.close()
        raise
    return Index(manifest, passages, searcher, values.model_dump(mode="json"))


def _check_rows(folder: Path, manifest: Manifest, found: int, what: str) -> None:
    if found != manifest.num_passages:
        raise IndexCorruptError(
            f"{folder} holds {found:,} {what}, and its manifest says {manifest.num_passages:,} passages; build the "
            "index again"
        )


def _inode(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from the one that replaces it; None where there is none."""
    try:
        state = folder.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino
