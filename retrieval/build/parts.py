"""The parts of shards on disk: a part counts when it is flushed, renamed and marked with the texts it was made from.

A mark holds the hash of the corpus up to the end of its shard, so a part is used again exactly where the corpus still
begins with the same passages. Flushing goes on in a thread beside the work on the next shard.
"""

import itertools
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from retrieval.build.durable import flush, flush_tree, remove
from retrieval.build.work import WORK_FOLDER, Marks, clear_merge_marks, part_path
from retrieval.searcher import Shard

_PART = "part."
_TEMPORARY = ".new-"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTexts:
    """A shard that needs its part built."""

    shard: Shard
    digest: str
    """Hash of the corpus up to the end of the shard."""
    texts: list[str]
    """What its passages say, `[shard.count]`."""


class PartFolder:
    """The parts of one build; a context manager that waits for the last flush."""

    def __init__(self, staging: Path, marks: Marks) -> None:
        self.path = staging / WORK_FOLDER / "parts"
        self._staging = staging
        self._marks = marks
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="flush-parts")
        self._waiting: deque[Future[None]] = deque()
        self._names = itertools.count()
        self._merge_is_stale = True
        self.path.mkdir(parents=True, exist_ok=True)
        for left in self.path.glob(f"{_TEMPORARY}*"):
            remove(left)

    def __enter__(self) -> "PartFolder":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._flusher.shutdown(wait=True)
        if error is None:
            self._raise_failures(everything=True)

    def has(self, shard: Shard, digest: str) -> bool:
        """True if the part of exactly these passages is whole."""
        return self._marks.get(_mark_of(shard)) == _mark_value(shard, digest) and part_path(self.path, shard).exists()

    def begin(self, shard: Shard) -> Path:
        """A new temporary path for the part of a shard; whatever part it had is gone."""
        if self._merge_is_stale:
            forget_merge(self._staging, self._marks)
            self._merge_is_stale = False
        self._marks.clear(_mark_of(shard))
        remove(part_path(self.path, shard))
        return self.path / f"{_TEMPORARY}{shard.number:08d}-{os.getpid()}-{next(self._names)}"

    def adopt(self, work: ShardTexts | tuple[Shard, str], path: Path) -> None:
        """Take a part that has been written at `path`. Returns before it is on the disk.

        Raises:
            OSError: this part, or an earlier one, could not be put on the disk.
        """
        shard, digest = (work.shard, work.digest) if isinstance(work, ShardTexts) else work
        self._raise_failures(everything=False)
        self._waiting.append(self._flusher.submit(self._put_in_place, shard, digest, path))

    def drop_from(self, number: int) -> None:
        """Remove the parts of shards that the corpus no longer has."""
        for path in self.path.iterdir():
            if path.name[:8].isdigit() and int(path.name[:8]) >= number:
                self._marks.clear(f"{_PART}{path.name[:8]}")
                remove(path)

    def _put_in_place(self, shard: Shard, digest: str, path: Path) -> None:
        flush_tree(path)
        path.rename(part_path(self.path, shard))
        flush(self.path)
        self._marks.set(_mark_of(shard), _mark_value(shard, digest))

    def _raise_failures(self, *, everything: bool) -> None:
        while self._waiting and (everything or self._waiting[0].done()):
            self._waiting.popleft().result()


def forget_merge(staging: Path, marks: Marks) -> None:
    """Remove what an earlier merge has written and marked; passages and parts stay."""
    clear_merge_marks(marks)
    for path in staging.iterdir():
        if not path.name.startswith((".", "passages.")):
            remove(path)


def passages_of_parts(marks: Marks) -> int:
    """Passages in the shards whose parts are marked as whole."""
    values = (marks.get(name) for name in marks.names(_PART))
    return sum(value[1] for value in values if value is not None)


def _mark_of(shard: Shard) -> str:
    return f"{_PART}{shard.number:08d}"


def _mark_value(shard: Shard, digest: str) -> list[object]:
    return [shard.first, shard.count, digest]
