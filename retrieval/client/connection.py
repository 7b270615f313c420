"""Requests to one retrieval server: with a deadline, and with retries of what is worth one.

Retried, after a pause that doubles and is jittered: what did not get through (refused and broken connections, a slow or
cut answer, 408, 429, 502, 503, 504; `Retry-After` is kept to), for searching twice changes nothing. Not retried: what
the server calls a bad request, which is a ValueError as it is in process, every other status, and an answer that is
whole and wrong.
"""

import asyncio
import json
import random
import re
import time
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import httpx

from retrieval.bearer_token import checked_token
from retrieval.client.answer import BrokenAnswer, GarbledAnswer
from retrieval.client.pool import ConnectionPool, NoTurn, Received
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


class Reply(NamedTuple, Generic[Read]):
    """A good answer."""

    value: Read
    source: str | None
    """The identity that the server says it answered with."""
    sent_at: float
    """When the request was sent that it answers, on the clock of `time.monotonic`."""


class ServerConnection:
    """Asks a server, from one event loop. The arguments are those of `AsyncHttpRetriever`.

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
        max_answer_bytes: int,
    ) -> None:
        for name, value in (("timeout_s", timeout_s), ("attempt_timeout_s", attempt_timeout_s)):
            if not value > 0:
                raise ValueError(f"{name} is {value}; it must be more than 0 seconds")
        for name, count, least in (
            ("retries", retries, 0),
            ("backoff_s", backoff_s, 0),
            ("max_backoff_s", max_backoff_s, 0),
            ("max_connections", max_connections, 1),
            ("max_answer_bytes", max_answer_bytes, 1),
        ):
            if count < least:
                raise ValueError(f"{name} is {count}; it must be at least {least}")
        self.url = checked_url(url)
        self._timeout_s = timeout_s
        self._attempt_timeout_s = attempt_timeout_s
        self._retries = retries
        self._backoff_s = backoff_s
        self._max_backoff_s = max_backoff_s
        headers = {"Accept-Encoding": "identity"}
        if token is not None:
            headers["Authorization"] = f"Bearer {checked_token(token)}"
        trust_env = not is_loopback(self.url)
        verify = httpx.create_ssl_context(trust_env=trust_env)

        def one_connection() -> httpx.AsyncClient:
            return httpx.AsyncClient(
                base_url=self.url,
                headers=headers,
                timeout=attempt_timeout_s,
                limits=httpx.Limits(max_connections=1),
                trust_env=trust_env,
                verify=verify,
            )

        self._pool = ConnectionPool(one_connection, most=max_connections, max_answer_bytes=max_answer_bytes)

    def deadline(self) -> float:
        """When a call that begins now must end, on the clock of `time.monotonic`."""
        return time.monotonic() + self._timeout_s

    async def call(
        self,
        method: str,
        path: str,
        body: Any,
        read: Callable[[bytes], Read],
        *,
        until: float | None = None,
        on_sent: Callable[[], None] = lambda: None,
    ) -> Reply[Read]:
        """What `read` makes of the body of a good answer.

        Args:
            method: `GET` or `POST`.
            path: `/retrieve` ...
            body: JSON, or None.
            read: raises `GarbledAnswer` for what will not be better next time, another `RetrievalError` for what may.
            until: the deadline, where it is an earlier one's.
            on_sent: called before each attempt is sent, when it has its turn.

        Raises:
            RequestError: the server refuses the request.
            NoTurn: no attempt was sent; all connections were busy until the deadline.
            RetrievalError: no answer within the deadline and retries, with the last status and body.
        """
        what = f"{method} {self.url}{path}"
        started = time.monotonic()
        until = self.deadline() if until is None else until
        error: RetrievalError | None = None
        for attempt in range(self._retries + 1):
            pause_s = min(self._max_backoff_s, self._backoff_s * 2**attempt) * random.uniform(0.5, 1.5)
            try:
                received = await self._pool.request(
                    method, path, body, limit_s=self._attempt_timeout_s, until=until, on_sent=on_sent
                )
                return Reply(read(_content(received)), received.headers.get(IDENTITY_HEADER), received.sent_at)
            except (RequestError, UnusableStatus, GarbledAnswer) as given_up:
                raise type(given_up)(f"{what}: {given_up}") from None
            except NoTurn as waited:
                if error is None:
                    raise NoTurn(f"{what} was not sent: {waited}") from None
                raise _failure(what, attempt, started, f"{error}; then {waited}") from error
            except RetrievalError as passing:
                error = passing
            if isinstance(error, _ComeBack):
                pause_s = max(pause_s, error.after_s)
            if attempt == self._retries or time.monotonic() + pause_s >= until:
                raise _failure(what, attempt + 1, started, str(error)) from error
            await asyncio.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()


def _failure(what: str, attempts: int, started: float, why: str) -> RetrievalError:
    tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    return RetrievalError(f"{what} failed after {tries} in {time.monotonic() - started:.1f} s: {why}")


def _content(received: Received) -> bytes:
    """The body of a good answer; every other status is an error of its kind."""
    if received.status == 200:
        packing = received.headers.get("Content-Encoding", "identity")
        if packing != "identity":
            raise BrokenAnswer(f"the answer is packed as {packing[:50]}, which was not asked for")
        return received.content
    said = f"{received.status} {received.reason}: {_words_of(received.content)}"
    if received.status in RETRYABLE_STATUS:
        raise _ComeBack(said, retry_after_s(received.headers.get("Retry-After")))
    if received.status == 413:
        raise TooLarge(said)
    if received.status in BAD_REQUEST_STATUS:
        raise RequestError(said)
    raise (Declined if received.status < 500 else UnusableStatus)(said)


def _words_of(content: bytes) -> str:
    """The sentence of `{"error": sentence}`, which is how the server of this project refuses; else the body's start,
    on one line."""
    try:
        match json.loads(content):
            case {"error": str(words), **others} if not others:
                return words[:1000]
    except (ValueError, RecursionError):
        pass
    return re.sub(r"\s*[\r\n]\s*", " ", content[:300].decode("utf-8", "replace"))
