"""The passages of an index on disk: one jsonl file, and where each passage starts in it.

Nothing but arrays of numbers is mapped into memory, so a corpus of any size opens at once: `passage(row)` reads one
line, `find(id)` searches a sorted array of 64-bit id hashes and checks the id itself.
"""

import hashlib
import json
import mmap
from array import array
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.id_ledger import id_hash
from retrieval.passage import Passage

PASSAGES_FILE = "passages.jsonl"
OFFSETS_FILE = "passages.offsets.npy"
ID_HASHES_FILE = "passages.id_hashes.npy"
ID_ROWS_FILE = "passages.id_rows.npy"

_CACHED_PASSAGES = 16_384


class PassageWriter:
    """Writes passages one by one. Held in memory: 16 bytes a passage."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = (folder / PASSAGES_FILE).open("wb")
        self._digest = hashlib.sha256()
        self._offsets = array("q", [0])
        self._hashes = array("Q")

    def __enter__(self) -> "PassageWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, passage: Passage) -> None:
        """Append one passage; its row is the number of passages before it."""
        row = {"id": passage.id, "title": passage.title, "text": passage.text}
        line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n"
        self._file.write(line)
        self._digest.update(line)
        self._offsets.append(self._offsets[-1] + len(line))
        self._hashes.append(id_hash(passage.id))

    @property
    def num_passages(self) -> int:
        """How many passages have been added."""
        return len(self._hashes)

    def finish(self) -> str:
        """Write the arrays beside the passages; returns the corpus hash: sha256 of ids, titles and texts in order."""
        self._file.close()
        hashes = np.frombuffer(self._hashes, dtype=np.uint64)
        order = np.argsort(hashes, kind="stable")
        np.save(self._folder / OFFSETS_FILE, np.frombuffer(self._offsets, dtype=np.int64), allow_pickle=False)
        np.save(self._folder / ID_HASHES_FILE, hashes[order], allow_pickle=False)
        np.save(self._folder / ID_ROWS_FILE, order.astype(np.int64), allow_pickle=False)
        return self._digest.hexdigest()


class PassageStore:
    """Passages by row or by id. Thread-safe; the last 16,384 passages read are kept."""

    def __init__(self, folder: Path) -> None:
        self._offsets = _mapped(folder / OFFSETS_FILE)
        self._hashes = _mapped(folder / ID_HASHES_FILE)
        self._rows = _mapped(folder / ID_ROWS_FILE)
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
        fields = json.loads(self._lines[self._offsets[row] : self._offsets[row + 1]])
        return Passage(id=fields["id"], title=fields["title"], text=fields["text"])

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
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
