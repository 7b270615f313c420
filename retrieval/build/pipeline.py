"""The stages of a build inside its staging folder: passages, parts, merge. Each goes on where an earlier call ended."""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import BaseModel

from retrieval.build.durable import flush_tree, remove
from retrieval.build.memory import GB, peak_bytes, resident_bytes
from retrieval.build.parts import PartFolder, ShardTexts, forget_merge
from retrieval.build.processes import build_in_processes
from retrieval.build.ray_shards import build_on_ray
from retrieval.build.reading import CorpusPass, ReadCorpus
from retrieval.build.work import WORK_FOLDER, BuildWork, Marks
from retrieval.corpus import CorpusReader
from retrieval.searcher import Backend, IndexBuilder, LongShards, Progress, Shard

_MERGING = "merge.corpus"
_MERGED = "merge.finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """Who builds the parts."""

    workers: int = 1
    """Processes on this host; 1 builds in this process, while it reads."""
    ray_address: str | None = None
    """Address of a Ray cluster that builds them instead."""

    @property
    def builds_here(self) -> bool:
        """True if this process builds the parts itself."""
        return self.workers == 1 and self.ray_address is None

    def __post_init__(self) -> None:
        """Refuse a crew that cannot be.

        Raises:
            ValueError: less than one worker, or workers and Ray at once.
        """
        if self.workers < 1:
            raise ValueError(f"--workers is {self.workers}; give at least 1, which builds in this process")
        if self.workers > 1 and self.ray_address is not None:
            raise ValueError(
                f"--workers {self.workers} are processes of this host, and --ray-address {self.ray_address} gives the "
                "shards to a cluster, which has its own; give one of the two"
            )


def run_stages(
    staging: Path,
    reader: CorpusReader,
    backend: Backend,
    settings: BaseModel,
    *,
    shard_size: int,
    crew: Crew,
    ram_bytes: int | None,
    progress: Progress,
    notice: Callable[[str], None],
) -> ReadCorpus:
    """Fill the staging folder with passages and the backend's files; tells what the corpus is.

    Raises:
        CorpusError: the corpus is empty or has a broken line or a repeated id.
        ValueError: the backend cannot use the corpus, or `ram_bytes` is too little.
        OSError: the disk is full, for example.
    """
    marks = Marks(staging / WORK_FOLDER / "marks")
    with PartFolder(staging, marks) as parts:
        corpus = CorpusPass(
            reader,
            staging,
            shard_size=shard_size,
            marks=marks,
            parts=parts,
            progress=progress,
            refusal=partial(backend.shard_stage.refusal, settings),
        )
        if corpus.is_read and is_merged(marks, corpus.found.corpus_hash):
            return corpus.found
        builder = backend.builder(settings)
        if isinstance(builder, LongShards) and crew.builds_here and corpus.has_shards_to_build:
            builder.get_ready(progress)
        if backend.shard_stage.reads_first:
            corpus.read_first()
        told = corpus.is_read
        if told:
            _tell_kept(corpus, notice)
            backend.shard_stage.check_count(settings, corpus.found.num_passages)
        _build_parts(corpus, parts, builder, backend, settings, crew=crew, ram_bytes=ram_bytes, progress=progress)
    if not told:
        _tell_kept(corpus, notice)
        backend.shard_stage.check_count(settings, corpus.found.num_passages)
    work = BuildWork(
        folder=staging,
        parts=parts.path,
        shards=corpus.found.shards,
        num_passages=corpus.found.num_passages,
        ram_bytes=ram_bytes,
        progress=progress,
        marks=marks,
    )
    if marks.get(_MERGING) != corpus.found.corpus_hash:  # what is merged was merged for another corpus, if at all
        forget_merge(staging, marks)
        marks.set(_MERGING, corpus.found.corpus_hash)
    builder.merge(work)
    for path in sorted(staging.iterdir()):
        if not path.name.startswith("."):
            flush_tree(path)
    marks.set(_MERGED, corpus.found.corpus_hash)
    remove(parts.path)
    return corpus.found


def is_merged(marks: Marks, corpus_hash: str) -> bool:
    """True if the parts of this corpus have been merged and all files are on the disk."""
    return bool(marks.get(_MERGED) == corpus_hash)


def _build_parts(
    corpus: CorpusPass,
    parts: PartFolder,
    builder: IndexBuilder,
    backend: Backend,
    settings: BaseModel,
    *,
    crew: Crew,
    ram_bytes: int | None,
    progress: Progress,
) -> None:
    values = settings.model_dump(mode="json")
    shows_row = corpus.is_read or not crew.builds_here
    stage = backend.shard_stage.name(settings)

    def report(built: int) -> None:
        if shows_row:
            total = corpus.found.num_passages if corpus.is_read else None
            progress(stage, sum(shard.count for shard in corpus.kept()) + built, total)

    passages = 0
    if corpus.is_read and corpus.has_shards_to_build:
        report(0)
    with closing(iter(corpus)) as shards, ExitStack() as closed_first:
        done: Generator[Shard]
        if crew.ray_address is not None:
            resources = backend.resources(settings)
            done = build_on_ray(
                shards, parts, backend=backend.name, settings=values, address=crew.ray_address, resources=resources
            )
        elif crew.workers > 1:
            done = build_in_processes(shards, parts, backend=backend.name, settings=values, workers=crew.workers)
        else:
            if isinstance(builder, LongShards):
                builder.on_progress = lambda texts: report(passages + texts)
            done = _build_here(shards, parts, builder, ram_bytes)
        closed_first.enter_context(closing(done))
        for shard in done:
            passages += shard.count
            report(passages)
    if shows_row and passages and not corpus.is_read:
        progress(stage, corpus.found.num_passages, corpus.found.num_passages)


def _tell_kept(corpus: CorpusPass, notice: Callable[[str], None]) -> None:
    if kept := len(corpus.kept()):
        notice(f"{kept} of {len(corpus.found.shards)} shards were there already")


def _peak_since(before: int) -> int:
    peak = peak_bytes()
    return peak if peak > before else 0


def _build_here(
    shards: Iterator[ShardTexts], parts: PartFolder, builder: IndexBuilder, ram_bytes: int | None
) -> Generator[Shard]:
    before = peak_bytes()
    for work in shards:
        path = parts.begin(work.shard)
        builder.build_part(work.texts, path)
        parts.adopt(work, path)
        # What this process held before the build began is not the build's: then only what it holds now counts.
        if ram_bytes is not None and (held := max(resident_bytes(), _peak_since(before))) > ram_bytes:
            raise ValueError(
                f"--ram-gb {ram_bytes / GB:g} is too little: {held / GB:.2f} is held at shard {work.shard.number} of "
                f"{work.shard.count:,} passages; call again with more and it goes on, or with a smaller --shard-size"
            )
        yield work.shard
