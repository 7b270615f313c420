"""What a server last said about itself: its `/health`, and the identity that its answers carry.

An index may be replaced behind an address at any time. So nothing is believed for longer than `BELIEVED_S` without
being heard again, and an answer with another identity makes what was known before forgotten at once.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from retrieval.client.answer import BrokenAnswer, decoded, start_of
from retrieval.client.connection import Declined, ServerConnection
from retrieval.client.pool import NoTurn
from retrieval.retriever import RetrievalError

BELIEVED_S = 1.0
"""For how long an index is taken to be the one that is served, in seconds, where no answer says so meanwhile."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Question:
    """One request that several callers wait for."""

    began_at: float
    task: asyncio.Task[Mapping[str, Any]] = field(init=False)
    callers: int = 0
    was_sent: bool = False
    """False while it waits for a connection."""

    def sent(self) -> None:
        self.was_sent = True


class ServerHealth:
    """The health of one server, asked for when it is needed and too old. Used from one event loop.

    Args:
        connection: to the server.
        clock: seconds, monotonic, as the connection's.
    """

    def __init__(self, connection: ServerConnection, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._clock = clock
        self._health: Mapping[str, Any] | None = None
        self._asked_at = self._heard_at = self._changed_at = float("-inf")
        self._question: _Question | None = None
        self.source: str | None = None
        """What decides the server's answers, as a hash; None where it never says."""

    @property
    def is_believed(self) -> bool:
        """True if `source` holds without asking. A server that has no health is believed until an answer names one."""
        if self._health == {} and self.source is None:
            return True
        return self._clock() - self._heard_at < BELIEVED_S

    def heard(self, source: str | None, sent_at: float) -> None:
        """Take note of the identity on the answer to a request that was sent at `sent_at`."""
        if source is not None and self._is_news(source, sent_at):
            if source != self.source:
                self._health = None
            self._now_serves(source)

    async def ask(self, until: float | None = None, on_sent: Callable[[], None] = lambda: None) -> Mapping[str, Any]:
        """The health now; empty where the server has none.

        Raises:
            RetrievalError: no answer within the deadline and retries; `NoTurn` where it was not even sent.
        """
        sent_at = self._clock()
        try:
            health, source, sent_at = await self._connection.call(
                "GET", "/health", None, _read, until=until, on_sent=on_sent
            )
        except Declined:
            health, source = {}, None
        index_hash = health.get("index_hash")
        source = source or (index_hash if isinstance(index_hash, str) else None)
        if self._is_news(source, sent_at):
            self._now_serves(source)
            self._health, self._asked_at = health, self._heard_at
        return health

    async def asked_once(self, until: float) -> Mapping[str, Any]:
        """As `ask`, but one request for all who ask at the same moment; each waits until its own deadline.

        Raises:
            RetrievalError: as `ask`. A request that began before this call decides nothing if it fails.
        """
        called_at = self._clock()
        while True:
            question = self._question
            if question is None or question.task.done():
                question = self._question = _Question(began_at=self._clock())
                question.task = asyncio.create_task(self.ask(on_sent=question.sent))
                question.task.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen by nobody
            question.callers += 1
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    return await asyncio.shield(question.task)
            except TimeoutError:
                what = f"GET {self._connection.url}/health"
                if not question.was_sent:
                    raise NoTurn(
                        f"{what} was not sent: no connection was free before the deadline; ask less at once, or "
                        "raise max_connections or timeout_s"
                    ) from None
                raise RetrievalError(f"{what}: no answer before the deadline") from None
            except RetrievalError as error:
                if question.began_at >= called_at:
                    raise type(error)(*error.args) from None  # one of its own for every caller
            finally:
                question.callers -= 1
                if not question.callers and self._question is question:
                    question.task.cancel()
                    self._question = None

    async def recent(self, until: float) -> Mapping[str, Any]:
        """The health of at most `BELIEVED_S` ago; raises as `asked_once` does."""
        health = self._health
        if health is None or (health and self._clock() - self._asked_at >= BELIEVED_S):
            return await self.asked_once(until)
        return health

    async def limits(self, until: float) -> Mapping[str, Any]:
        """The server's limits on a request; raises as `asked_once` does."""
        limits = (await self.recent(until)).get("limits")
        return limits if isinstance(limits, dict) else {}

    def _is_news(self, source: str | None, sent_at: float) -> bool:
        """False for another identity on the answer to a request that was sent before the identity changed last: it may
        be the one before, so neither is believed until the server is asked.
        """
        if source == self.source or sent_at >= self._changed_at:
            return True
        self._heard_at = float("-inf")
        return False

    def _now_serves(self, source: str | None) -> None:
        self._heard_at = self._clock()
        if source != self.source:
            self.source, self._changed_at = source, self._heard_at


def described(health: Mapping[str, Any], url: str) -> dict[str, Any]:
    """A health that says what there is to search.

    Raises:
        RetrievalError: it does not.
    """
    count = health.get("num_passages")
    if not isinstance(count, int) or isinstance(count, bool):
        raise RetrievalError(f"{url}/health does not say `num_passages`: {start_of(health)}")
    return dict(health)


def _read(content: bytes) -> Mapping[str, Any]:
    """The health; a server that says OK in its own words has none that is of use."""
    try:
        health = decoded(content)
    except BrokenAnswer:
        return {}
    return health if isinstance(health, dict) else {}
