"""What a build will need, before it is begun: the head of the corpus is built in a temporary folder, and scaled.

Passages are counted in a file of up to 4 MiB, estimated in a larger one. Time is that of this machine as it is now.
"""

import hashlib
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from pydantic import BaseModel

from retrieval.build.lookup_writer import lookup_ram_bytes, lookup_spill_bytes
from retrieval.build.memory import GB, resident_bytes
from retrieval.build.out_folder import UnfinishedBuild, unfinished_build
from retrieval.build.pipeline import Crew
from retrieval.build.reading import MAX_SHARD_CHARACTERS
from retrieval.build.record import BuildRecord
from retrieval.corpus import CorpusReader
from retrieval.passage_store import PassageWriter, passage_files
from retrieval.searcher import Backend
from retrieval.staging import holds_something

SAMPLE_PASSAGES = 20_000
"""Passages of the sample, fewer where they are long."""

_TELLING_BYTES = 4 << 20
"""Packed files are read ahead in large pieces: a smaller share of one would not tell how many passages it holds."""
_SAMPLE_CHARACTERS = MAX_SHARD_CHARACTERS // 4
_PASSAGE_BYTES_IN_MEMORY = 32
"""Its offset, and its id's hash in the ledger while the ledger's two largest runs are merged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildForecast:
    """What a build will need. Bytes and seconds; memory includes the interpreter and all workers."""

    num_passages: int
    """Passages of the corpus."""
    counted: bool
    """True if the passages were counted; False if their number follows from the share of the file that was read."""
    sampled: int
    """Passages that were measured."""
    ram_bytes: int
    """Peak memory of the build, workers included."""
    disk_bytes: int
    """Size of the index."""
    peak_disk_bytes: int
    """The most that lies on the disk at once while it is built."""
    free_disk_bytes: int
    """Free on the disk now, where the index is to be."""
    seconds: float
    """Wall time with these workers; on a cluster, of this host alone."""
    seconds_left: float
    """Wall time with what an unfinished build has left taken off."""
    unfinished: UnfinishedBuild | None
    """What an unfinished build of the same folder has left."""
    replaces: bool
    """True if there is an index already, which the build would replace."""
    details: Mapping[str, str]
    """What the backend says beside, by label."""

    @property
    def fits_the_disk(self) -> bool:
        """True if the build's peak is below what is free."""
        return self.peak_disk_bytes <= self.free_disk_bytes


def forecast(
    reader: CorpusReader,
    out: Path,
    backend: Backend,
    settings: BaseModel,
    *,
    crew: Crew,
    ram_bytes: int | None,
    record: BuildRecord,
) -> BuildForecast:
    """Measure the head of a corpus and scale it to the whole; writes to a temporary folder only.

    `record` is that of the build, by which an unfinished one is told that it can go on with.

    Raises:
        CorpusError: the head is empty or has a broken line or a repeated id.
        ValueError: the backend cannot build with these settings.
    """
    head = _measured_head(reader, SAMPLE_PASSAGES)
    base = resident_bytes()
    needs = backend.builder(settings).estimate(head.texts, head.num_passages, ram_bytes)
    worker_ram = needs.worker_ram_bytes or needs.ram_bytes
    helpers = crew.workers if crew.workers > 1 else 0
    shards = needs.shard_seconds / crew.workers
    disk = head.passages_bytes + needs.disk_bytes
    parts = max(0, needs.peak_disk_bytes - needs.disk_bytes)
    spilled = 2 * lookup_spill_bytes(head.num_passages)
    checksums = disk / _checksum_rate()
    reading = head.reading_seconds

    def seconds(reading: float, shards: float, merging: float) -> float:
        return (max(reading, shards) if helpers else reading + shards) + merging + checksums

    unfinished = unfinished_build(out, record, reader.identity())
    whole = left = seconds(reading, shards, needs.merge_seconds)
    if unfinished is not None and not unfinished.differences:
        left = seconds(
            0.0 if unfinished.corpus_is_read else reading,
            shards * max(0.0, 1 - unfinished.passages / head.num_passages),
            0.0 if unfinished.is_merged else needs.merge_seconds,
        )
    return BuildForecast(
        num_passages=head.num_passages,
        counted=head.counted,
        sampled=len(head.texts),
        ram_bytes=base + _reading_ram_bytes(head.num_passages) + needs.ram_bytes + helpers * (base + worker_ram),
        disk_bytes=disk,
        peak_disk_bytes=head.passages_bytes + max(needs.peak_disk_bytes, needs.disk_bytes, parts + spilled),
        free_disk_bytes=_free_bytes(out),
        seconds=whole,
        seconds_left=left,
        unfinished=unfinished,
        replaces=holds_something(out),
        details=needs.details,
    )


