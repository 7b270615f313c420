"""What a server last said about itself: its `/health`, and the identity that its answers carry.

An index may be replaced behind an address at any time. So nothing is believed for longer than `BELIEVED_S` without
being heard again, and an answer with another identity makes what was known before forgotten at once.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from retrieval.client.answer import BrokenAnswer, decoded, start_of
from retrieval.client.connection import Declined, ServerConnection
from retrieval.retriever import RetrievalError

BELIEVED_S = 1.0
"""For how long an index is taken to be the one that is served, in seconds, where no answer says so meanwhile."""


class ServerHealth:
    """The health of one server, asked for when it is needed and too old.

    Args:
        connection: to the server.
        clock: seconds, monotonic.
    """

    def __init__(self, connection: ServerConnection, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._clock = clock
        self._health: Mapping[str, Any] | None = None
        self._asked_at = self._heard_at = float("-inf")
        self.source: str | None = None
        """What decides the server's answers, as a hash; None where it never says."""

    @property
    def is_believed(self) -> bool:
        """True if `source` holds without asking. A server that has no health is believed until an answer names one."""
        if self._health == {} and self.source is None:
            return True
        return self._clock() - self._heard_at < BELIEVED_S

    def heard(self, source: str | None) -> None:
        """Take note of the identity on an answer."""
        if source is None:
            return
        if source != self.source:
            self._health = None
        self.source = source
        self._heard_at = self._clock()

    async def ask(self, until: float | None = None) -> Mapping[str, Any]:
        """The health now; empty where the server has none.

        Raises:
            RetrievalError: no answer within the deadline and retries.
        """
        try:
            health, source = await self._connection.call("GET", "/health", None, _read, until=until)
        except Declined:
            health, source = {}, None
        index_hash = health.get("index_hash")
        self.source = source or (index_hash if isinstance(index_hash, str) else None)
        self._health = health
        self._asked_at = self._heard_at = self._clock()
        return health

    async def recent(self, until: float | None = None) -> Mapping[str, Any]:
        """The health of at most `BELIEVED_S` ago; raises as `ask` does."""
        health = self._health
        if health is None or (health and self._clock() - self._asked_at >= BELIEVED_S):
            return await self.ask(until)
        return health

    async def limits(self, until: float | None = None) -> Mapping[str, Any]:
        """The server's limits on a request; raises as `ask` does."""
        limits = (await self.recent(until)).get("limits")
        return limits if isinstance(limits, dict) else {}


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
