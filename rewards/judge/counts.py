"""What a judge has been asked, what of it failed and what was known already: safe between threads."""

import threading


class JudgeCounts:
    """Base of judges: the counters of `rewards.judge.judge.Judge`, which `count` alone changes."""

    def __init__(self) -> None:
        self._counting = threading.Lock()
        self._asked = self._failed = self._cached = 0
        self.last_failure: str | None = None
        """Why the newest verdict that is NaN is."""

    @property
    def asked(self) -> int:
        """Requests that the judge has had so far."""
        return self._asked

    @property
    def failed(self) -> int:
        """Those of them whose verdict was NaN."""
        return self._failed

    @property
    def cached(self) -> int:
        """Those of them that were answered from what had been judged before."""
        return self._cached

    @property
    def cost(self) -> float:
        """Money spent; a judge without prices costs nothing."""
        return 0.0

    def count(self, *, asked: int = 0, failed: int = 0, cached: int = 0) -> None:
        """Add to the counters."""
        with self._counting:
            self._asked += asked
            self._failed += failed
            self._cached += cached
