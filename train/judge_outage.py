"""The guard against learning from a judge that fails: a run pauses while too many of its verdicts are NaN.

A trajectory whose verdict failed leaves its group, so a few cost little. Where more than a share of the newest requests
fail, or no trajectory of a step is left, what there is says little: the step is not learnt from, and its trajectories
are scored again, after longer and longer waits, until the judge answers. What it has answered before it remembers;
rewards with a state begin again at the state before the step. A judge is any object with the counters of
`rewards.judge.judge.Judge`, found as the `judge` of a reward.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rewards.reward import Reward
from train.composition_config import CompositionConfig
from train.outage import RolloutFailure

FEWEST_REQUESTS = 10
"""Of fewer requests a share says nothing."""

REASON_CHARS = 200
"""Of the reason of a failed verdict that a message shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReading:
    """Counters of all judges of a run, or what was added to them: requests, failed and remembered ones, money."""

    asked: float = 0.0
    failed: float = 0.0
    cached: float = 0.0
    cost: float = 0.0

    def __sub__(self, earlier: "JudgeReading") -> "JudgeReading":
        return JudgeReading(
            asked=self.asked - earlier.asked,
            failed=self.failed - earlier.failed,
            cached=self.cached - earlier.cached,
            cost=self.cost - earlier.cost,
        )

    def metrics(self) -> dict[str, float]:
        """As figures for the metrics."""
        return {
            "judge/asked": self.asked,
            "judge/failed": self.failed,
            "judge/cached": self.cached,
            "judge/cost": self.cost,
        }


def judges_of(rewards: Mapping[str, Reward]) -> list[Any]:
    """The judges that these rewards ask, each once."""
    found = {id(judge): judge for one in rewards.values() if (judge := getattr(one, "judge", None)) is not None}
    return [judge for judge in found.values() if hasattr(judge, "asked") and hasattr(judge, "failed")]


def read_judges(judges: list[Any]) -> JudgeReading:
    """The sum of their counters."""

    def total(counter: str) -> float:
        return float(sum(getattr(judge, counter, 0) for judge in judges))

    return JudgeReading(asked=total("asked"), failed=total("failed"), cached=total("cached"), cost=total("cost"))


