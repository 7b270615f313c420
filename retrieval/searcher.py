"""What a backend has to bring: something that turns passages into files, and something that ranks their rows.

A backend knows rows (0 is the first passage of the corpus) and scores; ids, passages, checksums and the manifest are
the index's business. Building goes shard by shard, so that it can be spread over processes and go on after a kill:
every shard becomes a part on disk, and the parts are merged into the final files.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from retrieval.passage import Passage

if TYPE_CHECKING:
    from retrieval.build.work import BuildWork

Progress = Callable[[str, int, int | None], None]
"""Called as `(stage, done, total)`; `total` is None or an estimate where it is not known."""

Rows = NDArray[np.int32] | NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """The rows `first` to `first + count - 1` of a corpus; shards are numbered from 0 in corpus order."""

    number: int
    first: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a backend will need for a corpus, worked out from a measured sample; passages themselves not counted."""

    ram_bytes: int
    """Peak memory of the building process beyond the interpreter and its imports."""
    disk_bytes: int
    """Size of the backend's final files."""
    peak_disk_bytes: int
    """The most the backend has on disk at any moment of the build, parts included."""
    shard_seconds: float
    """Time to turn all shards into parts, one worker; workers divide it."""
    merge_seconds: float
    """Time to merge the parts."""
    worker_ram_bytes: int = 0
    """Peak memory of one worker beyond the interpreter and its imports; 0 takes `ram_bytes`."""
    details: Mapping[str, str] = field(default_factory=dict)
    """What else a reader of the plan should see, by label (`vocabulary`, `postings`, `encoder` ...)."""


class RowSearcher(Protocol):
    """Ranks rows. Thread-safe."""

    @property
    def num_rows(self) -> int:
        """Rows that it ranks, counted in its own files: opening compares them with the manifest's passages."""
        ...

    def top_rows(self, queries: Sequence[str], k: int) -> Sequence[tuple[Rows, NDArray[np.floating]]]:
        """For each query the best rows and their scores, `[at most k]` each, best first, equal scores by row. Sparse
        backends return positive scores only, dense ones return `k`. Queries and `k` have been checked.
        """
        ...


class PassageRows(Protocol):
    """The passages of an index by row, read as they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Passage: ...

    def __iter__(self) -> Iterator[Passage]: ...


class IndexBuilder(Protocol):
    """Turns shards of a corpus into parts, and parts into the backend's files.

    It is made anew from the backend's name and settings in every worker process. What it keeps between calls is only
    what it could compute again (a loaded encoder, a cache of stems); everything else is on disk.
    """

    def shard_size(self) -> int:
        """Passages a shard; the same for the same settings, since it may decide batch boundaries."""
        ...

    def build_part(self, texts: Sequence[str], path: Path) -> None:
        """Write the part of one shard at `path`, a file or a folder that does not exist yet.

        The caller flushes and renames it. What is written may depend on the texts and the settings only.

        Raises:
            OSError: the disk is full, for example; the build can go on later.
        """
        ...

    def merge(self, work: "BuildWork") -> None:
        """Write the final files into `work.folder` from the parts. May be killed, and called again, at any point.

        Raises:
            ValueError: nothing in the corpus can be searched for, or `work.ram_bytes` is too little.
        """
        ...

    def estimate(self, sample: Sequence[str], num_passages: int, ram_bytes: int | None) -> Estimate:
        """What a corpus of `num_passages` passages like the sample will need, measured on the sample."""
        ...


@runtime_checkable
class LongShards(Protocol):
    """What a builder has beside where its shards take long and its process needs much to begin with."""

    on_progress: Callable[[int], None] | None
    """Called with the number of texts of the shard at hand that are done."""

    def get_ready(self, progress: Progress) -> None:
        """Load what shards need, as a stage of its own: what is wrong with it is told before the corpus is read.

        Raises:
            ValueError: it cannot be loaded.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardStage:
    """How the corpus of a backend is read and its shards are built; each function is given the backend's settings."""

    name: Callable[[Any], str] = lambda settings: "indexing passages"
    """What the stage is called where it has a row of its own."""
    reads_first: bool = False
    """True if shards take so long that the whole corpus is read, and checked, before the first is built."""
    refusal: Callable[[Any, Passage], str | None] = lambda settings, passage: None
    """Why the backend cannot use a passage; None where it can. Asked for every passage while the corpus is read."""
    check_count: Callable[[Any, int], None] = lambda settings, num_passages: None
    """Raises ValueError where the settings do not fit the number of passages; asked when the corpus has been read."""


def _one_cpu(settings: Any) -> Mapping[str, float]:
    return {"num_cpus": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One retrieval backend: its settings, how it is built into a folder, how it is opened from one."""

    name: str
    settings: type[BaseModel]
    libraries: tuple[str, ...]
    """Distributions whose versions stand in the manifest."""
    builder: Callable[[Any], IndexBuilder]
    open: Callable[[Path, Any, PassageRows], RowSearcher]
    extra: str | None = None
    """The extra of this project that brings its libraries (`pip install 'waymark[EXTRA]'`); None: none is needed."""
    resources: Callable[[Any], Mapping[str, float]] = _one_cpu
    """From settings to what Ray reserves for one shard: `num_cpus`, `num_gpus`."""
    shard_stage: ShardStage = ShardStage()
    """How its corpus is read and its shards are built."""
    prefix_exact: bool = True
    """True if the first `k` rows of a deeper search are those of a search with `k`; approximate ones look further the
    deeper they go.
    """
    open_settings: frozenset[str] = frozenset()
    """Settings that only a search needs, by dotted name (`nprobe`, `encoder.device`); each opening may change them."""
