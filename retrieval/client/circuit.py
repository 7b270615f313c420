"""A circuit breaker: after some failures in a row it stops asking for a while, so that a server that is down costs its
callers nothing and is not hammered when it comes back.
"""

import time
from collections.abc import Callable

from retrieval.retriever import RetrievalError


class CircuitOpen(RetrievalError):
    """Too many calls failed in a row; none is made until the pause is over."""


class CircuitBreaker:
    """Closed: calls go through. Open, after `failures` failed calls in a row: none does for `pause_s` seconds. Then one
    is let through to try: if it succeeds the circuit closes, if it fails it stays open for another pause.

    Args:
        name: of what is called, for the message.
        failures: failed calls in a row that open it; 0 never does.
        pause_s: how long it stays open, in seconds.
        clock: seconds, monotonic.
    """

    def __init__(
        self, name: str, *, failures: int = 5, pause_s: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if failures < 0 or pause_s < 0:
            raise ValueError(f"failures is {failures} and pause_s is {pause_s}; both must be at least 0")
        self._name = name
        self._failures = failures
        self._pause_s = pause_s
        self._clock = clock
        self._failed = 0
        self._last_error = ""
        self._opened_at: float | None = None
        self._trying = False
        self._generation = 0

    def enter(self) -> int:
        """Ask to make a call. `succeeded`, `failed` or `abandoned` must follow, with the number that this returns: a
        call that was let through before the circuit last opened, tried or closed decides nothing any more.

        Raises:
            CircuitOpen: not now.
        """
        if self._opened_at is None:
            return self._generation
        left_s = self._opened_at + self._pause_s - self._clock()
        if left_s > 0 or self._trying:
            when = f"the next attempt is in {left_s:.1f} s" if left_s > 0 else "one call is trying it now"
            raise CircuitOpen(
                f"{self._name} failed {self._failed} times in a row, so it is not asked; {when}. "
                f"The last error was: {self._last_error}"
            )
        self._trying = True
        self._generation += 1
        return self._generation

    def succeeded(self, entered: int) -> None:
        """The call was answered."""
        if entered != self._generation:
            return
        self._failed = 0
        if self._trying:
            self._change(opened_at=None)

    def failed(self, entered: int, error: BaseException) -> None:
        """The call failed for good."""
        if entered != self._generation:
            return
        self._failed += 1
        self._last_error = str(error)[:500]
        if self._trying or (self._failures and self._failed >= self._failures):
            self._change(opened_at=self._clock())

    def abandoned(self, entered: int) -> None:
        """The caller gave up, which says nothing about what it called."""
        if entered == self._generation:
            self._trying = False

    def _change(self, *, opened_at: float | None) -> None:
        self._opened_at = opened_at
        self._trying = False
        self._generation += 1
