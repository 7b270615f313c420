"""Request bodies in: bounded in size and time, announced or chunked, and decoded."""

import asyncio
import time
from collections.abc import MutableMapping
from typing import Any

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from retrieval.server.refusal import Refusal
from retrieval.server.settings import ServerSettings

_DRAIN_BYTES = 64 << 20
_DRAIN_S = 5.0


async def read_json(scope: Scope, receive: Receive, settings: ServerSettings) -> Any:
    """The decoded body of a request.

    Raises:
        Refusal: 413 too large, 408 too slow, 400 not JSON.
        ClientDisconnect: the client went away while it sent.
    """
    body = await _read(scope, receive, settings)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f'the body is not JSON ({error}); send an object such as {{"queries": ["..."]}}') from None


async def _read(scope: Scope, receive: Receive, settings: ServerSettings) -> bytes:
    limit = settings.max_body_bytes
    announced = _announced_length(scope)
    if announced > limit:
        await _refuse_size(receive, announced, limit, f"is {announced} bytes long")
    chunks: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(settings.body_timeout_s):  # from the headers on: the first byte may never come
            while more and size <= limit:
                message = await receive()
                chunks.append(_chunk(message))
                size += len(chunks[-1])
                more = message.get("more_body", False)
    except TimeoutError:
        raise Refusal(
            408,
            f"the body did not arrive within {settings.body_timeout_s:g} s; {size} bytes did",
            {"Connection": "close"},
        ) from None
    if size > limit:
        chunks.clear()
        why = "goes on beyond that" if more else f"is {size} bytes long"
        await _refuse_size(receive, size, limit, why, more=more)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


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


async def _refuse_size(receive: Receive, announced: int, limit: int, why: str, *, more: bool = True) -> None:
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
    raise Refusal(
        413, f"the body {why}; at most {limit} bytes are allowed: send fewer queries a request", {"Connection": "close"}
    )
