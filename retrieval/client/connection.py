"""Requests to one retrieval server: pooled, with a deadline, and with retries of what is worth one.

Retried, after a pause that doubles and is jittered: what did not get through (refused and broken connections, a slow or
cut answer, 408, 429, 502, 503, 504; `Retry-After` is kept to), for searching twice changes nothing. Not retried: what
the server calls a bad request, which is a ValueError as it is in process, every other status, and an answer that is
whole and wrong.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx

from retrieval.bearer_token import checked_token
from retrieval.client.answer import GarbledAnswer
from retrieval.client.request import checked_url, is_loopback, retry_after_s
from retrieval.client.request_parts import TooLarge
from retrieval.identity import IDENTITY_HEADER
from retrieval.request import RequestError
from retrieval.retriever import RetrievalError

RETRYABLE_STATUS = frozenset({408, 429, 502, 503, 504})
BAD_REQUEST_STATUS = frozenset({400, 413, 422})

Read = TypeVar("Read")


class UnusableStatus(RetrievalError):
    """The server answered with a status that another attempt would only repeat."""


class Declined(UnusableStatus):
    """One below 500 (a missing token, a path that is not there): the server is up, and does not do this."""


class _ComeBack(RetrievalError):
    """A status that asks to try again, after `after_s` seconds or more."""

    def __init__(self, said: str, after_s: float) -> None:
        super().__init__(said)
        self.after_s = after_s


class ServerConnection:
    """A pool of connections to a server, used from one event loop. The arguments are those of `AsyncHttpRetriever`.

    Raises:
        ValueError: a URL, token or setting that makes no sense.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        attempt_timeout_s: float,
        retries: int,
        backoff_s: float,
        max_backoff_s: float,
        token: str | None,
        max_connections: int,
    ) -> None:
        for name, value in (("timeout_s", timeout_s), ("attempt_timeout_s", attempt_timeout_s)):
            if not value > 0:
                raise ValueError(f"{name} is {value}; it must be more than 0 seconds")
        for name, count, least in (
            ("retries", retries, 0),
            ("backoff_s", backoff_s, 0),
            ("max_backoff_s", max_backoff_s, 0),
            ("max_connections", max_connections, 1),
        ):
            if count < least:
                raise ValueError(f"{name} is {count}; it must be at least {least}")
        self.url = checked_url(url)
        self._timeout_s = timeout_s
        self._attempt_timeout_s = attempt_timeout_s
        self._retries = retries
        self._backoff_s = backoff_s
        self._max_backoff_s = max_backoff_s
        self._client = httpx.AsyncClient(
            base_url=self.url,
            headers={} if token is None else {"Authorization": f"Bearer {checked_token(token)}"},
            timeout=httpx.Timeout(attempt_timeout_s, pool=timeout_s),
            limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
            trust_env=not is_loopback(self.url),
        )

    def deadline(self) -> float:
        """When a call that begins now must end, on the clock of `time.monotonic`."""
        return time.monotonic() + self._timeout_s

    async def call(
        self, method: str, path: str, body: Any, read: Callable[[bytes], Read], *, until: float | None = None
    ) -> tuple[Read, str | None]:
        """What `read` makes of the body of a good answer, and the identity that the server says it answered with.

        Args:
            method: `GET` or `POST`.
            path: `/retrieve` ...
            body: JSON, or None.
            read: raises `GarbledAnswer` for what will not be better next time, another `RetrievalError` for what may.
            until: the deadline, where it is an earlier one's.

        Raises:
            RequestError: the server refuses the request.
            RetrievalError: no answer within the deadline and retries, with the last status and body.
        """
        what = f"{method} {self.url}{path}"
        started = time.monotonic()
        until = self.deadline() if until is None else until
        for attempt in range(self._retries + 1):
            pause_s = min(self._max_backoff_s, self._backoff_s * 2**attempt) * random.uniform(0.5, 1.5)
            limit_s = max(0.0, min(self._attempt_timeout_s, until - time.monotonic()))
            try:
                response = await self._answer(method, path, body, limit_s)
                return read(_content(response)), response.headers.get(IDENTITY_HEADER)
            except (RequestError, UnusableStatus, GarbledAnswer) as given_up:
                raise type(given_up)(f"{what}: {given_up}") from None
            except RetrievalError as passing:
                error = passing
            if isinstance(error, _ComeBack):
                pause_s = max(pause_s, error.after_s)
            if attempt == self._retries or time.monotonic() + pause_s >= until:
                took_s = time.monotonic() - started
                tries = "1 attempt" if attempt == 0 else f"{attempt + 1} attempts"
                raise RetrievalError(f"{what} failed after {tries} in {took_s:.1f} s: {error}") from error
            await asyncio.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _answer(self, method: str, path: str, body: Any, limit_s: float) -> httpx.Response:
        """One attempt; whatever of it does not get through is a `RetrievalError`."""
        try:
            async with asyncio.timeout(limit_s):
                return await self._client.request(method, path, json=body)
        except TimeoutError:
            raise RetrievalError(f"no whole answer within {limit_s:.3g} s") from None
        except httpx.RequestError as broken:  # a body that cannot be unpacked included
            said = f": {broken}" if str(broken) else ""
            raise RetrievalError(f"{type(broken).__name__}{said}") from broken


def _content(response: httpx.Response) -> bytes:
    """The body of a good answer; every other status is an error of its kind."""
    if response.status_code == 200:
        return response.content
    said = f"{response.status_code} {response.reason_phrase}: {response.text[:300]}"
    if response.status_code in RETRYABLE_STATUS:
        raise _ComeBack(said, retry_after_s(response.headers.get("Retry-After")))
    if response.status_code == 413:
        raise TooLarge(said)
    if response.status_code in BAD_REQUEST_STATUS:
        raise RequestError(said)
    raise (Declined if response.status_code < 500 else UnusableStatus)(said)
