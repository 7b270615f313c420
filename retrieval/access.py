"""Passages by id or by title: an agent's second tool, to open a document that it has read about.

A title is looked up as it is written and, where no passage has it so, folded (`retrieval.title`): without case, with
underscores as spaces and runs of whitespace as one. A corpus can have many passages of one title (the parts of an
article); they come in its order. Over an index both lookups are its own, written when it was built and mapped into
memory; a server's are asked for; those over a plain list of passages are made once, in memory.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

from retrieval.passage import Passage
from retrieval.title import MAX_PASSAGES_PER_TITLE, check_limit, fold_title


class OpensTitles(Protocol):
    """What has a lookup of its own: an `Index`, the retrievers built on one, a server's client."""

    def get(self, passage_id: str) -> Passage:
        """The passage with this id, or KeyError."""
        ...

    def titled(self, title: str, *, limit: int = MAX_PASSAGES_PER_TITLE) -> list[Passage]:
        """The first `limit` passages of this title."""
        ...


class PassageAccess:
    """Opens passages of a corpus by id or title. Thread-safe.

    Args:
        source: a retriever that knows its titles, or the passages themselves in corpus order.
    """

    def __init__(self, source: OpensTitles | Sequence[Passage]) -> None:
        self._source = ListedPassages(source) if isinstance(source, Sequence) else source

    def by_id(self, passage_id: str) -> Passage | None:
        """The passage with exactly this id, or None."""
        try:
            return self._source.get(passage_id)
        except KeyError:
            return None

    def by_title(self, title: str, *, limit: int = MAX_PASSAGES_PER_TITLE) -> list[Passage]:
        """The first `limit` passages of this title in corpus order: those that have it as it is written, else those
        that have it folded; none for a blank title.

        Raises:
            ValueError: `limit` < 1.
        """
        return self._source.titled(title, limit=check_limit(limit))

    def open(self, key: str, *, limit: int = MAX_PASSAGES_PER_TITLE) -> list[Passage]:
        """The passage with the id `key`, else the passages with the title `key`, else none."""
        passage = self.by_id(key)
        return [passage] if passage is not None else self.by_title(key, limit=limit)


class ListedPassages:
    """Passages in memory by id and by title; the titles are sorted at the first question for one."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        self._by_id = {passage.id: passage for passage in passages}

    def get(self, passage_id: str) -> Passage:
        """The passage with this id.

        Raises:
            KeyError: no such passage.
        """
        return self._by_id[passage_id]

    def titled(self, title: str, *, limit: int = MAX_PASSAGES_PER_TITLE) -> list[Passage]:
        """The first `limit` passages of this title; see `PassageAccess.by_title`."""
        folded = self._by_title.get(fold_title(title), [])
        return ([passage for passage in folded if passage.title == title] or folded)[:limit]

    @cached_property
    def _by_title(self) -> dict[str, list[Passage]]:
        titles: dict[str, list[Passage]] = {}
        for passage in self._passages:
            if folded := fold_title(passage.title):
                titles.setdefault(folded, []).append(passage)
        return titles
