"""An asynchronous client of a retrieval server: pooled, with deadlines, retries, a circuit breaker and a query cache.

What is retried is told in `connection`. A call of many queries is asked in several requests, sized by the limits
that the server publishes, and is one success or failure for the breaker. What was asked before is answered from the
cache, as long as the server is known to serve the index that answered then.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from retrieval.client.answer import decoded, hits_of, passages_of, titled_passages_of
from retrieval.client.circuit import CircuitBreaker
from retrieval.client.connection import Declined, ServerConnection
from retrieval.client.health import ServerHealth, described
from retrieval.client.pool import NoTurn
from retrieval.client.query_cache import CacheStats, KeptAnswers, QueryCache
from retrieval.client.request import check_search, is_text, may_be_an_id
from retrieval.client.request_parts import in_parts, part_limits, parts_of
from retrieval.passage import Hit, Passage
from retrieval.request import RequestError
from retrieval.retriever import RetrievalError
from retrieval.title import MAX_PASSAGES_PER_TITLE, check_limit, fold_title

_ROUNDS = 2
"""How often cached and fresh answers are brought together, before everything is asked: the index may be replaced."""

Answer = TypeVar("Answer")

Answered = tuple[list[Hit], str | None]
"""The hits of a query, and the identity of what gave them; None where the server does not say."""


class AsyncHttpRetriever:
    """Searches a retrieval server from one event loop.

    Args:
        url: of the server, `http://host:port`. A server of Search-R1's kind will do; it has no `identity`.
        timeout_s: deadline of one call in seconds, retries and their pauses included; where a call is asked in several
            requests, of each of them.
        attempt_timeout_s: longest time that one attempt may take, in seconds, the whole answer included, the wait for a
            connection not.
        retries: attempts after the first one.
        backoff_s: mean pause before the first of them in seconds; it doubles with each one, up to `max_backoff_s`.
        max_backoff_s: see `backoff_s`.
        token: bearer token, where the server wants one.
        max_connections: to the server; what is asked on top waits for a free one, until the deadline of its call.
        max_queries: most queries in one request, or fewer where the server's limits say so; more are sent in several,
            four at once.
        max_answer_bytes: of one answer; what is larger is no answer, and is not read to its end.
        cache: for the hits of each query; it is closed with the client.
        breaker_failures: calls that fail in a row, all retries used, before calls fail at once with `CircuitOpen`; 0
            never does that.
        breaker_pause_s: how long until one is let through again, in seconds.

    Proxy settings of the environment are ignored where the host is this machine.

    Raises:
        ValueError: a URL, token or setting that makes no sense.
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
        max_answer_bytes: int = 256 << 20,
        cache: QueryCache | None = None,
        breaker_failures: int = 5,
        breaker_pause_s: float = 10.0,
    ) -> None:
        if max_queries < 1:
            raise ValueError(f"max_queries is {max_queries}; it must be at least 1")
        self._server = ServerConnection(
            url,
            timeout_s=timeout_s,
            attempt_timeout_s=attempt_timeout_s,
            retries=retries,
            backoff_s=backoff_s,
            max_backoff_s=max_backoff_s,
            token=token,
            max_connections=max_connections,
            max_answer_bytes=max_answer_bytes,
        )
        self.url = self._server.url
        self._max_queries = max_queries
        self._health = ServerHealth(self._server)
        self._kept = None if cache is None else KeptAnswers(cache, self.url)
        self._breaker = CircuitBreaker(self.url, failures=breaker_failures, pause_s=breaker_pause_s)
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
        if not len(queries):
            return []
        if self._kept is not None:
            return await self._search_kept(self._kept, list(queries), int(k))
        with self._counted():
            return [hits for hits, _ in await self._ask_all(list(queries), int(k), self._server.deadline())]

    async def get(self, passage_id: str) -> Passage:
        """The passage with this id.

        Raises:
            KeyError: no such passage.
            RetrievalError: as `search`.
        """
        if not may_be_an_id(passage_id):
            raise KeyError(passage_id)
        with self._counted():
            [passage] = await self._open_all([passage_id])
        if passage is None:
            raise KeyError(f"the corpus at {self.url} has no passage {passage_id!r}")
        return passage

    async def known_ids(self, passage_ids: Iterable[str]) -> set[str]:
        """Those of the ids that the corpus has, `max_queries` of them to a request.

        Raises:
            RetrievalError: as `search`.
        """
        asked = [passage_id for passage_id in dict.fromkeys(passage_ids) if may_be_an_id(passage_id)]
        known: set[str] = set()
        if asked:
            with self._counted():
                step = 8 * self._max_queries  # their documents need not be held all at once
                for some in (asked[start : start + step] for start in range(0, len(asked), step)):
                    found = await self._open_all(some)
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
        body = {"titles": [title]} | ({} if limit == MAX_PASSAGES_PER_TITLE else {"limit": int(limit)})
        with self._counted():
            found, source, sent_at = await self._server.call(
                "POST", "/access", body, lambda content: titled_passages_of(decoded(content), limit)
            )
        self._health.heard(source, sent_at)
        return found

    async def health(self, *, recent: bool = False) -> dict[str, Any]:
        """What the server says about itself now; with `recent`, what it said in the last seconds will do.

        Raises:
            RetrievalError: as `search`; also where it does not say how many passages it has.
        """
        with self._counted():
            until = self._server.deadline()
            said = await self._health.recent(until) if recent else {}
            return described(said or await self._health.ask(until), self.url)

    async def aclose(self) -> None:
        """Close the connections and the cache."""
        await self._server.aclose()
        if self._kept is not None:
            self._kept.close()

    async def __aenter__(self) -> "AsyncHttpRetriever":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _search_kept(self, kept: KeptAnswers, queries: list[str], k: int) -> list[list[Hit]]:
        """The hits of every query, from the cache where the index that is served now has answered before."""
        wanted = dict.fromkeys(queries)
        found = await kept.get(self._health.source, wanted, k) if self._health.is_believed else {}
        fresh: set[str] = set()
        if len(found) < len(wanted):
            with self._counted():
                found, fresh = await self._completed(kept, wanted, k)
        self.cache_stats.misses += sum(query in fresh for query in queries)
        self.cache_stats.hits += sum(query not in fresh for query in queries)
        return [list(found[query]) for query in queries]

    async def _completed(
        self, kept: KeptAnswers, wanted: Iterable[str], k: int
    ) -> tuple[dict[str, list[Hit]], set[str]]:
        """The hits of every query by query, all of one index, and the queries that the server was asked for them."""
        until = self._server.deadline()
        asked: set[str] = set()
        for _ in range(_ROUNDS):
            if not self._health.is_believed:
                await self._health.asked_once(until)
            source = self._health.source
            found = await kept.get(source, wanted, k)
            missing = [query for query in wanted if query not in found]
            if not missing:
                return found, asked
            answers = await self._ask_and_keep(kept, missing, k, until)
            asked.update(missing)
            if all(came_from in (source, None) for _, came_from in answers.values()):
                return found | {query: hits for query, (hits, _) in answers.items()}, asked
        answers = await self._ask_and_keep(kept, list(wanted), k, until)
        return {query: hits for query, (hits, _) in answers.items()}, set(wanted)

    async def _ask_and_keep(self, kept: KeptAnswers, queries: list[str], k: int, until: float) -> dict[str, Answered]:
        answers = dict(zip(queries, await self._ask_all(queries, k, until), strict=True))
        await kept.put(answers, k)
        return answers

    async def _ask_all(self, queries: list[str], k: int, until: float) -> list[Answered]:
        async def ask(part: Sequence[str], until: float | None) -> list[Answered]:
            body = {"queries": part, "k": k, "topk": k, "return_scores": True, "dialect": "waymark"}
            hits, source, sent_at = await self._server.call(
                "POST", "/retrieve", body, lambda content: hits_of(decoded(content), len(part), k), until=until
            )
            self._health.heard(source, sent_at)
            return [(each, source or self._health.source) for each in hits]

        return await self._ask_in_parts(ask, queries, hits_per_text=k, until=until)

    async def _open_all(self, passage_ids: list[str]) -> list[Passage | None]:
        async def ask(part: Sequence[str], until: float | None) -> list[Passage | None]:
            found, source, sent_at = await self._server.call(
                "POST", "/access", {"ids": part}, lambda content: passages_of(decoded(content), len(part)), until=until
            )
            self._health.heard(source, sent_at)
            return found

        return await self._ask_in_parts(ask, passage_ids, hits_per_text=1, until=self._server.deadline())

    async def _ask_in_parts(
        self,
        ask: Callable[[Sequence[str], float | None], Awaitable[list[Answer]]],
        texts: Sequence[str],
        *,
        hits_per_text: int,
        until: float,
    ) -> list[Answer]:
        """One answer for every text; `until` is the deadline of all, or each part has its own from when it is sent."""
        said = await self._health.limits(until) if len(texts) > 1 else {}
        limits = part_limits(said, max_texts=self._max_queries, hits_per_text=hits_per_text)
        parts = parts_of(texts, limits)
        part_until = until if len(parts) == 1 else None
        return await in_parts(lambda part: ask(part, part_until), parts, limits.under_way)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """One call, which the breaker lets through or not, and sees as one success or failure."""
        entered = self._breaker.enter()
        try:
            yield
        except (RequestError, Declined):  # the server is well, and refuses
            self._breaker.succeeded(entered)
            raise
        except NoTurn:  # it waited in this client's own queue: the server was not asked
            self._breaker.abandoned(entered)
            raise
        except RetrievalError as error:
            self._breaker.failed(entered, error)
            raise
        except BaseException:
            self._breaker.abandoned(entered)
            raise
        self._breaker.succeeded(entered)
