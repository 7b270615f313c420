"""Trajectories on disk: compressed, appended to while a run goes on, and readable one at a time.

A folder holds `trajectories.jsonl.zst` (one zstandard frame per trajectory, so `zstdcat` prints plain jsonl) and
`index.jsonl` (one line per frame: offset, length, id, question, step, finish reason, and the scalars of `extra`). A
frame is written and flushed before its index line, so a killed run leaves at most one torn frame, and reopening the
writer cuts it off. The reader never stops at damage: it counts what it could not read, and rebuilds a broken index by
scanning the data.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import zstandard

from agent.trajectory import Trajectory
from evaluation.trajectory_record import plain, trajectory_from_record, trajectory_record

DATA_FILE = "trajectories.jsonl.zst"
INDEX_FILE = "index.jsonl"
_FRAME_MAGIC = b"\x28\xb5\x2f\xfd"
_MAX_RECORD_BYTES = 1 << 30
_SCAN_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTrajectory:
    """A trajectory as it was appended: the training step, and what the writer was told about it."""

    step: int
    trajectory: Trajectory
    extra: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """Where one trajectory lies (`offset`, `length` in bytes of the data file) and what is known without reading it.

    `scalars` holds the numbers, texts and flags of the writer's `extra`.
    """

    offset: int
    length: int
    id: str
    question_id: str
    step: int
    finish_reason: str
    num_turns: int
    num_searches: int
    scalars: dict[str, Any]


class TrajectoryWriter:
    """Appends trajectories to a folder, creating it where needed; a torn end left by a killed run is cut off."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._compressor = zstandard.ZstdCompressor(level=3)
        self._end = self._repair(None)
        self._data, self._index = self._open_files()

    def keep_until(self, last_step: int) -> None:
        """Cut the store off before the first record of a step after `last_step`.

        A resumed run calls this with its checkpoint's step, because what came later will be sampled again.
        """
        self.close()
        self._end = self._repair(last_step)
        self._data, self._index = self._open_files()

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
        lines: list[bytes] = []
        offset = self._end
        for i, trajectory in enumerate(trajectories):
            more: dict[str, Any] = plain(extra[i]) if extra is not None else {}
            record = {"step": step, "trajectory": trajectory_record(trajectory), "extra": more}
            frame = self._compressor.compress(_dump(record) + b"\n")
            frames.append(frame)
            lines.append(_dump(_entry_record(offset, len(frame), step, trajectory, more)) + b"\n")
            offset += len(frame)
        self._data.write(b"".join(frames))
        self._data.flush()
        self._index.write(b"".join(lines))
        self._index.flush()
        self._end = offset

    def close(self) -> None:
        """Close both files. Safe to call twice."""
        self._data.close()
        self._index.close()

    def __enter__(self) -> "TrajectoryWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _open_files(self) -> tuple[BinaryIO, BinaryIO]:
        return (self._folder / DATA_FILE).open("ab"), (self._folder / INDEX_FILE).open("ab")

    def _repair(self, last_step: int | None) -> int:
        """Cut off what a killed run left half written and steps after `last_step`; the byte where to go on."""
        data_path = self._folder / DATA_FILE
        if not data_path.exists():
            (self._folder / INDEX_FILE).unlink(missing_ok=True)
            return 0
        entries, bad_lines = _read_index(self._folder)
        rebuilt = bad_lines > 0 or not (self._folder / INDEX_FILE).is_file()
        if rebuilt:
            entries, _ = _scan(self._folder)
        size = data_path.stat().st_size
        kept: list[IndexEntry] = []
        for entry in entries:
            whole = entry.offset + entry.length <= size
            if not whole or (last_step is not None and entry.step > last_step):
                break
            kept.append(entry)
        end = kept[-1].offset + kept[-1].length if kept else 0
        if rebuilt or end != size or len(kept) != len(entries):
            with data_path.open("r+b") as file:
                file.truncate(end)
            _write_index(self._folder, kept)
        return end


class TrajectoryStore:
    """A folder of trajectories, read lazily: iterate over all, or take one by id or position.

    Attributes:
        entries: the index, in the order of writing.
        num_corrupt: records that could not be read so far (counted while reading, and while an index is rebuilt).
        num_bad_index_lines: broken lines of the index file; when there are any, the index was rebuilt from the data.

    Raises:
        FileNotFoundError: the folder holds no trajectories.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        if not (self._folder / DATA_FILE).is_file():
            raise FileNotFoundError(f"no trajectories in {self._folder}: it has no {DATA_FILE}; give a run's folder")
        self.num_corrupt = 0
        self.entries, self.num_bad_index_lines = _read_index(self._folder)
        if self.num_bad_index_lines or not (self._folder / INDEX_FILE).is_file():
            self.entries, self.num_corrupt = _scan(self._folder)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[StoredTrajectory]:
        with (self._folder / DATA_FILE).open("rb") as file:
            for entry in self.entries:
                try:
                    yield _read_frame(file, entry.offset, entry.length)
                except ValueError:
                    self.num_corrupt += 1

    def read(self, which: str | int) -> StoredTrajectory:
        """One trajectory, by its id (the last one written under it) or its position, without reading the others.

        Raises:
            KeyError: no trajectory has that id.
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
        with (self._folder / DATA_FILE).open("rb") as file:
            return _read_frame(file, entry.offset, entry.length)


