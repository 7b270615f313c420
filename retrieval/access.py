"""Passages by id or by title: an agent's second tool, to open a document that it has read about.

A title is looked up as it is written and, where no passage has it so, folded (`retrieval.title`): without case, with
underscores as spaces and runs of whitespace as one. A corpus can have many passages of one title (the parts of an
article); they come in its order, and are one document to a `DocumentReader`, which opens them for an event loop. Over
an index both lookups are its own, written when it was built and mapped into memory; a server's are asked for; those
over a plain list of passages are made once, in memory.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol

from retrieval.passage import Passage, is_text
from retrieval.request import RequestError
from retrieval.retriever import RetrievalError
from retrieval.search_threads import SearchThreads
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


class DocumentReader:
    """Opens whole documents from one event loop, in threads: what an agent's `open` reads from.

    A document is the passage with the id that is asked for, or all passages with that title, in corpus order.

    Args:
        retriever: an index, a combination, a server's client, or passages in a list. One that stands for another and
            must not give its documents away has a method `open_document(key, limit)` of its own.
        timeout_s: longest wait for one document in seconds. A server's client keeps its own deadline too.
        max_passages: most passages of one title; a server that allows fewer gives its own number.
        max_in_flight: documents looked for at the same time.

    Raises:
        ValueError: a setting that makes no sense, or a retriever that opens nothing.
    """

    def __init__(
        self, retriever: Any, *, timeout_s: float = 60.0, max_passages: int = 200, max_in_flight: int = 16
    ) -> None:
        if timeout_s <= 0 or max_in_flight < 1:
            raise ValueError(
                f"timeout_s is {timeout_s} and max_in_flight {max_in_flight}; both must be more than 0 for a document "
                "to be opened"
            )
        self._open = _opener(retriever)
        self._timeout_s = timeout_s
        self._max_passages = check_limit(max_passages)
        self._threads = SearchThreads(max_in_flight)
        self._slots = asyncio.Semaphore(max_in_flight)

    async def open(self, key: str) -> list[Passage]:
        """The passages of the document with this id or title, none where there is none.

        Raises:
            RetrievalError: no answer in time.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._slots:
                return await self._threads.result(lambda: self._found(key))
        except TimeoutError:
            raise RetrievalError(f"opening a document took longer than {self._timeout_s:g} s") from None

    def check(self) -> None:
        """See that documents can be opened, before anything is spent on it: blocks until the retriever has answered.

        Raises:
            ValueError: a server that searches and opens nothing, such as Search-R1's, or one that does not answer.
        """
        from retrieval.client.connection import Declined  # which needs httpx; an index does not

        try:
            self._found("is there such a document")
        except Declined as error:
            raise ValueError(
                f"the retriever finds passages and opens no documents: {error}. Serve the index with `waymark "
                "serve-index`, name its folder, or take a protocol without `open`"
            ) from error
        except RetrievalError as error:
            raise ValueError(f"the retriever was asked for a document and did not answer: {error}") from error

    def _found(self, key: str) -> list[Passage]:
        if not key.strip() or not is_text(key):
            return []
        try:
            return list(self._open(key, self._max_passages))
        except RequestError:  # the server allows fewer passages of a title, or no name as long as this
            try:
                return list(self._open(key, MAX_PASSAGES_PER_TITLE))
            except RequestError:
                return []


def _opener(retriever: Any) -> Callable[[str, int], Sequence[Passage]]:
    """How this retriever opens a document: by a method of its own, or by id and then by title."""
    own = getattr(retriever, "open_document", None)
    if own is not None:
        opener: Callable[[str, int], Sequence[Passage]] = own
        return opener
    if isinstance(retriever, Sequence) or (hasattr(retriever, "get") and hasattr(retriever, "titled")):
        access = PassageAccess(retriever)
        return lambda key, limit: access.open(key, limit=limit)
    raise ValueError(
        f"a {type(retriever).__name__} finds passages and opens no documents: it has no lookup of titles. Take an "
        "index or a server of `waymark serve-index`, or a protocol without `open`"
    )


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
