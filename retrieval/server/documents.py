"""`POST /access`: documents by id, by title, or by what ASearcher calls their url."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from retrieval.access import PassageAccess
from retrieval.passage import Passage
from retrieval.request import RequestError
from retrieval.retriever import RetrievalError, Retriever
from retrieval.search_threads import SearchThreads
from retrieval.server.dialects import check_texts, contents_of, shown
from retrieval.server.refusal import Refusal, bad_request
from retrieval.server.settings import ServerSettings
from retrieval.title import MAX_PASSAGES_PER_TITLE

Answer = TypeVar("Answer")

KEYS = ("id", "ids", "title", "titles", "url", "urls")
"""What a body may ask by; a plural takes an array and is answered with one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRequest:
    """A checked request for documents. `by` is `id`, `title` or `url`."""

    by: str
    names: Sequence[str]
    is_list: bool
    limit: int
    """Most passages of one title."""


def parse_access(body: Any, settings: ServerSettings) -> AccessRequest:
    """Check a decoded body.

    Raises:
        Refusal: 422.
    """
    example = '{"id": "..."}, {"ids": [...]}, {"title": "..."}, {"titles": [...]} or {"urls": [...]}'
    if not isinstance(body, dict):
        raise bad_request(f"the body is {shown(body)}; send an object: {example}")
    given = [key for key in KEYS if body.get(key) is not None]
    if len(given) != 1:
        named = " and ".join(given) or "none"
        raise bad_request(f"of the keys {', '.join(KEYS)} the body has {named}; send exactly one: {example}")
    [key] = given
    value, is_list = body[key], key.endswith("s")
    if is_list != isinstance(value, list):
        raise bad_request(f"{key} is {shown(value)}; it must be {'an array of strings' if is_list else 'a string'}")
    names = value if is_list else [value]
    check_texts(names, key.removesuffix("s"), settings, key=key)
    limit = _limit(body.get("limit"), 1 if key in ("id", "ids") else len(names), settings)
    return AccessRequest(by=key.removesuffix("s"), names=names, is_list=is_list, limit=limit)


def _limit(value: Any, num_names: int, settings: ServerSettings) -> int:
    if value is None:
        return min(MAX_PASSAGES_PER_TITLE, settings.max_k, max(1, settings.max_hits // max(num_names, 1)))
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON has one kind of number: 3.0 is 3
    if type(value) is not int or not 1 <= value <= settings.max_k:
        raise bad_request(f"limit is {shown(value)}; ask for 1 to {settings.max_k} passages of a title")
    limit: int = value
    if limit * num_names > settings.max_hits:
        raise bad_request(
            f"{num_names} names with up to {limit} passages each may make {num_names * limit} passages; at most "
            f"{settings.max_hits} are given in one answer: send fewer, or a lower limit"
        )
    return limit


class Documents:
    """Opens documents in threads: they are read from disk, or asked for where what is served is a server itself."""

    def __init__(
        self,
        retriever: Retriever,
        settings: ServerSettings,
        on_hanging: Callable[[int], None] = lambda change: None,
    ) -> None:
        self._retriever = retriever
        self._timeout_s = settings.timeout_s
        self._threads = SearchThreads(settings.max_hanging, on_hanging)
        self._slots = asyncio.Semaphore(settings.max_in_flight)
        self._waiting = 0
        source: Any = retriever if hasattr(retriever, "titled") else getattr(retriever, "corpus", None)
        self._access = PassageAccess(source) if source is not None else None

    @property
    def waiting(self) -> int:
        """Names that have been asked for and are not being looked up yet."""
        return self._waiting

    def check(self) -> None:
        """Refuse where nothing would be opened.

        Raises:
            SearchesHang: `max_hanging` openings that were given up on still run.
        """
        self._threads.check()

    async def open(self, request: AccessRequest, written: Callable[[Any], Answer]) -> Answer:
        """What `written` makes, in the thread, of the documents: one, or a list of them with null for what is not
        there; for titles the passages that have the title.

        Raises:
            Refusal: 404 for a single document that is not there.
            RetrievalError: it took longer than the timeout, the wait for one of `max_in_flight` places included;
                `SearchesHang`, at once, where too many hang.
        """
        self.check()
        try:
            async with asyncio.timeout(self._timeout_s), self._place(len(request.names)):
                return await self._threads.result(lambda: written(self._found(request)))
        except TimeoutError:
            raise RetrievalError(f"opening documents took longer than {self._timeout_s:g} s") from None

    @asynccontextmanager
    async def _place(self, num_names: int) -> AsyncIterator[None]:
        """A place among the threads; who gives up on a thread gives its place to the next, as with searches."""
        self._waiting += num_names
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= num_names
        try:
            yield
        finally:
            self._slots.release()

    def _found(self, request: AccessRequest) -> Any:
        found = [self._find(request.by, name, request.limit) for name in request.names]
        if request.is_list:
            return found
        if not found[0]:
            raise Refusal(404, f"no document has the {request.by} {request.names[0][:200]!r}")
        return found[0]

    def _find(self, by: str, name: str, limit: int) -> Any:
        match by:
            case "id":
                return _document(self._by_id(name))
            case "title":
                return [_document(passage) for passage in self._by_title(name, limit)]
            case _:
                return self._by_url(name, limit)

    def _by_id(self, name: str) -> Passage | None:
        try:
            return self._retriever.get(name)
        except KeyError:
            return None

    def _by_title(self, title: str, limit: int) -> list[Passage]:
        if self._access is None:
            raise RequestError("this retriever opens documents by id only; ask by `id` or `ids`")
        return self._access.by_title(title, limit=limit)

    def _by_url(self, url: str, limit: int) -> dict[str, Any] | None:
        """By id; else by title; else by the title at the end of a Wikipedia address, all its passages as one page."""
        passage = self._by_id(url)
        if passage is not None:
            return _document(passage)
        if self._access is None:
            return None
        passages = self._by_title(url, limit) or self._by_title(title_in_url(url), limit)
        if len(passages) < 2:
            return _document(passages[0]) if passages else None
        text = "\n".join(passage.text for passage in passages)
        return _document(Passage(id=passages[0].id, title=passages[0].title, text=text))


def title_in_url(url: str) -> str:
    """The title that a Wikipedia address ends in, or nothing.

    >>> title_in_url("https://en.wikipedia.org/wiki/Ada_Lovelace#Work")
    'Ada Lovelace'
    """
    try:
        _, found, name = urlsplit(url).path.rpartition("/wiki/")
    except ValueError:  # such as half an IPv6 address
        return ""
    return unquote(name).replace("_", " ") if found else ""


def _document(passage: Passage | None) -> dict[str, Any] | None:
    if passage is None:
        return None
    return {"id": passage.id, "title": passage.title, "text": passage.text, "contents": contents_of(passage)}