def read_trajectories(folder: str | Path) -> TrajectoryStore:
    """Open a folder that a `TrajectoryWriter` wrote, finished or not."""
    return TrajectoryStore(folder)


def _dump(record: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(
            "utf-8", "surrogatepass"
        )
    except ValueError as error:
        raise ValueError(f"a trajectory holds a number that JSON cannot hold (NaN or infinite): {error}") from error


def _entry_record(
    offset: int, length: int, step: int, trajectory: Trajectory, extra: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "offset": offset,
        "length": length,
        "id": trajectory.id,
        "question_id": trajectory.question_id,
        "step": step,
        "finish_reason": trajectory.finish_reason,
        "num_turns": trajectory.num_turns,
        "num_searches": trajectory.num_searches,
        "scalars": {key: value for key, value in extra.items() if not isinstance(value, (dict, list))},
    }


def _read_index(folder: Path) -> tuple[list[IndexEntry], int]:
    """Entries of the index file, and the number of lines that are none. A torn last line counts as one."""
    path = folder / INDEX_FILE
    entries: list[IndexEntry] = []
    bad = 0
    if path.is_file():
        for line in path.read_bytes().splitlines():
            try:
                entries.append(IndexEntry(**json.loads(line.decode("utf-8", "surrogatepass"))))
            except (ValueError, TypeError):
                bad += 1
    return entries, bad


def _write_index(folder: Path, entries: Sequence[IndexEntry]) -> None:
    """Replace the index file in one step, so that a kill leaves the old one or the new one."""
    scratch = folder / f"{INDEX_FILE}.new"
    with scratch.open("wb") as file:
        for entry in entries:
            file.write(_dump({name: getattr(entry, name) for name in IndexEntry.__slots__}) + b"\n")
    scratch.replace(folder / INDEX_FILE)


def _decode(frame: bytes) -> StoredTrajectory:
    """Raises ValueError for a frame or record that cannot be read."""
    try:
        if zstandard.frame_content_size(frame) > _MAX_RECORD_BYTES:
            raise ValueError(f"it claims more than {_MAX_RECORD_BYTES} bytes")
        text = zstandard.ZstdDecompressor().decompress(frame, max_output_size=_MAX_RECORD_BYTES)
        record = json.loads(text.decode("utf-8", "surrogatepass"))
        return StoredTrajectory(
            step=record["step"], trajectory=trajectory_from_record(record["trajectory"]), extra=record["extra"]
        )
    except (zstandard.ZstdError, KeyError, TypeError, ValueError, MemoryError) as error:
        raise ValueError(f"damaged trajectory record: {error}") from error


def _read_frame(file: BinaryIO, offset: int, length: int) -> StoredTrajectory:
    file.seek(offset)
    return _decode(file.read(length))


def _scan(folder: Path) -> tuple[list[IndexEntry], int]:
    """Rebuild the index from the frames themselves, and count those that hold no readable record."""
    data = (folder / DATA_FILE).read_bytes()
    entries: list[IndexEntry] = []
    corrupt = 0
    start = data.find(_FRAME_MAGIC)
    while start >= 0:
        next_search = start + 1
        try:
            length = _frame_length(data, start)
            stored = _decode(data[start : start + length])
            entries.append(IndexEntry(**_entry_record(start, length, stored.step, stored.trajectory, stored.extra)))
            next_search = start + length
        except (zstandard.ZstdError, ValueError):
            corrupt += 1
        start = data.find(_FRAME_MAGIC, next_search)
    return entries, corrupt


def _frame_length(data: bytes, start: int) -> int:
    """Bytes of the frame that begins at `start`. Raises ValueError where it does not end."""
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    for chunk in range(start, len(data), _SCAN_CHUNK_BYTES):
        decompressor.decompress(data[chunk : chunk + _SCAN_CHUNK_BYTES])
        if decompressor.eof:
            return min(chunk + _SCAN_CHUNK_BYTES, len(data)) - len(decompressor.unused_data) - start
    raise ValueError("torn frame")
