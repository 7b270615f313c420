"""One segment of a trajectory store: a data file, its index, and how both are mended.

Segment 0 is `trajectories.jsonl.zst` with `index.jsonl`, segment 1 `trajectories-000001.jsonl.zst` with
`index-000001.jsonl`, and so on. A store without a bound has segment 0 alone; one with a bound deletes the oldest. A
segment is there while its data file is: an index that a kill has left without one is of no use to anybody.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from agent.trajectory import Trajectory
from evaluation.trajectory_record import trajectory_from_record

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
    """Where one trajectory lies (`offset`, `length` in bytes of its segment's data file), and what is known of it.

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
    segment: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """The files of one segment; neither need be there."""

    folder: Path
    number: int

    @property
    def data(self) -> Path:
        """The compressed records."""
        return self._numbered(DATA_FILE)

    @property
    def index(self) -> Path:
        """One line for each of them."""
        return self._numbered(INDEX_FILE)

    def _numbered(self, name: str) -> Path:
        stem, ending = name.split(".", 1)
        return self.folder / (f"{stem}-{self.number:06d}.{ending}" if self.number else name)

    @property
    def num_bytes(self) -> int:
        """Disk that both files use."""
        return sum(path.stat().st_size for path in (self.data, self.index) if path.is_file())

    def delete(self) -> None:
        """The data first: a kill between the two leaves an index, which says nothing without it."""
        self.data.unlink(missing_ok=True)
        self.index.unlink(missing_ok=True)

    def entries(self) -> tuple[list[IndexEntry], int, int]:
        """What the segment holds, the number of records that cannot be read, and of broken index lines.

        With a broken line, or no index at all, the entries come from the data itself.
        """
        entries, bad_lines = self._read_index()
        if bad_lines or not self.index.is_file():
            return *self._scan(), bad_lines
        return entries, 0, bad_lines

    def repair(self, last_step: int | None) -> list[IndexEntry]:
        """Cut off what a killed run left half written and the records from the first of a step after `last_step` on.

        What is left comes back.
        """
        entries, bad_lines = self._read_index()
        rebuilt = bad_lines > 0 or not self.index.is_file()
        if rebuilt:
            entries, _ = self._scan()
        size = self.data.stat().st_size
        kept: list[IndexEntry] = []
        for entry in entries:
            later = last_step is not None and entry.step > last_step
            if later or entry.offset + entry.length > size:
                break
            kept.append(entry)
        end = kept[-1].offset + kept[-1].length if kept else 0
        if rebuilt or end != size or len(kept) != len(entries):
            with self.data.open("r+b") as file:
                file.truncate(end)
            self._write_index(kept)
        return kept

    def _read_index(self) -> tuple[list[IndexEntry], int]:
        """Entries of the index file, and the number of lines that are none. A torn last line counts as one."""
        entries: list[IndexEntry] = []
        bad = 0
        if self.index.is_file():
            for line in self.index.read_bytes().splitlines():
                try:
                    record = json.loads(line.decode("utf-8", "surrogatepass"))
                    entries.append(IndexEntry(**record, segment=self.number))
                except (ValueError, TypeError):
                    bad += 1
        return entries, bad

    def _write_index(self, entries: Sequence[IndexEntry]) -> None:
        """Replace the index file in one step, so that a kill leaves the old one or the new one."""
        scratch = self.folder / f"{self.index.name}.new"
        with scratch.open("wb") as file:
            for entry in entries:
                line = {name: getattr(entry, name) for name in IndexEntry.__slots__ if name != "segment"}
                file.write(dump(line) + b"\n")
        scratch.replace(self.index)

    def _scan(self) -> tuple[list[IndexEntry], int]:
        """Rebuild the index from the frames themselves, and count those that hold no readable record."""
        data = self.data.read_bytes()
        entries: list[IndexEntry] = []
        corrupt = 0
        start = data.find(_FRAME_MAGIC)
        while start >= 0:
            next_search = start + 1
            try:
                length = _frame_length(data, start)
                stored = _decode(data[start : start + length])
                line = index_line(start, length, stored.step, stored.trajectory, stored.extra)
                entries.append(IndexEntry(**line, segment=self.number))
                next_search = start + length
            except (zstandard.ZstdError, ValueError):
                corrupt += 1
            start = data.find(_FRAME_MAGIC, next_search)
        return entries, corrupt


def segments(folder: Path) -> list[Segment]:
    """The segments that are there, oldest first."""
    return [Segment(folder, number) for number in _numbers(folder, DATA_FILE)]


def remove_leftovers(folder: Path) -> None:
    """Delete the indexes of segments whose data is gone: a kill between the two deletions leaves one."""
    for number in set(_numbers(folder, INDEX_FILE)) - set(_numbers(folder, DATA_FILE)):
        Segment(folder, number).index.unlink()


def _numbers(folder: Path, name: str) -> list[int]:
    stem, ending = name.split(".", 1)
    pattern = re.compile(rf"{stem}(?:-(\d{{6,}}))?\.{re.escape(ending)}")
    return sorted(int(found[1] or 0) for path in folder.iterdir() if (found := pattern.fullmatch(path.name)))


def index_line(offset: int, length: int, step: int, trajectory: Trajectory, extra: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the index, as a dict of JSON types."""
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


def dump(record: Mapping[str, Any]) -> bytes:
    """One line of JSON. Raises ValueError for a number that JSON cannot hold."""
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(
            "utf-8", "surrogatepass"
        )
    except ValueError as error:
        raise ValueError(f"a trajectory holds a number that JSON cannot hold (NaN or infinite): {error}") from error


def read_frame(file: BinaryIO, offset: int, length: int) -> StoredTrajectory:
    """One record. Raises ValueError where it is damaged."""
    file.seek(offset)
    return _decode(file.read(length))


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


def _frame_length(data: bytes, start: int) -> int:
    """Bytes of the frame that begins at `start`. Raises ValueError where it does not end."""
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    for chunk in range(start, len(data), _SCAN_CHUNK_BYTES):
        decompressor.decompress(data[chunk : chunk + _SCAN_CHUNK_BYTES])
        if decompressor.eof:
            return min(chunk + _SCAN_CHUNK_BYTES, len(data)) - len(decompressor.unused_data) - start
    raise ValueError("torn frame")
