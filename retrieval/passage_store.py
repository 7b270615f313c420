"""The passages of an index on disk: one jsonl file, and where each passage starts in it.

Nothing but arrays of numbers is mapped into memory, so a corpus of any size opens at once: `passage(row)` reads one
line; `find(id)` and `titled(title)` search sorted arrays of 64-bit hashes and check the id or the title itself.
"""

import hashlib
import mmap
from array import array
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from retrieval.build.durable import write_array
from retrieval.build.lookup_writer import LookupWriter
from retrieval.id_ledger import id_hash
from retrieval.manifest import IndexCorruptError
from retrieval.passage import Passage
from retrieval.row_lookup import RowLookup, lookup_files, mapped_array
from retrieval.title import MAX_PASSAGES_PER_TITLE, check_limit, fold_title, keys_of_folded, title_key

PASSAGES_FILE = "passages.jsonl"
OFFSETS_FILE = "passages.offsets.npy"

_IDS = "id"
_TITLES = "title"

_CACHED_PASSAGES = 16_384
_WRITE_BUFFER = 1 << 20
_BLANK = -1


class PassageWriter:
    """Writes passages one by one. Held in memory: 8 bytes a passage, and `lookup_ram_bytes` for ids and for titles."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = (folder / PASSAGES_FILE).open("wb", buffering=_WRITE_BUFFER)
        self._digest = hashlib.sha256()
        self._offsets = array("q", [0])
        self._ids, self._titles = LookupWriter(folder, _IDS), LookupWriter(folder, _TITLES)
        self._end = 0
        self._last_title, self._last_title_key = "", 0

    def __enter__(self) -> "PassageWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Closing writes what is buffered, and fails once more where the disk is full already.
        with nullcontext() if kind is None else suppress(OSError):
            self._file.close()
        for lookup in (self._ids, self._titles):
            lookup.close()

    def add(self, passage: Passage, hashed: int | None = None) -> None:
        """Append one passage; its row is the number of passages before it. `hashed` is its `id_hash`, if known."""
        line = line_of_passage(passage)
        self._file.write(line)
        self._digest.update(line)
        self._end += len(line)
        row = self.num_passages
        self._offsets.append(self._end)
        self._ids.add(id_hash(passage.id) if hashed is None else hashed, row)
        title = passage.title
        if title and title != self._last_title:  # the passages of a page stand together
            folded = fold_title(title)
            self._last_title, self._last_title_key = title, title_key(folded, title) if folded else _BLANK
        if title and self._last_title_key != _BLANK:
            self._titles.add(self._last_title_key, row)

    @property
    def num_passages(self) -> int:
        """How many passages have been added."""
        return len(self._offsets) - 1

    def digest(self) -> str:
        """The corpus hash of the passages so far: sha256 of ids, titles and texts in order."""
        return self._digest.hexdigest()

    def finish(self) -> str:
        """Write the arrays beside the passages; returns the corpus hash.

        Raises:
            OSError: the disk is full, for example.
        """
        self._file.close()
        write_array(self._folder / OFFSETS_FILE, np.frombuffer(self._offsets, dtype=np.int64))
        self._ids.finish(self.num_passages)
        self._titles.finish(self.num_passages)
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
    return (
        folder / PASSAGES_FILE,
        folder / OFFSETS_FILE,
        *lookup_files(folder, _IDS),
        *lookup_files(folder, _TITLES),
    )


class PassageStore:
    """Passages by row, id or title. Thread-safe; the last 16,384 passages read are kept."""

    def __init__(self, folder: Path) -> None:
        self._offsets = mapped_array(folder / OFFSETS_FILE)
        self._ends = self._offsets.data  # one number of it takes a fifth of the time that the array takes
        self._ids, self._titles = RowLookup(folder, _IDS), RowLookup(folder, _TITLES)
        size = (folder / PASSAGES_FILE).stat().st_size
        if size == 0 or size != int(self._offsets[-1]) or len(self) != len(self._ids) or len(self) < len(self._titles):
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
        return passage_of_line(self._lines[self._ends[row] : self._ends[row + 1]])

    def find(self, passage_id: str) -> Passage | None:
        """The passage with this id, or None."""
        try:
            hashed = id_hash(passage_id)
        except UnicodeEncodeError:
            return None
        for row in self._ids.rows(hashed, hashed).tolist():
            passage = self.passage(row)
            if passage.id == passage_id:
                return passage
        return None

    def titled(self, title: str, *, limit: int = MAX_PASSAGES_PER_TITLE) -> list[Passage]:
        """The first `limit` passages with exactly this title, in corpus order; where there is none, those with this
        title folded (`fold_title`). None for a blank title. The passages are not kept.

        Raises:
            ValueError: `limit` < 1.
        """
        check_limit(limit)
        folded = fold_title(title)
        if not folded:
            return []
        try:
            key, every_key = title_key(folded, title), keys_of_folded(folded)
        except UnicodeEncodeError:
            return []
        exact = self._first(limit, self._titles.rows(key, key), lambda passage: passage.title == title)
        if exact:
            return exact
        rows = np.sort(self._titles.rows(*every_key))
        return self._first(limit, rows, lambda passage: fold_title(passage.title) == folded)

    def _first(self, limit: int, rows: NDArray[np.signedinteger], fits: Callable[[Passage], bool]) -> list[Passage]:
        return list(islice(filter(fits, (self._read(int(row)) for row in rows)), limit))

    def close(self) -> None:
        """Give the mapped passages back."""
        self._lines.close()

    def __iter__(self) -> Iterator[Passage]:
        """All passages in corpus order, read as they are asked for and not kept."""
        return (self._read(row) for row in range(len(self)))