class JudgeGuard:
    """Decides that judges fail, and waits. Safe between threads; one alone waits.

    Args:
        judges: whose counters are read.
        max_share: largest share of the newest requests that may fail, from 0 to below 1.
        window: newest requests over which the share is taken; the first decision needs FEWEST_REQUESTS.
        tell: is told in one line that the run pauses, and that it goes on.
        poll_s: seconds before the first scoring again; they double, up to 32 times as many.
        patience_s: seconds since the first failure before the run ends.
        sleep, now: how time passes.

    Raises:
        ValueError: a number that makes no sense.
    """

    def __init__(
        self,
        judges: list[Any],
        *,
        max_share: float = 0.2,
        window: int = 200,
        tell: Callable[[str], None] = lambda line: None,
        poll_s: float = 2.0,
        patience_s: float = 600.0,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 <= max_share < 1:
            raise ValueError(f"max_share is {max_share}; a share of the requests is from 0 to below 1")
        if window < 1 or poll_s <= 0 or patience_s <= 0:
            raise ValueError(f"window {window}, poll_s {poll_s} and patience_s {patience_s} must all be more than 0")
        self._judges = judges
        self._max_share = max_share
        self._window = window
        self._tell = tell
        self._poll_s = poll_s
        self._patience_s = patience_s
        self._sleep = sleep
        self._now = now
        self._seen = read_judges(judges)
        self._taken = self._seen
        self._newest: deque[JudgeReading] = deque()
        self._failed_of = [getattr(judge, "failed", 0) for judge in judges]
        self._reason = ""
        self._since: float | None = None
        self._rounds = 0
        self._counting = threading.RLock()
        self.pauses = 0
        """Times that the run has paused."""

    @classmethod
    def of(
        cls,
        rewards: Mapping[str, Reward],
        composition: CompositionConfig,
        *,
        patience_s: float,
        tell: Callable[[str], None] = lambda line: None,
    ) -> "JudgeGuard | None":
        """The guard over the judges that these rewards ask; None where there are none."""
        judges = judges_of(rewards)
        if not judges:
            return None
        share, window = composition.max_judge_failure_share, composition.judge_window
        return cls(judges, max_share=share, window=window, tell=tell, patience_s=patience_s)

    def look(self) -> None:
        """Take in what was asked since the last look; called after each unit, so that the newest are told apart."""
        with self._counting:
            reading = read_judges(self._judges)
            if reading.asked > self._seen.asked:
                self._newest.append(reading - self._seen)
            self._seen = reading
            failed_of = [getattr(judge, "failed", 0) for judge in self._judges]
            for judge, before, now in zip(self._judges, self._failed_of, failed_of, strict=True):
                if now > before:
                    self._reason = _in_short(getattr(judge, "last_failure", None))
            self._failed_of = failed_of
            while len(self._newest) > 1 and self._asked - self._newest[0].asked >= self._window:
                self._newest.popleft()

    @property
    def failed_share(self) -> float:
        """Share of the newest requests that failed; 0 where there are none."""
        with self._counting:
            return self._failed / self._asked if self._newest else 0.0

    @property
    def is_failing(self) -> bool:
        """True if more of the newest requests failed than may; while the run pauses, any number of requests decides."""
        with self._counting:
            is_told = self._asked >= min(FEWEST_REQUESTS, self._window) or self._since is not None
            return is_told and self.failed_share > self._max_share

    def answered(self) -> None:
        """A step was scored that can be learnt from: the pause, if there was one, is over."""
        if self._since is not None:
            self._tell(f"goes on after {self._now() - self._since:.0f} s: the judge answers again")
        self._since, self._rounds = None, 0

    def wait(self, step: int) -> None:
        """Wait before a step is scored again, and forget what failed until now.

        Raises:
            RolloutFailure: judges have failed for as long as patience lasts.
        """
        now = self._now()
        if self._since is None:
            self._since = now
            self.pauses += 1
        left = self._since + self._patience_s - now
        with self._counting:
            share = self.failed_share
            lack = f"{self._failed:.0f} of the newest {self._asked:.0f} requests to the judge failed"
            self._newest.clear()
        if left <= 0:
            is_above = share > self._max_share
            why = (
                f"above composition.max_judge_failure_share {self._max_share:.0%}" if is_above else "which left nothing"
            )
            raise RolloutFailure(
                f"step {step}: {lack} ({share:.0%}, {why}), for {now - self._since:.0f} s{self._reason}: see that the "
                "judge answers and that its budget is not spent, then go on (train: --resume; ablate: the same command)"
            )
        pause = min(self._poll_s * 2 ** min(self._rounds, 5), left)
        if not self._rounds:
            self._tell(
                f"paused: {lack}; step {step} is not learnt from and is scored again until the judge answers (for at "
                f"most {left:.0f} s){self._reason}"
            )
        self._rounds += 1
        self._sleep(pause)

    def take_reading(self) -> JudgeReading:
        """What was asked, failed, remembered and spent since the last call."""
        reading, before = read_judges(self._judges), self._taken
        self._taken = reading
        return reading - before

    @property
    def _asked(self) -> float:
        return sum(reading.asked for reading in self._newest)

    @property
    def _failed(self) -> float:
        return sum(reading.failed for reading in self._newest)


def _in_short(reason: str | None) -> str:
    """The end of a message that says why the newest verdict failed; nothing where the judge does not tell."""
    if not reason:
        return ""
    line = " ".join(reason.split())
    return f"; the newest because: {line if len(line) <= REASON_CHARS else line[:REASON_CHARS] + ' …'}"