def crew_within(
    crew: Crew, reader: CorpusReader, backend: Backend, settings: BaseModel, *, shard_size: int, ram_bytes: int
) -> tuple[Crew, str | None]:
    """The crew, or as much of it as `ram_bytes` has room for beside this process; with a line on what is short, if any.

    Raises:
        ValueError: this process holds more already.
    """
    base = resident_bytes()
    if base >= ram_bytes:
        raise ValueError(
            f"--ram-gb {ram_bytes / GB:g} is less than the {base / GB:.2f} that this process holds before it builds "
            "anything; give more"
        )
    head = _measured_head(reader, SAMPLE_PASSAGES)
    builder = backend.builder(settings)
    needs = builder.estimate(head.texts, head.num_passages, ram_bytes)
    shard_bytes = (needs.worker_ram_bytes or needs.ram_bytes) * min(1.0, shard_size / builder.shard_size())
    reading = base + _reading_ram_bytes(head.num_passages)
    if crew.workers == 1:
        needed = reading + shard_bytes
        return crew, None if needed <= ram_bytes else (
            f"--ram-gb {ram_bytes / GB:g} may not be enough: about {needed / GB:.2f} is held with shards of "
            f"{shard_size:,} passages; a smaller --shard-size takes less"
        )
    each = base + shard_bytes
    fitting = max(1, min(crew.workers, int((ram_bytes - reading - shard_bytes) // each)))
    if fitting == crew.workers:
        return crew, None
    return replace(crew, workers=fitting), (
        f"--ram-gb {ram_bytes / GB:g} has room for {fitting} of {crew.workers} workers, about {each / GB:.2f} each"
    )


def _reading_ram_bytes(num_passages: int) -> int:
    """What the pass over the corpus holds beside the shards: the lookups are of ids and of titles."""
    return num_passages * _PASSAGE_BYTES_IN_MEMORY + 2 * lookup_ram_bytes(num_passages)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    texts: list[str]
    """Texts of the sample."""
    num_passages: int
    """Passages of the corpus."""
    counted: bool
    """True if they were counted."""
    passages_bytes: int
    """Bytes that all passages take on the disk."""
    reading_seconds: float
    """Time to read and write all passages."""


def _measured_head(reader: CorpusReader, sample_passages: int) -> _Head:
    """Read a sample, and behind it as much of the file as its share of the corpus can be told from."""
    texts: list[str] = []
    characters = 0
    passages = reader.hashed()
    with tempfile.TemporaryDirectory() as scratch, PassageWriter(Path(scratch)) as writer:
        started = time.perf_counter()
        for passage, hashed in islice(passages, sample_passages):
            writer.add(passage, hashed)
            texts.append(passage.contents)
            characters += len(texts[-1])
            if characters >= _SAMPLE_CHARACTERS:
                break
        seconds = time.perf_counter() - started
        writer.finish()
        written = sum(path.stat().st_size for path in passage_files(Path(scratch)))
    number, counted = len(texts), True
    for _ in passages:
        number += 1
        if reader.bytes_read >= _TELLING_BYTES:
            counted = False
            break
    num_passages = number if counted else max(number + 1, round(number / max(reader.share_read, 1e-9)))
    scale = num_passages / len(texts)
    return _Head(
        texts=texts,
        num_passages=num_passages,
        counted=counted,
        passages_bytes=round(written * scale),
        reading_seconds=seconds * scale,
    )


def _free_bytes(out: Path) -> int:
    folder = out.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _checksum_rate() -> float:
    """Bytes a second that the checksum takes."""
    content = bytes(8 << 20)
    started = time.perf_counter()
    hashlib.sha256(content).digest()
    return len(content) / max(time.perf_counter() - started, 1e-9)
