"""Request bodies in: bounded in size and time, announced or chunked, one by one and all together, and decoded."""

import asyncio
import time
from collections.abc import MutableMapping
from typing import Any

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from retrieval.server.metrics import ServerMetrics
from retrieval.server.refusal import Refusal, come_back
from retrieval.server.settings import ServerSettings

_DRAIN_BYTES = 64 << 20
_DRAIN_S = 5.0


class RequestBodies:
    """The bodies that are being read: however many connections send, no more than `max_body_bytes_in_all` are held."""

    def __init__(self, settings: ServerSettings, metrics: ServerMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._held = 0

    async def read_json(self, scope: Scope, receive: Receive) -> Any:
        """The decoded body of a request.

        Raises:
            Refusal: 413 too large, 408 too slow, 400 not JSON, 503 too many at once.
            ClientDisconnect: the client went away while it sent.
        """
        body = await self._read(scope, receive)
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Refusal(
                400, f'the body is not JSON ({error}); send an object such as {{"queries": ["..."]}}'
            ) from None

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        settings = self._settings
        limit = settings.max_body_bytes
        announced = _announced_length(scope)
        if announced > limit:
            await _drained(receive, announced)
            raise _too_large(f"is {announced} bytes long", limit)
        chunks: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(settings.body_timeout_s):  # from the headers on: the first byte may never come
                while more and size <= limit:
                    message = await receive()
                    chunks.append(_chunk(message))
                    size += len(chunks[-1])
                    self._held += len(chunks[-1])
                    more = message.get("more_body", False)
                    if self._held > settings.max_body_bytes_in_all:
                        break
        except TimeoutError:
            raise Refusal(
                408,
                f"the body did not arrive within {settings.body_timeout_s:g} s; {size} bytes did",
                {"Connection": "close"},
            ) from None
        finally:
            held = self._held
            self._held -= size  # nothing is awaited until the body is decoded and dropped
        if size > limit or held > settings.max_body_bytes_in_all:
            chunks.clear()
            await _drained(receive, size, more=more)
            if size > limit:
                raise _too_large("goes on beyond that" if more else f"is {size} bytes long", limit)
            raise self._too_many(held)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_many(self, held: int) -> Refusal:
        self._metrics.overloads.inc()
        refusal = come_back(
            f"bodies of {held} bytes were being received, and at most {self._settings.max_body_bytes_in_all} may; "
            "come back later, with fewer at once",
            self._settings.retry_after_s,
        )
        refusal.headers["Connection"] = "close"
        return refusal


def _announced_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def _chunk(message: MutableMapping[str, Any]) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    chunk: bytes = message.get("body", b"")
    return chunk


async def _drained(receive: Receive, announced: int, *, more: bool = True) -> None:
    """Read on for a while and throw it away, so that a client that only listens once it has sent gets the answer."""
    size, until = 0, time.monotonic() + _DRAIN_S
    try:
        async with asyncio.timeout(_DRAIN_S):
            while more and announced <= _DRAIN_BYTES and size < _DRAIN_BYTES and time.monotonic() < until:
                message = await receive()
                size += len(_chunk(message))
                more = message.get("more_body", False)
    except (TimeoutError, ClientDisconnect):
        pass


def _too_large(why: str, limit: int) -> Refusal:
    return Refusal(
        413, f"the body {why}; at most {limit} bytes are allowed: send fewer queries a request", {"Connection": "close"}
    )
