"""Answers of a retrieval server, kept by query: in memory, or on disk for several processes and runs.

Keys hold the index hash, so an index that is built anew is never answered for by the old one. Values are JSON; nothing
from disk is unpickled.
"""

import hashlib
import json
import sqlite3
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from retrieval.passage import Hit, Passage


@dataclass(slots=True, kw_only=True)
class CacheStats:
    """Counters since the start, in queries."""

    hits: int = 0
    misses: int = 0

    @property
    def hit_rate(self) -> float:
        """Share of queries that were answered from the cache."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0


def query_key(source: str, query: str, k: int) -> str:
    """What an answer is kept under; `source` names the index."""
    return hashlib.sha256(json.dumps([source, k, query], ensure_ascii=True).encode("ascii")).hexdigest()


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


def _decoded(text: Any) -> list[Hit] | None:
    try:
        return [
            Hit(passage=Passage(id=id_, title=title, text=body), score=score, rank=rank)
            for rank, (id_, title, body, score) in enumerate(json.loads(text), start=1)
        ]
    except (ValueError, TypeError):
        return None


def _plain_disk() -> type:
    """diskcache's storage without the one kind of value that would be unpickled."""
    from diskcache import Disk
    from diskcache.core import MODE_PICKLE

    class PlainDisk(Disk):  # type: ignore[misc]
        def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
            return None if mode == MODE_PICKLE else super().fetch(mode, filename, value, read)

    return PlainDisk
