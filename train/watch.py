"""The collapse watch: a state machine over the figures of `metrics.jsonl`, one line after the other.

Each signal reads one figure and holds it against a reference: the start of the run, its best so far, its recent
median, or nothing. How far it is beyond, in limits (`WatchLimits`), is its deviation: 1 at the limit, 2 at twice as
much (of factors: at the limit squared). Deviations of consecutive steps at or beyond the limit add up, and a sum of
`patience` is an alarm, which stands until the signal is back within half its limit. What is beyond its limit changes
no reference. Nothing but the lines is read, so that `benchmarks/watch.py` replays a finished run, and `state_dict` is
all that a resumed one needs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from rewards.combine import GATED_PRODUCT
from train.watch_config import WatchConfig
from train.watch_signals import GRADIENT, HELD_OUT, HELD_OUT_HIGH, MOST, SIGNALS, UPDATE_TAIL, Signal

RECENT = 20
"""Steps whose median is the reference of a `recent` signal, which needs `RECENT_AT_LEAST`."""
RECENT_AT_LEAST = 5
CALM = 0.5
"""Deviation at or below which an alarm ends."""

_ALONE = {signal.limit for signal in SIGNALS if signal.alone}
_REFERENCES = {"start": "the start's {}", "best": "the best {}", "recent": "the recent {}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A signal that has gone too far.

    Attributes:
        step: the line's step.
        signal, metric, value, reference, limit, deviation: see `Signal`; `reference` is None where there is none, and
            `value` where it was not finite.
        message: the same for a person.
    """

    step: int
    signal: str
    metric: str
    value: float | None
    reference: float | None
    limit: float
    deviation: float
    message: str


