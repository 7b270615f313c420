"""A retrieval server as a `Retriever`: what takes an index takes a server, by config.

>>> with HttpRetriever("http://127.0.0.1:8000") as retriever:                                   # doctest: +SKIP
...     [hit.passage.title for hit in retriever.search(["who painted the ceiling"], k=3)[0]]

The work is done by an `AsyncHttpRetriever` on an event loop of its own; coroutines use that one directly, or share this
one through a `MicroBatcher`, which makes one request of the queries that wait. In a forked process (multiprocessing, a
DataLoader's workers) it begins anew: connections, circuit and a cache in memory are not shared with the parent.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from weakref import WeakSet

from retrieval.client.async_retriever import AsyncHttpRetriever
from retrieval.client.query_cache import CacheStats, DiskCache, MemoryCache, QueryCache
from retrieval.passage import Hit, Passage
from retrieval.title import MAX_PASSAGES_PER_TITLE

Result = TypeVar("Result")

Work = Callable[[AsyncHttpRetriever], Coroutine[Any, Any, Result]]
"""What to do with the client, on its loop."""

_of_the_parent: list[object] = []
"""What a forked process has of its parent's clients: never used, and never collected, which would close it."""


def query_cache(
    *, queries: int = 0, folder: str | Path | None = None, folder_bytes: int = 1 << 30
) -> MemoryCache | DiskCache | None:
    """The cache that these settings ask for: on disk where there is a folder, in memory for `queries` > 0, or none.

    Raises:
        ValueError: a negative number, or both a folder and a number of queries.
    """
    if queries < 0:
        raise ValueError(f"cache_queries is {queries}; give 0 for no cache, or how many queries to keep")
    if folder is not None and queries:
        raise ValueError("both cache_queries and cache_folder are given; a cache is in memory or on disk, name one")
    if folder is not None:
        return DiskCache(folder, max_bytes=folder_bytes)
    return MemoryCache(queries) if queries else None


class HttpRetriever:
    """Searches a retrieval server; blocking, thread-safe, a context manager.

    Args:
        url: of the server, `http://host:port`.
        cache_queries: how many queries' hits to keep in memory; 0 keeps none.
        cache_folder: a folder to keep them in instead, shared by processes and runs.
        cache_bytes: about how large the folder may grow.
        options: of `AsyncHttpRetriever`: timeout_s, attempt_timeout_s, retries, backoff_s, token, max_connections,
            max_queries, breaker_failures, breaker_pause_s ...

    Raises:
        ValueError: a URL or setting that makes no sense. The server is not asked before it is needed.
    """

    prefix_depth: ClassVar[int] = 0
    """Nothing is known of how a server's deeper searches differ, so batches keep to one `k`."""

    def __init__(
        self,
        url: str,
        *,
        cache_queries: int = 0,
        cache_folder: str | Path | None = None,
        cache_bytes: int = 1 << 30,
        **options: Any,
    ) -> None:
        def client() -> AsyncHttpRetriever:
            cache: QueryCache | None = query_cache(queries=cache_queries, folder=cache_folder, folder_bytes=cache_bytes)
            return AsyncHttpRetriever(url, cache=cache, **options)

        self._make_client = client
        self._client: AsyncHttpRetriever | None = client()
        self.url = self._client.url
        self.cache_stats = self._client.cache_stats
        """How many queries the cache answered, in this process."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        _living.add(self)

    @property
    def num_passages(self) -> int:
        """Number of passages in the corpus that the server has now, or had a few seconds ago.

        Raises:
            RetrievalError: the server does not answer, or does not say.
        """
        return int(self._recent_health()["num_passages"])

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the answers: the identity of what is served now, or was a few seconds ago, as in process.

        Raises:
            RetrievalError: the server does not answer, or does not say.
        """
        health = self._recent_health()
        given = health.get("identity")
        kept = dict(given) if isinstance(given, dict) and given else {"backend": "http", "url": self.url}
        return {"index_hash": health.get("index_hash"), "corpus_hash": health.get("corpus_hash")} | kept

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The best `k` hits of every query, best first, as the server's retriever gives them.

        Raises:
            ValueError: `k` < 1 or more than the server allows, an empty query, or another request that it refuses.
            CircuitOpen: too many calls failed in a row.
            RetrievalError: no answer within the deadline and retries.
        """
        return self._run(lambda client: client.search_many(queries, k))

    def get(self, passage_id: str) -> Passage:
        """The passage with this id.

        Raises:
            KeyError: no such passage.
            RetrievalError: as `search`.
        """
        return self._run(lambda client: client.get(passage_id))

    def __contains__(self, passage_id: object) -> bool:
        if not isinstance(passage_id, str):
            return False
        return bool(self.known_ids([passage_id]))

    def known_ids(self, passage_ids: Iterable[str]) -> set[str]:
        """Those of the ids that the corpus has, many to a request.

        Raises:
            RetrievalError: as `search`.
        """
        return self._run(lambda client: client.known_ids(passage_ids))

    def titled(self, title: str, *, limit: int = MAX_PASSAGES_PER_TITLE) -> list[Passage]:
        """The first `limit` passages of this title in corpus order, as `Index.titled` finds them.

        Raises:
            ValueError: `limit` < 1, or a title or limit that the server refuses.
            RetrievalError: as `search`.
        """
        return self._run(lambda client: client.titled(title, limit=limit))

    def close(self) -> None:
        """Close the connections and the cache. Calls of other threads that have no answer yet raise RuntimeError."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._client is None:  # of a forked process that did not ask anything
                return
            ended = self._scheduled(self._end)
            loop, thread = self._loop, self._thread
        assert loop is not None and thread is not None
        try:
            ended.result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def __enter__(self) -> "HttpRetriever":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _recent_health(self) -> dict[str, Any]:
        return self._run(lambda client: client.health(recent=True))

    async def _end(self, client: AsyncHttpRetriever) -> None:
        """Wake everybody who waits, then close."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_default_executor()  # which reads and writes the cache
        await client.aclose()

    def _run(self, work: Work[Result]) -> Result:
        with self._lock:
            if self._closed:
                raise RuntimeError("the retriever is closed; open a new one")
            asked = self._scheduled(work)
        try:
            return asked.result()
        except CancelledError:
            raise RuntimeError("the retriever was closed while it waited for an answer; open a new one") from None
        except BaseException:  # Ctrl-C included: nobody waits for the answer any more
            asked.cancel()
            raise

    def _scheduled(self, work: Work[Result]) -> Future[Result]:
        """Begin work on the client's loop; the caller holds the lock, so that no loop is closed under it."""
        if self._client is None:
            self._client = self._make_client()
            self._client.cache_stats = self.cache_stats
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="retrieval-client")
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(work(self._client), self._loop)

    def _begin_anew(self) -> None:
        """Leave all to the parent: its loop has no thread here, its sockets are its own, its lock may be held."""
        _of_the_parent.append((self._client, self._loop, self._thread, self._lock))
        self._client = self._loop = self._thread = None
        self._lock = threading.Lock()
        self.cache_stats = CacheStats()


_living: WeakSet[HttpRetriever] = WeakSet()


def _begin_all_anew() -> None:
    for retriever in list(_living):
        retriever._begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all_anew)
