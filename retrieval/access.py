"""Passages by id or by title: an agent's second tool, to open a document that it has read about.

Titles are compared folded: Unicode-normalised (NFC), without case (`str.casefold`, so `STRASSE` finds `Straße`), and
with every run of whitespace as one space and none at the ends. Accents, punctuation and words stay: `Zurich` does not
find `Zürich`. A corpus can have many passages of one title (the parts of an article); they come in its order.
"""

import threading
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from retrieval.id_ledger import id_hash
from retrieval.passage import Passage

MAX_PASSAGES_PER_TITLE = 20
"""How many passages of one title are given unless the caller asks for more."""


def fold_title(title: str) -> str:
    """The form in which titles are compared.

    >>> fold_title("  The  STRASSE\\n") == fold_title("the Straße")
    True
    """
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", title).casefold()).split())


class TitleLookup:
    """Which rows have a title. Held in memory: 16 bytes a passage that has one.

    `titles` are read once, in corpus order, empty ones included. Only hashes are kept: the rows of a title may include
    one whose title shares its 64-bit hash, so `PassageAccess` compares the title itself.
    """

    def __init__(self, titles: Iterable[str]) -> None:
        hashed = ((row, id_hash(folded)) for row, title in enumerate(titles) if (folded := fold_title(title)))
        pairs = np.fromiter(hashed, dtype=np.dtype([("row", np.int64), ("hash", np.uint64)]))
        order = np.argsort(pairs["hash"], kind="stable")
        self._hashes: NDArray[np.uint64] = pairs["hash"][order]
        self._rows: NDArray[np.int64] = pairs["row"][order]

    def rows(self, title: str) -> list[int]:
        """The rows whose titles may be this one, in corpus order."""
        try:
            hashed = np.uint64(id_hash(fold_title(title)))
        except UnicodeEncodeError:  # half a surrogate pair, which no corpus holds
            return []
        first, last = np.searchsorted(self._hashes, hashed, side="left"), np.searchsorted(self._hashes, hashed, "right")
        found: list[int] = self._rows[first:last].tolist()
        return found


class PassageAccess:
    """Opens passages of a corpus by id or title. Thread-safe; the titles are read at the first question for one.

    Args:
        corpus: the passages by row: `Index.corpus`, or a list.
    """

    def __init__(self, corpus: Sequence[Passage]) -> None:
        self._corpus = corpus
        self._find = getattr(corpus, "find", None) or {passage.id: passage for passage in corpus}.get
        self._titles: TitleLookup | None = None
        self._lock = threading.Lock()

    def by_id(self, passage_id: str) -> Passage | None:
        """The passage with exactly this id, or None."""
        found: Passage | None = self._find(passage_id)
        return found

    def by_title(self, title: str, *, limit: int = MAX_PASSAGES_PER_TITLE) -> list[Passage]:
        """The first `limit` passages of this title, folded, in corpus order; none for a blank title.

        Raises:
            ValueError: `limit` < 1.
        """
        if limit < 1:
            raise ValueError(f"limit is {limit}; ask for at least 1 passage of a title")
        wanted = fold_title(title)
        found: list[Passage] = []
        for row in self._lookup().rows(title) if wanted else ():
            passage = self._corpus[row]
            if fold_title(passage.title) == wanted:
                found.append(passage)
            if len(found) == limit:
                break
        return found

    def open(self, key: str, *, limit: int = MAX_PASSAGES_PER_TITLE) -> list[Passage]:
        """The passage with the id `key`, else the passages with the title `key`, else none."""
        passage = self.by_id(key)
        return [passage] if passage is not None else self.by_title(key, limit=limit)

    def _lookup(self) -> TitleLookup:
        with self._lock:  # one pass over the corpus, however many ask at once
            if self._titles is None:
                self._titles = TitleLookup(self._corpus[row].title for row in range(len(self._corpus)))
            return self._titles
