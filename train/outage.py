"""The guard against learning from an outage: a run pauses while what its episodes ask does not answer.

A trajectory that ended because the retriever or an engine did not answer leaves its group and counts in no mean. Where
few do, training goes on. Where more than a share of a step's trajectories do, the rest says little, and every further
question would be spent on nothing: so the step is not learnt from, nothing is begun, and a probe asks until there is an
answer. Then the groups that lost a trajectory are sampled again, with the same questions and seeds: the outage has
cost time and no optimiser step.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from agent.trajectory import NOT_THE_POLICYS_FAULT, Unit
from envs.episode import Search
from retrieval.retriever import RetrievalError
from train.progress import RunStopped

Probe = Callable[[], Awaitable[str | None]]
"""`await probe()`: None where the retriever answers and an engine can be reached, else the error in words. No token is
sampled: an engine that fails each request is found by its episodes, which come again after longer and longer waits.
"""


class RolloutFailure(RunStopped):
    """A step has nothing to learn from."""


class OutageGuard:
    """Decides that a step's trajectories are an outage's, and waits for its end. Use from one event loop.

    Args:
        max_share: largest share of a step's trajectories that may end without an answer, from 0 to below 1.
        probe: asks the retriever and the engines once.
        tell: is told in one line that the run pauses, and that it goes on.
        poll_s: seconds between two probes.
        patience_s: seconds without a step that can be learnt from, since the first that could not, before the run ends.

    Raises:
        ValueError: a number that makes no sense.
    """

    def __init__(
        self,
        *,
        max_share: float,
        probe: Probe,
        tell: Callable[[str], None] = lambda line: None,
        poll_s: float = 2.0,
        patience_s: float = 1800.0,
    ) -> None:
        if not 0 <= max_share < 1:
            raise ValueError(f"max_share is {max_share}; a share of the trajectories is from 0 to below 1")
        if poll_s <= 0 or patience_s <= 0:
            raise ValueError(f"poll_s is {poll_s} and patience_s {patience_s}; both must be more than 0 seconds")
        self._max_share = max_share
        self._probe = probe
        self._tell = tell
        self._poll_s = poll_s
        self._patience_s = patience_s
        self._since: float | None = None
        self._rounds = 0
        self.pauses = 0
        """Times that the run has paused."""

    def is_outage(self, units: Sequence[Unit]) -> bool:
        """True if more of these units' trajectories than the share had no answer."""
        counts = Counter(is_lost for unit in units for is_lost in _lost(unit))
        return counts[True] > self._max_share * counts.total()

    def answered(self) -> None:
        """A step can be learnt from: the outage, if there was one, is over."""
        self._since, self._rounds = None, 0

    async def wait(self, step: int, units: Sequence[Unit]) -> None:
        """Tell what a step's units lack, and return when the probe has an answer.

        Raises:
            RolloutFailure: it has none for as long as patience lasts, or steps stay without answers all the same.
        """
        started = time.monotonic()
        self._since = started if self._since is None else self._since
        until = self._since + self._patience_s
        self._rounds += 1
        self.pauses += 1
        lack = _lack(units)
        self._tell(
            f"paused: {lack}; step {step} is not learnt from and nothing is sampled until there is an answer "
            f"(asked every {self._poll_s:g} s, for at most {max(0.0, until - started):.0f} s)"
        )
        if self._rounds > 1:
            # The probe is answered, and what episodes ask is not: longer and longer, since each round costs samples.
            await asyncio.sleep(min(self._poll_s * 2 ** min(self._rounds - 2, 5), max(0.0, until - started)))
        while (words := await self._asked(until)) is not None:
            if time.monotonic() + self._poll_s > until:
                raise RolloutFailure(
                    f"step {step}: {lack}, and for {time.monotonic() - self._since:.0f} s there has been no answer; "
                    f"the last error: {words}. {_advice(units)}, then go on with --resume"
                )
            await asyncio.sleep(self._poll_s)
        self._tell(f"goes on after {time.monotonic() - started:.0f} s: step {step} samples again what had no answer")

    async def _asked(self, until: float) -> str | None:
        """What the probe says; a probe that hangs is an outage too."""
        try:
            async with asyncio.timeout(max(self._poll_s, until - time.monotonic())):
                words = await self._probe()
        except TimeoutError:
            words = "it did not answer"
        if words is None and time.monotonic() > until:
            return "the probe is answered, and what the episodes ask is not: see their deadlines and the load"
        return words


def lost_any(unit: Unit) -> bool:
    """True if a trajectory of this unit had no answer."""
    return any(_lost(unit))


def lost_all(unit: Unit) -> bool:
    """True if no trajectory of this unit can be learnt from, which says nothing about its question."""
    return all(_lost(unit))


def search_probe(search: Search, *, question: str, timeout_s: float = 10.0) -> Probe:
    """A probe that searches once; a search that takes longer is no answer."""

    async def probe() -> str | None:
        try:
            async with asyncio.timeout(timeout_s):
                await search(question, 1)
        except TimeoutError:
            return f"no answer within {timeout_s:g} s"
        except RetrievalError as error:
            return str(error)
        return None

    return probe


def _advice(units: Sequence[Unit]) -> str:
    """What a person can do about it."""
    reasons = {trajectory.finish_reason for unit in units for trajectory in unit.trajectories}
    engine = "See in the engine's log why it failed (memory, a lost GPU), or give `runtime.action_timeout_s` more time"
    retriever = "Start the retriever (`waymark serve-index INDEX` serves one)"
    if "engine_failure" not in reasons:
        return retriever
    return f"{retriever}. {engine}" if "retrieval_outage" in reasons else engine


def _lost(unit: Unit) -> list[bool]:
    return [trajectory.finish_reason in NOT_THE_POLICYS_FAULT for trajectory in unit.trajectories]


def _lack(units: Sequence[Unit]) -> str:
    reasons = Counter(trajectory.finish_reason for unit in units for trajectory in unit.trajectories)
    whom = {"retrieval_outage": "the retriever", "engine_failure": "the engine"}
    lost = {whom[reason]: count for reason, count in sorted(reasons.items()) if reason in NOT_THE_POLICYS_FAULT}
    told = f"{sum(lost.values())} of {reasons.total()} trajectories had no answer from {' or '.join(lost)}"
    return told if len(lost) == 1 else f"{told} ({', '.join(f'{count} from {one}' for one, count in lost.items())})"
