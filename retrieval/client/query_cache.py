"""Answers of a retrieval server, kept by query: in memory, or on disk for several processes and runs.

Keys hold the identity that the server gave with the answer, so what one index answered is never given for another.
Values are JSON, and checked like a server's answer when they are read; nothing from disk is unpickled.
"""

import asyncio
import hashlib
import json
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from retrieval.client.answer import checked_passage, checked_score
from retrieval.passage import Hit

Result = TypeVar("Result")


@dataclass(slots=True, kw_only=True)
class CacheStats:
    """Counters since the start, in queries."""

    hits: int = 0
    misses: int = 0


def query_key(source: str, query: str, k: int) -> str:
    """What an answer is kept under; `source` names the server and the index."""
    return hashlib.sha256(json.dumps([source, int(k), query], ensure_ascii=True).encode("ascii")).hexdigest()


class QueryCache(Protocol):
    """Answers by key. Bounded: what was put in longest ago, or not asked for longest, is dropped."""

    @property
    def is_fast(self) -> bool:
        """True if it needs no disk, and so no thread."""
        ...

    def get(self, key: str) -> list[Hit] | None:
        """The hits under a key, or None."""
        ...

    def put(self, key: str, hits: Sequence[Hit]) -> None:
        """Keep hits."""
        ...

    def close(self) -> None:
        """Give files back."""
        ...


class MemoryCache:
    """The last `max_queries` queries, in this process."""

    is_fast = True

    def __init__(self, max_queries: int) -> None:
        if max_queries < 1:
            raise ValueError(f"max_queries is {max_queries}; keep at least 1 query")
        self._max_queries = max_queries
        self._kept: OrderedDict[str, tuple[Hit, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str) -> list[Hit] | None:
        """The hits under a key, or None."""
        hits = self._kept.get(key)
        if hits is None:
            return None
        self._kept.move_to_end(key)
        return list(hits)

    def put(self, key: str, hits: Sequence[Hit]) -> None:
        """Keep hits, and drop what has not been asked for longest."""
        self._kept[key] = tuple(hits)
        self._kept.move_to_end(key)
        while len(self._kept) > self._max_queries:
            self._kept.popitem(last=False)

    def close(self) -> None:
        """Nothing to give back."""


class DiskCache:
    """A folder of at most about `max_bytes`, shared by processes and runs; by diskcache.

    Raises:
        ValueError: the folder cannot be used as a cache, or diskcache is not installed.
    """

    is_fast = False

    def __init__(self, folder: str | Path, *, max_bytes: int = 1 << 30) -> None:
        try:
            import diskcache
        except ImportError:
            raise ValueError("a cache on disk needs the package diskcache: pip install 'waymark[serve]'") from None
        try:
            self._kept = diskcache.Cache(
                str(folder), disk=_plain_disk(), size_limit=max_bytes, eviction_policy="least-recently-used", timeout=5
            )
        except Exception as error:  # sqlite3's errors and diskcache's own have no common base
            raise ValueError(f"{folder} cannot be used as a query cache ({error}); choose an empty folder") from error
        self._timeout: type[Exception] = diskcache.Timeout

    def get(self, key: str) -> list[Hit] | None:
        """The hits under a key, or None; also where what is there cannot be read."""
        try:
            text = self._kept.get(key)
        except (self._timeout, sqlite3.Error, OSError):
            return None
        return None if text is None else _decoded(text)

    def put(self, key: str, hits: Sequence[Hit]) -> None:
        """Keep hits, unless another process holds the folder for too long or the disk is full."""
        rows = [[hit.passage.id, hit.passage.title, hit.passage.text, hit.score] for hit in hits]
        try:
            self._kept.set(key, json.dumps(rows, ensure_ascii=True))
        except (self._timeout, sqlite3.Error, OSError):
            return

    def close(self) -> None:
        """Close the database; the folder stays."""
        self._kept.close()


class KeptAnswers:
    """A cache as an event loop asks it, for one server: what needs the disk is done in a thread.

    Args:
        cache: what keeps the answers.
        url: of the server.
    """

    def __init__(self, cache: QueryCache, url: str) -> None:
        self._cache = cache
        self._url = url

    async def get(self, source: str | None, queries: Iterable[str], k: int) -> dict[str, list[Hit]]:
        """The hits of those queries that the index `source` has answered before."""
        keys = {query: self._key(source, query, k) for query in queries}

        def look_up() -> dict[str, list[Hit]]:
            found = {query: self._cache.get(key) for query, key in keys.items()}
            return {query: hits for query, hits in found.items() if hits is not None}

        return await self._away(look_up)

    async def put(self, answers: Mapping[str, tuple[list[Hit], str | None]], k: int) -> None:
        """Keep the hits of each query under the index that they came from."""

        def put_all() -> None:
            for query, (hits, source) in answers.items():
                self._cache.put(self._key(source, query, k), hits)

        await self._away(put_all)

    def close(self) -> None:
        """Close the cache."""
        self._cache.close()

    def _key(self, source: str | None, query: str, k: int) -> str:
        return query_key(f"{self._url} {source}", query, k)

    async def _away(self, work: Callable[[], Result]) -> Result:
        return work() if self._cache.is_fast else await asyncio.to_thread(work)


def _decoded(text: Any) -> list[Hit] | None:
    """The hits of an entry; None unless every part is what `put` writes."""
    hits: list[Hit] = []
    try:
        for rank, (passage_id, title, body, score) in enumerate(json.loads(text), start=1):
            passage, number = checked_passage(passage_id, title, body), checked_score(score)
            if passage is None or number is None:
                return None
            hits.append(Hit(passage=passage, score=number, rank=rank))
    except (ValueError, TypeError, RecursionError):
        return None
    return hits


def _plain_disk() -> type:
    """diskcache's storage without the one kind of value that would be unpickled."""
    from diskcache import Disk
    from diskcache.core import MODE_PICKLE

    class PlainDisk(Disk):  # type: ignore[misc]
        def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
            return None if mode == MODE_PICKLE else super().fetch(mode, filename, value, read)

    return PlainDisk
