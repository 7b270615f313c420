"""Trajectories on disk: compressed, appended to while a run goes on, and readable one at a time.

A folder holds `trajectories.jsonl.zst` (one zstandard frame per trajectory, so `zstdcat` prints plain jsonl) and
`index.jsonl` (one line per frame: offset, length, id, question, step, finish reason, and the scalars of `extra`). A
frame is written and flushed before its index line, so a killed run leaves at most one torn frame, and reopening the
writer cuts it off. With a bound on their disk, trajectories lie in several such pairs of files, the segments
(`evaluation.trajectory_segment`), and the oldest is deleted before the bound is passed. The reader never stops at
damage: it counts what it could not read, and rebuilds a broken index by scanning the data.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import zstandard

from agent.trajectory import Trajectory
from evaluation.trajectory_record import plain, trajectory_record
from evaluation.trajectory_segment import (
    DATA_FILE,
    INDEX_FILE,
    IndexEntry,
    Segment,
    StoredTrajectory,
    dump,
    index_line,
    read_frame,
    remove_leftovers,
    segments,
)

__all__ = [
    "DATA_FILE",
    "INDEX_FILE",
    "IndexEntry",
    "StoredTrajectory",
    "TrajectoryStore",
    "TrajectoryWriter",
    "read_trajectories",
]

SEGMENTS_IN_BOUND = 16
"""A segment ends at this part of the bound, so that deleting one takes a sixteenth of what is kept."""


class TrajectoryWriter:
    """Appends trajectories to a folder, creating it where needed; a torn end left by a killed run is cut off.

    Args:
        folder: of the store.
        max_bytes: disk that data and index may use together; None is no bound. Before it would be passed, the oldest
            steps are deleted, a segment at a time. The newest step is never deleted, however large.
        tell: told once, in a sentence, when the writer deletes for the first time in this folder.

    Raises:
        ValueError: a bound of 0 or less.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        max_bytes: int | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        if max_bytes is not None and max_bytes <= 0:
            raise ValueError(f"max_bytes is {max_bytes}; give the bytes that may be used, or None for no bound")
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._max_bytes = max_bytes
        self._tell = tell
        self._compressor = zstandard.ZstdCompressor(level=3)
        self._bytes: dict[Segment, int] = {}
        self._last_step: int | None = None
        self._has_deleted = False
        self._repair(None)

    def keep_until(self, last_step: int) -> None:
        """Cut the store off before the first record of a step after `last_step`.

        A resumed run calls this with its checkpoint's step, because what came later will be sampled again.
        """
        self.close()
        self._repair(last_step)

    def append(
        self,
        step: int,
        trajectories: Sequence[Trajectory],
        extra: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Write trajectories of one step; `extra` has one mapping for each (rewards, advantages, em ...), NaN as null.

        Raises:
            ValueError: `extra` has another length, or a value that JSON cannot hold; then nothing is written.
        """
        if extra is not None and len(extra) != len(trajectories):
            raise ValueError(f"{len(trajectories)} trajectories but extra for {len(extra)}; give one mapping for each")
        frames: list[bytes] = []
        lines: list[dict[str, Any]] = []
        offset = 0
        for i, trajectory in enumerate(trajectories):
            more: dict[str, Any] = plain(extra[i]) if extra is not None else {}
            record = {"step": step, "trajectory": trajectory_record(trajectory), "extra": more}
            frame = self._compressor.compress(dump(record) + b"\n")
            frames.append(frame)
            lines.append(index_line(offset, len(frame), step, trajectory, more))
            offset += len(frame)
        self._make_room(step, offset + sum(len(dump(line)) + _OFFSET_DIGITS for line in lines))
        for line in lines:
            line["offset"] += self._end
        data, index = b"".join(frames), b"".join(dump(line) + b"\n" for line in lines)
        self._data.write(data)
        self._data.flush()
        self._index.write(index)
        self._index.flush()
        self._end += len(data)
        self._bytes[self._segment] += len(data) + len(index)
        self._last_step = step

    def close(self) -> None:
        """Close both files. Safe to call twice."""
        self._data.close()
        self._index.close()

    def __enter__(self) -> "TrajectoryWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _make_room(self, step: int, num_bytes: int) -> None:
        """Begin a segment where the last is long enough, and delete the oldest until `num_bytes` more fit."""
        if self._max_bytes is None:
            return
        used = self._bytes[self._segment]
        if used and step != self._last_step and used + num_bytes > self._max_bytes / SEGMENTS_IN_BOUND:
            self.close()
            self._open(Segment(self._folder, self._segment.number + 1), 0)
        while len(self._bytes) > 1 and sum(self._bytes.values()) + num_bytes > self._max_bytes:
            oldest = next(iter(self._bytes))
            oldest.delete()
            del self._bytes[oldest]
            if not self._has_deleted:
                self._has_deleted = True
                self._tell(
                    f"trajectories in {self._folder} reach their bound of {self._max_bytes / 1e9:g} GB at step {step}: "
                    "the oldest are deleted from now on (trajectories_gb)"
                )

    def _open(self, segment: Segment, end: int) -> None:
        """Go on with a segment, at this byte of its data."""
        self._segment = segment
        self._end = end
        self._data: BinaryIO = segment.data.open("ab")
        self._index: BinaryIO = segment.index.open("ab")
        self._bytes[segment] = segment.num_bytes

    def _repair(self, last_step: int | None) -> None:
        """Mend what a killed run left, cut off steps after `last_step`, and go on with the newest segment.

        Later segments go first, so that a kill in between leaves a beginning of the store and no gap.
        """
        remove_leftovers(self._folder)
        there = segments(self._folder)
        kept: list[IndexEntry] = []
        first = next((i for i, segment in enumerate(there) if _goes_beyond(segment, last_step)), len(there) - 1)
        for segment in reversed(there[first + 1 :]):
            segment.delete()
        del there[first + 1 :]
        if there:
            kept = there[-1].repair(last_step)
        # What is deleted leaves the numbers above it, so the first number tells it after a resume.
        self._has_deleted = bool(there) and there[0].number > 0
        self._bytes = {segment: segment.num_bytes for segment in there}
        self._last_step = kept[-1].step if kept else None
        last = there[-1] if there else Segment(self._folder, 0)
        self._open(last, kept[-1].offset + kept[-1].length if kept else 0)


_OFFSET_DIGITS = 20
"""Room for what an offset grows by when its frame's place is known, and for the line's end."""


def _goes_beyond(segment: Segment, last_step: int | None) -> bool:
    """True if a segment has a record of a later step."""
    return last_step is not None and any(entry.step > last_step for entry in segment.entries()[0])


class TrajectoryStore:
    """A folder of trajectories, read lazily: iterate over all, or take one by id or position.

    Attributes:
        entries: the index, in the order of writing.
        num_corrupt: records that could not be read so far (counted while reading, and while an index is rebuilt).
        num_bad_index_lines: broken lines of the index; where there are any, it was rebuilt from the data.
        num_deleted: records that a run which goes on has deleted since, to stay within its bound (counted likewise).

    Raises:
        FileNotFoundError: the folder holds no trajectories.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        there = segments(self._folder) if self._folder.is_dir() else []
        if not there:
            raise FileNotFoundError(f"no trajectories in {self._folder}: it has no {DATA_FILE}; give a run's folder")
        self.num_corrupt = self.num_bad_index_lines = self.num_deleted = 0
        self.entries: list[IndexEntry] = []
        for segment in there:
            try:
                entries, corrupt, bad_lines = segment.entries()
            except FileNotFoundError:
                continue  # deleted since the folder was listed
            self.entries += entries
            self.num_corrupt += corrupt
            self.num_bad_index_lines += bad_lines

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[StoredTrajectory]:
        file: BinaryIO | None = None
        number = -1
        try:
            for entry in self.entries:
                if entry.segment != number:
                    if file is not None:
                        file.close()
                    file, number = self._opened(entry), entry.segment
                if file is None:
                    self.num_deleted += 1
                    continue
                try:
                    yield read_frame(file, entry.offset, entry.length)
                except ValueError:
                    self.num_corrupt += 1
        finally:
            if file is not None:
                file.close()

    def read(self, which: str | int) -> StoredTrajectory:
        """One trajectory, by its id (the last one written under it) or its position, without reading the others.

        Raises:
            KeyError: no trajectory has that id, or it has been deleted since.
            IndexError: no trajectory has that position.
            ValueError: its record is damaged.
        """
        if isinstance(which, int):
            entry = self.entries[which]
        else:
            found = [entry for entry in self.entries if entry.id == which]
            if not found:
                raise KeyError(f"no trajectory {which!r} among the {len(self.entries)} in {self._folder}")
            entry = found[-1]
        file = self._opened(entry)
        if file is None:
            raise KeyError(
                f"trajectory {entry.id!r} of step {entry.step} has been deleted since {self._folder} was opened, "
                "because the run's trajectories reached their bound; open the folder again for what is left"
            )
        with file:
            return read_frame(file, entry.offset, entry.length)

    def _opened(self, entry: IndexEntry) -> BinaryIO | None:
        """The data file that an entry lies in, or None if it has been deleted since."""
        try:
            return Segment(self._folder, entry.segment).data.open("rb")
        except FileNotFoundError:
            return None


def read_trajectories(folder: str | Path) -> TrajectoryStore:
    """Open a folder that a `TrajectoryWriter` wrote, finished or not."""
    return TrajectoryStore(folder)
