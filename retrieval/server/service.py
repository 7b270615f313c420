"""What the server does with a request, apart from HTTP: search, open documents, say what it is."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from retrieval.batcher import MicroBatcher
from retrieval.identity import IDENTITY_HEADER, identity_hash
from retrieval.passage import Hit
from retrieval.request import RequestError
from retrieval.retriever import RetrievalError, Retriever
from retrieval.search_threads import SearchesHang
from retrieval.server.dialects import RetrieveRequest, answer_rows, parse_retrieve
from retrieval.server.documents import AccessRequest, Documents, parse_access
from retrieval.server.metrics import ServerMetrics
from retrieval.server.refusal import Refusal, bad_request, come_back
from retrieval.server.settings import ServerSettings

_WATCH_AFTER_S = 0.02
"""A search that takes longer than this is dropped when its client leaves; most are over by then."""
_SMALL_ANSWER = 1000
"""Hits that are written on the event loop; more are written in a thread."""

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class SearchService:
    """One retriever behind a micro-batcher, with limits. It does not own the retriever.

    Raises:
        ValueError: the retriever has no passages.
    """

    def __init__(self, retriever: Retriever, settings: ServerSettings, metrics: ServerMetrics) -> None:
        if retriever.num_passages < 1:
            raise ValueError(
                "the index has no passages, so there is nothing to serve; build it from a corpus that has some"
            )
        self._settings = settings
        self._metrics = metrics
        self._num_passages = retriever.num_passages
        self._documents = Documents(retriever, settings, metrics.hanging.inc)
        self._started = time.time()
        identity: Mapping[str, Any] = getattr(retriever, "identity", None) or {}
        self.answer_headers = {IDENTITY_HEADER: identity_hash(identity)} if identity else {}
        metrics.describe(self._num_passages, identity)
        self._description = {
            "index_hash": identity.get("index_hash"),
            "corpus_hash": identity.get("corpus_hash"),
            "backend": identity.get("backend"),
            "encoder": encoders_of(identity),
            "num_passages": self._num_passages,
            "k_limit": min(settings.max_k, self._num_passages),
            "limits": settings.model_dump(include=_LIMITS),
            "identity": dict(identity),
        }
        self._batcher = MicroBatcher(
            retriever,
            window_s=settings.window_s,
            max_batch=settings.max_batch,
            max_in_flight=settings.max_in_flight,
            timeout_s=settings.timeout_s,
            deadline_s=settings.timeout_s,
            retries=1,  # in halves, so that one bad query does not fail those that shared its batch
            backoff_s=0.01,
            max_hanging=settings.max_hanging,
            on_batch=metrics.batch,
            on_hanging=metrics.hanging.inc,
        )

    async def retrieve(self, body: Any, receive: Receive) -> bytes:
        """Answer one `/retrieve` body.

        Raises:
            Refusal: 422, or 503 where too much waits or hangs or the search failed.
            ClientDisconnect: the client left; its queries are dropped if they were not being searched.
        """
        request = parse_retrieve(body, self._settings, self._num_passages)
        self._refuse_overload(self._batcher, len(request.queries), "queries")
        self._metrics.queries.inc(len(request.queries))
        hits = await self._unless_left(self._batcher.search_many(request.queries, request.k), receive)
        if len(request.queries) * request.k <= _SMALL_ANSWER:
            return self._written(request, hits)
        return await asyncio.to_thread(self._written, request, hits)

    async def access(self, body: Any, receive: Receive) -> bytes:
        """Answer one `/access` body.

        Raises:
            Refusal: 422, 404 for a single document that is not there, or 503.
            ClientDisconnect: the client left.
        """
        request: AccessRequest = parse_access(body, self._settings)
        self._refuse_overload(self._documents, len(request.names), "names")
        return await self._unless_left(self._documents.open(request, _result), receive)

    def health(self) -> bytes:
        """What is served, with what limits, since when."""
        now = {
            "pid": os.getpid(),
            "uptime_s": round(time.time() - self._started, 1),
            "waiting_queries": self._batcher.waiting,
        }
        return orjson.dumps({"status": "ok", **self._description, **now})

    async def close(self) -> None:
        """Answer what has been taken, within the deadlines."""
        await self._batcher.close()

    def _refuse_overload(self, asked: MicroBatcher | Documents, more: int, what: str) -> None:
        try:
            asked.check()
        except SearchesHang as error:
            raise self._overload(str(error)) from None
        waiting = asked.waiting
        if waiting and waiting + more > self._settings.max_waiting:
            raise self._overload(
                f"{waiting} {what} wait already, and at most {self._settings.max_waiting} may; come back later"
            )

    def _overload(self, message: str) -> Refusal:
        self._metrics.overloads.inc()
        return come_back(message, self._settings.retry_after_s)

    async def _unless_left(self, work: Awaitable[Answer], receive: Receive) -> Answer:
        """The result of `work`, which is cancelled when the client leaves before it is there."""
        task = asyncio.current_task()
        assert task is not None
        watching: asyncio.Task[None] | None = None
        left = False

        async def watch() -> None:
            nonlocal left
            while (await receive())["type"] != "http.disconnect":
                pass
            left = True
            task.cancel()

        def start_watching() -> None:
            nonlocal watching
            watching = asyncio.get_running_loop().create_task(watch())

        timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_S, start_watching)
        try:
            return await work
        except asyncio.CancelledError:
            if not left:
                raise
            task.uncancel()
            self._metrics.disconnects.inc()
            raise ClientDisconnect from None
        except RequestError as error:
            raise bad_request(str(error)) from None
        except SearchesHang as error:
            raise self._overload(str(error)) from None
        except RetrievalError as error:
            self._metrics.failures.inc()
            _log.error("a search failed: %s", error, exc_info=error.__cause__)
            raise come_back(str(error), self._settings.retry_after_s) from error
        except Refusal:
            raise
        except Exception:  # a 500, with its traceback in the log
            self._metrics.failures.inc()
            raise
        finally:
            timer.cancel()
            if watching is not None:
                watching.cancel()

    def _written(self, request: RetrieveRequest, results: Sequence[Sequence[Hit]]) -> bytes:
        urls = self._settings.document_urls
        lists = [
            orjson.dumps(answer_rows(request, hits, urls=urls)) for hits in results
        ]  # each holds the GIL for itself
        rows = lists[0] if request.dialect.one_list else b"[%b]" % b",".join(lists)
        return b'{"%b":%b}' % (request.dialect.answer_key.encode(), rows)


def _result(found: Any) -> bytes:
    return orjson.dumps({"result": found})


_LIMITS = {
    "default_k",
    "max_k",
    "max_queries",
    "max_hits",
    "max_query_chars",
    "max_body_bytes",
    "max_waiting",
}


def encoders_of(identity: Any) -> str | list[str] | None:
    """The encoders that an identity names, wherever in it they stand: None, one, or several."""
    found: list[str] = []

    def look(value: Any) -> None:
        if isinstance(value, Mapping):
            for key, part in value.items():
                if key == "encoder" and isinstance(part, str):
                    found.append(part)
                elif key == "encoder" and isinstance(part, Mapping) and isinstance(part.get("model"), str):
                    found.append(part["model"])
                else:
                    look(part)
        elif isinstance(value, list | tuple):
            for part in value:
                look(part)

    look(identity)
    names = list(dict.fromkeys(found))
    return names[0] if len(names) == 1 else names or None
