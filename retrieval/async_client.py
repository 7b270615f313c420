"""An asynchronous client of a retrieval server: pooled, with deadlines, retries, a circuit breaker and a query cache.

Retried, after a pause that doubles and is jittered: what did not get through (refused and broken connections, a slow or
cut answer, 408, 429, 502, 503, 504; `Retry-After` is kept to), for searching twice changes nothing. Not retried: what
the server calls a bad request, which is a ValueError as it is in process, every other status, and an answer that is
whole and wrong.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import httpx

from retrieval.circuit import CircuitBreaker
from retrieval.passage import Hit, Passage
from retrieval.query_cache import CacheStats, QueryCache, query_key
from retrieval.request_parts import in_parts
from retrieval.retriever import RetrievalError
from retrieval.server_answer import GarbledAnswer, decoded, hits_of, passages_of, titled_passages_of
from retrieval.server_request import check_search, checked_url, is_loopback, is_text, may_be_an_id, retry_after_s
from retrieval.title import MAX_PASSAGES_PER_TITLE, check_limit, fold_title

RETRYABLE_STATUS = frozenset({408, 429, 502, 503, 504})
BAD_REQUEST_STATUS = frozenset({400, 413, 422})

_HITS_PER_REQUEST = 20_000
_ID_REQUESTS = 8
"""Requests for documents under way at once: their answers are large."""

Parsed = TypeVar("Parsed")


class _NotRetryable(Exception):
    """Carries an error that another attempt would only repeat."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class AsyncHttpRetriever:
    """Searches a retrieval server from one event loop.

    Args:
        url: of the server, `http://host:port`. A server of Search-R1's kind will do; it has no `identity`.
        timeout_s: deadline of one call in seconds, retries and their pauses included.
        attempt_timeout_s: longest time that one attempt may take, in seconds, the whole answer included.
        retries: attempts after the first one.
        backoff_s: mean pause before the first of them in seconds; it doubles with each one, up to `max_backoff_s`.
        max_backoff_s: see `backoff_s`.
        token: bearer token, where the server wants one.
        max_connections: of the pool; what is asked on top waits for a free one.
        max_queries: most queries in one request; more are sent in several at once.
        cache: for the hits of each query; it is closed with the client.
        breaker_failures: calls that fail in a row, all retries used, before calls fail at once with `CircuitOpen`; 0
            never does that.
        breaker_pause_s: how long until one is let through again, in seconds.

    Proxy settings of the environment are ignored where the host is this machine.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 60.0,
        attempt_timeout_s: float = 30.0,
        retries: int = 4,
        backoff_s: float = 0.2,
        max_backoff_s: float = 5.0,
        token: str | None = None,
        max_connections: int = 64,
        max_queries: int = 256,
        cache: QueryCache | None = None,
        breaker_failures: int = 5,
        breaker_pause_s: float = 10.0,
    ) -> None:
        for name, value in (("timeout_s", timeout_s), ("attempt_timeout_s", attempt_timeout_s)):
            if not value > 0:
                raise ValueError(f"{name} is {value}; it must be more than 0 seconds")
        for name, count, least in (
            ("retries", retries, 0),
            ("backoff_s", backoff_s, 0),
            ("max_backoff_s", max_backoff_s, 0),
            ("max_connections", max_connections, 1),
            ("max_queries", max_queries, 1),
        ):
            if count < least:
                raise ValueError(f"{name} is {count}; it must be at least {least}")
        self.url = checked_url(url)
        self._timeout_s = timeout_s
        self._attempt_timeout_s = attempt_timeout_s
        self._retries = retries
        self._backoff_s = backoff_s
        self._max_backoff_s = max_backoff_s
        self._max_queries = max_queries
        self._cache = cache
        self._breaker = CircuitBreaker(self.url, failures=breaker_failures, pause_s=breaker_pause_s)
        self._health: dict[str, Any] | None = None
        self._client = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(attempt_timeout_s, pool=timeout_s),
            limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
            trust_env=not is_loopback(self.url),
        )
        self.cache_stats = CacheStats()

    async def search(self, query: str, k: int) -> list[Hit]:
        """The best `k` hits of one query, best first; as `MicroBatcher.search`.

        Raises:
            ValueError: the server refuses this query or `k`.
            CircuitOpen: too many calls failed in a row.
            RetrievalError: no answer within the deadline and retries, with the last status and body.
        """
        return (await self.search_many([query], k))[0]

    async def search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The best `k` hits of every query, in the order of the queries; raises as `search` does."""
        check_search(queries, k)
        if self._cache is None:
            return await self._ask_all(queries, k)
        source = f"{self.url} {(await self._known_health()).get('index_hash')}"
        keys = [query_key(source, query, k) for query in queries]
        found = await self._cached(self._cache, keys)
        missing = {key: query for key, query in zip(keys, queries, strict=True) if found[key] is None}
        self.cache_stats.misses += sum(found[key] is None for key in keys)
        self.cache_stats.hits += sum(found[key] is not None for key in keys)
        if missing:
            answers = await self._ask_all(list(missing.values()), k)
            fresh = dict(zip(missing, answers, strict=True))
            await self._keep(self._cache, fresh)
            found.update(fresh)
        return [list(found[key] or ()) for key in keys]

    async def get(self, passage_id: str) -> Passage:
        """The passage with this id.

        Raises:
            KeyError: no such passage.
            RetrievalError: as `search`.
        """
        if not may_be_an_id(passage_id):
            raise KeyError(passage_id)
        [passage] = await self._open([passage_id])
        if passage is None:
            raise KeyError(f"the corpus at {self.url} has no passage {passage_id!r}")
        return passage

    async def known_ids(self, passage_ids: Iterable[str]) -> set[str]:
        """Those of the ids that the corpus has, `max_queries` of them to a request.

        Raises:
            RetrievalError: as `search`.
        """
        asked = [passage_id for passage_id in dict.fromkeys(passage_ids) if may_be_an_id(passage_id)]
        limits = (await self._known_health()).get("limits")
        allowed = limits.get("max_queries") if isinstance(limits, dict) else None
        size = min(self._max_queries, allowed) if isinstance(allowed, int) else self._max_queries
        known: set[str] = set()
        for start in range(0, len(asked), size * _ID_REQUESTS):
            some = asked[start : start + size * _ID_REQUESTS]
            found = await in_parts(self._open, some, size)
            known.update(id_ for id_, passage in zip(some, found, strict=True) if passage is not None)
        return known

    async def titled(self, title: str, *, limit: int = MAX_PASSAGES_PER_TITLE) -> list[Passage]:
        """The first `limit` passages of this title in corpus order, as `Index.titled` finds them.

        Raises:
            ValueError: `limit` < 1, or a title or limit that the server refuses.
            RetrievalError: as `search`.
        """
        check_limit(limit)
        if not fold_title(title) or not is_text(title):
            return []
        body = {"titles": [title]} | ({} if limit == MAX_PASSAGES_PER_TITLE else {"limit": limit})
        return await self._call("POST", "/access", body, lambda answer: titled_passages_of(answer, limit))

    async def health(self) -> dict[str, Any]:
        """What the server says about itself now.

        Raises:
            RetrievalError: as `search`; also where it does not say how many passages it has.
        """

        def parse(answer: Any) -> dict[str, Any]:
            if not isinstance(answer, dict) or not isinstance(answer.get("num_passages"), int):
                raise _NotRetryable(RetrievalError(f"{self.url}/health does not say `num_passages`: {answer!r:.200}"))
            return answer

        return await self._call("GET", "/health", None, parse)

    async def aclose(self) -> None:
        """Close the connections and the cache."""
        await self._client.aclose()
        if self._cache is not None:
            self._cache.close()

    async def __aenter__(self) -> "AsyncHttpRetriever":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _known_health(self) -> Mapping[str, Any]:
        """The first health; nothing where a server has none, and then answers are kept by its address alone."""
        if self._health is None:
            try:
                self._health = await self.health()
            except RetrievalError:
                if self._breaker.is_open:
                    raise
                return {}
        return self._health

    async def _cached(self, cache: QueryCache, keys: Sequence[str]) -> dict[str, list[Hit] | None]:
        def look_up() -> dict[str, list[Hit] | None]:
            return {key: cache.get(key) for key in keys}

        return look_up() if cache.is_fast else await asyncio.to_thread(look_up)

    async def _keep(self, cache: QueryCache, fresh: Mapping[str, list[Hit]]) -> None:
        def put() -> None:
            for key, hits in fresh.items():
                cache.put(key, hits)

        if cache.is_fast:
            put()
        else:
            await asyncio.to_thread(put)

    async def _ask_all(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        size = max(1, min(self._max_queries, _HITS_PER_REQUEST // k))
        return await in_parts(lambda part: self._ask(part, k), queries, size)

    async def _open(self, passage_ids: Sequence[str]) -> list[Passage | None]:
        body = {"ids": list(passage_ids)}
        return await self._call("POST", "/access", body, lambda answer: passages_of(answer, len(passage_ids)))

    async def _ask(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        body = {"queries": list(queries), "topk": int(k), "return_scores": True, "dialect": "waymark"}
        return await self._call("POST", "/retrieve", body, lambda answer: hits_of(answer, len(queries), k))

    async def _call(self, method: str, path: str, body: Any, parse: Callable[[Any], Parsed]) -> Parsed:
        """One call with its retries, seen by the breaker as one success or failure."""
        self._breaker.enter()
        settled = False
        try:
            result = await self._attempts(method, path, body, parse)
            self._breaker.succeeded()
            settled = True
            return result
        except RetrievalError as error:
            self._breaker.failed(error)
            settled = True
            raise
        except ValueError:  # the server is well, and refuses
            self._breaker.succeeded()
            settled = True
            raise
        finally:
            if not settled:
                self._breaker.abandoned()

    async def _attempts(self, method: str, path: str, body: Any, parse: Callable[[Any], Parsed]) -> Parsed:
        what = f"{method} {self.url}{path}"
        started = time.monotonic()
        deadline = started + self._timeout_s
        for attempt in range(self._retries + 1):
            left_s = deadline - time.monotonic()
            pause_s = min(self._max_backoff_s, self._backoff_s * 2**attempt) * random.uniform(0.5, 1.5)
            try:
                async with asyncio.timeout(max(0.0, min(self._attempt_timeout_s, left_s))):
                    response = await self._client.request(method, path, json=body)
                answer = decoded(self._content(response))
                try:
                    return parse(answer)
                except GarbledAnswer as wrong:  # whole JSON that says the wrong thing will say it again
                    raise _NotRetryable(wrong) from None
            except _NotRetryable as given_up:
                error = given_up.error
                raise type(error)(f"{what}: {error}") from None
            except TimeoutError:
                error = RetrievalError(f"no whole answer within {min(self._attempt_timeout_s, left_s):.3g} s")
            except httpx.TransportError as broken:
                error = RetrievalError(f"{type(broken).__name__}: {broken}" if str(broken) else type(broken).__name__)
            except _ComeBack as later:
                error = later
                pause_s = max(pause_s, later.after_s)
            except RetrievalError as garbled:
                error = garbled
            is_last = attempt == self._retries or time.monotonic() + pause_s >= deadline
            if is_last:
                took_s = time.monotonic() - started
                tries = "1 attempt" if attempt == 0 else f"{attempt + 1} attempts"
                raise RetrievalError(f"{what} failed after {tries} in {took_s:.1f} s: {error}") from error
            await asyncio.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    def _content(self, response: httpx.Response) -> bytes:
        """The body of a good answer.

        Raises:
            _ComeBack: the same request may be answered later.
            _NotRetryable: it will not.
        """
        if response.status_code == 200:
            return response.content
        said = f"{response.status_code} {response.reason_phrase}: {response.text[:300]}"
        if response.status_code in RETRYABLE_STATUS:
            raise _ComeBack(said, retry_after_s(response.headers.get("Retry-After")))
        if response.status_code in BAD_REQUEST_STATUS:
            raise _NotRetryable(ValueError(said))
        raise _NotRetryable(RetrievalError(said))


class _ComeBack(RetrievalError):
    """A status that asks to try again, after `after_s` seconds or more."""

    def __init__(self, said: str, after_s: float) -> None:
        super().__init__(said)
        self.after_s = after_s
