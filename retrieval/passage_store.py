"""The passages of an index on disk: one jsonl file, and where each passage starts in it.

Nothing but arrays of numbers is mapped into memory, so a corpus of any size opens at once: `passage(row)` reads one
line, `find(id)` searches a sorted array of 64-bit id hashes and checks the id itself.
"""

import hashlib
import mmap
from array import array
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from retrieval.build.durable import write_array
from retrieval.id_ledger import id_hash
from retrieval.manifest import IndexCorruptError
from retrieval.passage import Passage

PASSAGES_FILE = "passages.jsonl"
OFFSETS_FILE = "passages.offsets.npy"
ID_HASHES_FILE = "passages.id_hashes.npy"
ID_ROWS_FILE = "passages.id_rows.npy"

_CACHED_PASSAGES = 16_384
_WRITE_BUFFER = 1 << 20


class PassageWriter:
    """Writes passages one by one. Held in memory: 16 bytes a passage, three times that in `finish`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = (folder / PASSAGES_FILE).open("wb", buffering=_WRITE_BUFFER)
        self._digest = hashlib.sha256()
        self._offsets = array("q", [0])
        self._hashes = array("Q")
        self._end = 0

    def __enter__(self) -> "PassageWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Closing writes what is buffered, and fails once more where the disk is full already.
        with nullcontext() if kind is None else suppress(OSError):
            self._file.close()

    def add(self, passage: Passage, hashed: int | None = None) -> None:
        """Append one passage; its row is the number of passages before it. `hashed` is its `id_hash`, if known."""
        line = line_of_passage(passage)
        self._file.write(line)
        self._digest.update(line)
        self._end += len(line)
        self._offsets.append(self._end)
        self._hashes.append(id_hash(passage.id) if hashed is None else hashed)

    @property
    def num_passages(self) -> int:
        """How many passages have been added."""
        return len(self._hashes)

    def digest(self) -> str:
        """The corpus hash of the passages so far: sha256 of ids, titles and texts in order."""
        return self._digest.hexdigest()

    def finish(self) -> str:
        """Write the arrays beside the passages; returns the corpus hash.

        Raises:
            OSError: the disk is full, for example.
        """
        self._file.close()
        hashes = np.frombuffer(self._hashes, dtype=np.uint64)
        order = np.argsort(hashes, kind="stable")
        write_array(self._folder / OFFSETS_FILE, np.frombuffer(self._offsets, dtype=np.int64))
        write_array(self._folder / ID_HASHES_FILE, hashes[order])
        write_array(self._folder / ID_ROWS_FILE, order.astype(np.int64, copy=False))
        return self.digest()


def line_of_passage(passage: Passage) -> bytes:
    """A passage as a line of the passages file: JSON in UTF-8 without spaces, as `json.dumps` would write it."""
    return orjson.dumps(
        {"id": passage.id, "title": passage.title, "text": passage.text}, option=orjson.OPT_APPEND_NEWLINE
    )


def passage_of_line(line: bytes) -> Passage:
    """The passage that a line of the passages file holds."""
    fields = orjson.loads(line)
    return Passage(id=fields["id"], title=fields["title"], text=fields["text"])


def passage_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold the passages of an index."""
    return tuple(folder / name for name in (PASSAGES_FILE, OFFSETS_FILE, ID_HASHES_FILE, ID_ROWS_FILE))


class PassageStore:
    """Passages by row or by id. Thread-safe; the last 16,384 passages read are kept."""

    def __init__(self, folder: Path) -> None:
        self._offsets = _mapped(folder / OFFSETS_FILE)
        self._hashes = _mapped(folder / ID_HASHES_FILE)
        self._rows = _mapped(folder / ID_ROWS_FILE)
        size = (folder / PASSAGES_FILE).stat().st_size
        if size == 0 or size != int(self._offsets[-1]) or not len(self) == len(self._hashes) == len(self._rows):
            raise IndexCorruptError(
                f"the passages in {folder} are not whole: {PASSAGES_FILE} and the arrays beside it differ in length; "
                "build the index again"
            )
        with (folder / PASSAGES_FILE).open("rb") as file:
            self._lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.passage = lru_cache(maxsize=_CACHED_PASSAGES)(self._read)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> Passage:
        """The passage of a row, not kept: for passes over the corpus that leave the cache to the searches.

        Raises:
            IndexError: no such row; rows count from 0.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of a corpus of {len(self)} passages")
        return self._read(row)

    def _read(self, row: int) -> Passage:
        start, end = self._offsets[row : row + 2].tolist()
        return passage_of_line(self._lines[start:end])

    def find(self, passage_id: str) -> Passage | None:
        """The passage with this id, or None."""
        try:
            hashed = np.uint64(id_hash(passage_id))
        except UnicodeEncodeError:
            return None
        for place in range(int(np.searchsorted(self._hashes, hashed)), len(self._hashes)):
            if self._hashes[place] != hashed:
                return None
            passage = self.passage(int(self._rows[place]))
            if passage.id == passage_id:
                return passage
        return None

    def close(self) -> None:
        """Give the mapped passages back."""
        self._lines.close()

    def __iter__(self) -> Iterator[Passage]:
        """All passages in corpus order, read as they are asked for and not kept."""
        return (self._read(row) for row in range(len(self)))


def _mapped(path: Path) -> NDArray[np.generic]:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise IndexCorruptError(f"{path} is cut off or is no array ({error}); build the index again") from None