class CollapseWatch:
    """Reads lines in their order; `observe` says which alarms a line raises.

    Attributes:
        standing: signals in alarm after the last line, with the step that raised each.
    """

    def __init__(self, config: WatchConfig) -> None:
        self._config = config
        self._references: dict[str, list[float]] = {}
        self._sums: dict[str, float] = {}
        self._rewards: list[float] = []
        self._reward_at_best: float | None = None
        self.standing: dict[str, int] = {}

    def observe(self, step: int, values: Mapping[str, Any]) -> list[Alarm]:
        """The alarms that this line raises; those that stand already are not raised again."""
        reward = reward_of(values)
        if reward is not None:
            self._rewards.append(reward)
            if self._references.get("reward_without_em") and self._reward_at_best is None:
                self._reward_at_best = reward  # the best EM is of step 0, before any reward: these are its samples
        raised = []
        for signal in SIGNALS:
            limit = getattr(self._config.limits, signal.limit)
            if limit is None or signal.metric not in values or not self._is_judged(signal, values):
                continue
            alarm = self._judge(signal, step, values, limit)
            if alarm is not None:
                raised.append(alarm)
        if values.get(HELD_OUT) is not None:
            self._rewards.clear()
        return raised

    @property
    def says_stop(self) -> bool:
        """True if so many signals stand in alarm that `stop` ends the run, or one that is enough alone."""
        return len(self.standing) >= self._config.stop_signals or not _ALONE.isdisjoint(self.standing)

    def refuses(self, values: Mapping[str, Any]) -> bool:
        """True if an update that these figures tell of goes so far that it raises an alarm at once."""
        share, limit = values.get(UPDATE_TAIL), self._config.limits.update_tail
        return share is not None and limit is not None and share / limit >= self._config.patience

    def metrics(self) -> dict[str, float]:
        """`watch/alarms`, how many signals stand in alarm, and 1 as `watch/SIGNAL` for each of those."""
        return {"watch/alarms": float(len(self.standing)), **{f"watch/{name}": 1.0 for name in self.standing}}

    def state_dict(self) -> dict[str, Any]:
        """Everything that later lines are judged by, as plain JSON."""
        return {
            "references": {name: list(seen) for name, seen in self._references.items()},
            "sums": dict(self._sums),
            "rewards": list(self._rewards),
            "reward_at_best": self._reward_at_best,
            "standing": dict(self.standing),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`; an empty one is the beginning (of a checkpoint that is older than the watch).

        An alarm whose signal has been switched off since stands no more.
        """
        limits = self._config.limits
        self._references = {name: list(seen) for name, seen in state.get("references", {}).items()}
        self._sums = dict(state.get("sums", {}))
        self._rewards = list(state.get("rewards", ()))
        self._reward_at_best = state.get("reward_at_best")
        standing = state.get("standing", {})
        self.standing = {name: step for name, step in standing.items() if getattr(limits, name, None) is not None}

    def forget_alarms(self) -> None:
        """No signal stands in alarm; references stay. One that is still beyond its limit is told again."""
        self.standing.clear()
        self._sums.clear()

    def _is_judged(self, signal: Signal, values: Mapping[str, Any]) -> bool:
        if signal.limit == "likelihood_fall":
            return bool((values.get("logprob/num_correct") or 0) >= self._config.min_correct)
        return True

    def _judge(self, signal: Signal, step: int, values: Mapping[str, Any], limit: float) -> Alarm | None:
        """Add one value to what is known of a signal."""
        given = values[signal.metric]
        name, value = signal.limit, math.nan if given is None else float(given)
        if not math.isfinite(value) and signal.metric != GRADIENT:
            return None  # there was nothing to measure
        seen = self._references.setdefault(name, [])
        reference = self._reference(signal, seen)
        deviation = 0.0
        if not math.isfinite(value):
            deviation = MOST  # whatever it was before, and where there was none
        elif reference is not None or signal.against == "nothing":
            deviation = min(signal.deviation(value, reference or 0.0, limit), MOST)
        if name == "reward_without_em" and not self._reward_has_risen():
            deviation = min(deviation, CALM)
        if signal.metric == HELD_OUT and reference is not None and (values.get(HELD_OUT_HIGH) or 0.0) >= reference:
            deviation = min(deviation, CALM)  # so many dev questions cannot tell it from the best one
        if deviation < 1.0:
            self._sums[name] = 0.0
            self._remember(signal, seen, value)
            if deviation <= CALM:
                self.standing.pop(name, None)
            return None
        self._sums[name] = self._sums.get(name, 0.0) + deviation
        if name in self.standing or self._sums[name] < self._config.patience:
            return None
        self.standing[name] = step
        return Alarm(
            step=step,
            signal=name,
            metric=signal.metric,
            value=value if math.isfinite(value) else None,
            reference=reference,
            limit=limit,
            deviation=deviation,
            message=_message(signal, value, reference, limit),
        )

    def _reference(self, signal: Signal, seen: list[float]) -> float | None:
        """What a value is compared with, or None while that is not known."""
        least = self._config.min_dev_em if signal.metric == HELD_OUT else signal.least
        if signal.against == "nothing" or not seen:
            return None
        if signal.against == "recent":
            found = median(seen) if len(seen) >= RECENT_AT_LEAST else 0.0
        else:
            found = fmean(seen) if signal.against == "start" else seen[0]
        return found if signal.measure == "by" or found >= max(least, 1e-12) else None

    def _remember(self, signal: Signal, seen: list[float], value: float) -> None:
        if not math.isfinite(value):
            return
        if signal.against == "recent":
            seen.append(value)
            del seen[:-RECENT]
        elif signal.against == "start" and len(seen) < self._config.reference_steps:
            seen.append(value)
        elif signal.against == "best":
            is_best = not seen or (value > seen[0] if signal.bad == "fall" else value < seen[0])
            if is_best:
                seen[:] = [value]
                if signal.limit == "reward_without_em":
                    self._reward_at_best = fmean(self._rewards) if self._rewards else None

    def _reward_has_risen(self) -> bool:
        """True if the mean reward since the last evaluation is above what it was before the best one."""
        return bool(self._rewards) and self._reward_at_best is not None and fmean(self._rewards) > self._reward_at_best


def reward_of(values: Mapping[str, Any]) -> float | None:
    """A trajectory's mean reward: what all rewards together paid, behind gates and times weights.

    Under `gated_product` that is the product alone. Without components whose weight follows a schedule, for their rise
    would be that of the weight; None where nothing is left.
    """
    paid = {
        name.removeprefix("rewards/").removesuffix("/weighted_mean"): float(value)
        for name, value in values.items()
        if name.startswith("rewards/") and name.endswith("/weighted_mean") and value is not None
    }
    steady = {name: value for name, value in paid.items() if f"rewards/{name}/schedule" not in values}
    if GATED_PRODUCT in paid:
        return paid[GATED_PRODUCT] if steady == paid else None
    return sum(steady.values()) if steady else None


def _message(signal: Signal, value: float, reference: float | None, limit: float) -> str:
    told = signal.words.format(value=f"{value:.3g}" if math.isfinite(value) else "not finite")
    if reference is None:
        return f"{signal.limit}: {told} (limit {limit:g})"
    where = _REFERENCES[signal.against].format(f"{reference:.3g}")
    return f"{signal.limit}: {told}, against {where} (limit {limit:g}{'' if signal.measure == 'by' else ' x'})"
