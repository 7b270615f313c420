"""Connections to one server: so many at a time, and nothing left behind by a request that was cut off.

Every request has an httpx client with one connection to itself, which goes back if the request ends well and is closed
if not. One httpx client for all would not do: its pool (httpcore 1.0) counts a connection for ever as one in use whose
request was cancelled while it waited for it, or had not begun to send. After one overload there would be none left.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from retrieval.client.answer import GarbledAnswer
from retrieval.retriever import RetrievalError

_BYTES_OF_A_REFUSAL = 1 << 16
"""Of the body of any answer but 200, no more is read."""


class NoTurn(RetrievalError):
    """No connection was free before the deadline. The request was not sent, so this says nothing about the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One answer of a server."""

    status: int
    reason: str
    headers: httpx.Headers
    content: bytes
    sent_at: float
    """When the request was sent, on the clock of `time.monotonic`."""


class ConnectionPool:
    """At most `most` requests at a time; the others wait for their turn. Used from one event loop.

    Args:
        make_client: an `httpx.AsyncClient` of one connection.
        most: connections.
        max_answer_bytes: of the body of a good answer.
    """

    def __init__(self, make_client: Callable[[], httpx.AsyncClient], *, most: int, max_answer_bytes: int) -> None:
        self._make_client = make_client
        self._most = most
        self._max_answer_bytes = max_answer_bytes
        self._turn = asyncio.Semaphore(most)
        self._clients: set[httpx.AsyncClient] = set()
        self._idle: list[httpx.AsyncClient] = []
        self._closed = False

    async def request(
        self,
        method: str,
        path: str,
        body: Any,
        *,
        limit_s: float,
        until: float,
        on_sent: Callable[[], None] = lambda: None,
    ) -> Received:
        """Wait for a turn, send one request and read the whole answer.

        Args:
            method: `GET` or `POST`.
            path: of the URL.
            body: JSON, or None.
            limit_s: seconds from the turn to the end of the answer. The wait is not part of them: who was let through
                late would only be cut off, while the server still works for it.
            until: when all of it must have ended, on the clock of `time.monotonic`.
            on_sent: called with the turn, before the request is sent.

        Raises:
            NoTurn: no connection was free until then.
            GarbledAnswer: a good answer that is larger than allowed; the rest of it is not read.
            RetrievalError: whatever else of it does not get through.
            RuntimeError: the pool is closed.
        """
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(until - asked_at):
                await self._turn.acquire()
        except TimeoutError:
            raise self._no_turn(until - asked_at) from None
        try:
            limit_s = min(limit_s, until - time.monotonic())
            if limit_s <= 0:
                raise self._no_turn(until - asked_at)
            on_sent()
            return await self._answer(method, path, body, limit_s)
        finally:
            self._turn.release()

    async def _answer(self, method: str, path: str, body: Any, limit_s: float) -> Received:
        try:
            async with asyncio.timeout(limit_s), self._one() as client:
                sent_at = time.monotonic()
                async with client.stream(method, path, json=body) as response:
                    return Received(
                        status=response.status_code,
                        reason=response.reason_phrase,
                        headers=response.headers,
                        content=await self._body_of(response),
                        sent_at=sent_at,
                    )
        except TimeoutError:
            raise RetrievalError(f"no whole answer within {limit_s:.3g} s") from None
        except httpx.RequestError as broken:
            said = f": {broken}" if str(broken) else ""
            raise RetrievalError(f"{type(broken).__name__}{said}") from broken

    def _no_turn(self, waited_s: float) -> NoTurn:
        return NoTurn(
            f"none of {self._most} connections was free within {max(0.0, waited_s):.3g} s; ask less at once, or raise "
            "max_connections or timeout_s"
        )

    async def aclose(self) -> None:
        """Close the connections, those under way too."""
        self._closed = True
        while self._clients:
            await self._clients.pop().aclose()

    @asynccontextmanager
    async def _one(self) -> AsyncIterator[httpx.AsyncClient]:
        """The client that was used last, or a new one; it is closed where the block raises."""
        if self._closed:
            raise RuntimeError("the retriever is closed; open a new one")
        client = self._idle.pop() if self._idle else self._make_client()
        self._clients.add(client)
        try:
            yield client
        except BaseException:
            self._clients.discard(client)
            await client.aclose()
            raise
        self._idle.append(client)

    async def _body_of(self, response: httpx.Response) -> bytes:
        good = response.status_code == 200
        most = self._max_answer_bytes if good else _BYTES_OF_A_REFUSAL
        announced = response.headers.get("content-length", "")
        size = int(announced) if announced.isascii() and announced.isdigit() else 0
        chunks: list[bytes] = []
        if not good or size <= most:  # of a refusal the start is read: it may say why
            size = 0
            async for chunk in response.aiter_raw():  # as it was sent: packed, it could become a thousand times as much
                chunks.append(chunk)
                size += len(chunk)
                if size > most:
                    break
        if good and size > most:
            raise GarbledAnswer(
                f"the answer is larger than {most:,} bytes; ask for fewer hits at once (max_queries, k), or raise "
                "max_answer_bytes"
            )
        return b"".join(chunks)
