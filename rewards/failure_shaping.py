"""How much SubSearch pays a failed episode: a weight beta that decays, and a gate that watches exact match.

The weight is constant within a step. A step is `units_per_step` scored units, because a reward is not told the
optimiser's steps; what the gate has seen is part of the state, one for the whole run and not one a worker.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewards.reward import finite_parameter

_SLOPE_TOLERANCE = 5e-4
_RATE = 0.2


def scheduled_beta(step: int, *, beta: float, floor: float, warmup_steps: int, decay_steps: int) -> float:
    """The weight before the gate: from `beta` to 0.75 beta over the warm-up, then on a cosine down to `floor`.

    beta_t = beta - (beta - b) (t / W)^1.5 for t < W, with b = max(floor, 0.75 beta);
    beta_t = floor + (b - floor) (1 + cos(pi (t - W) / D)) / 2 up to t = W + D; `floor` from there on.
    Range [min(floor, beta), beta]. Source: the "smart" schedule of SubSearch's code.
    """
    warmup, decay = max(1, warmup_steps), max(1, decay_steps)
    lowest = min(floor, beta)
    after_warmup = max(lowest, 0.75 * beta)
    if step < warmup:
        return beta - (beta - after_warmup) * (step / warmup) ** 1.5
    if step < warmup + decay:
        return lowest + (after_warmup - lowest) * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / decay))
    return lowest


def gated_beta(
    scheduled: float, *, ema: float | None, slope: float, target_em: float, low: float, high: float, max_step: float
) -> float:
    """The weight after the gate, at most `max_step` away from the scheduled one and inside [low, high].

    EMA of EM below the target and flat (|slope| <= 5e-4): up by 0.2 (target - ema)(high - scheduled).
    Above the target and rising (slope > 5e-4): down by 0.2 (ema - target)(scheduled - low). Else unchanged.
    """
    change = 0.0
    if ema is not None and ema < target_em and abs(slope) <= _SLOPE_TOLERANCE:
        change = _RATE * (target_em - ema) * (high - scheduled)
    elif ema is not None and ema > target_em and slope > _SLOPE_TOLERANCE:
        change = -_RATE * (ema - target_em) * (scheduled - low)
    return min(high, max(low, scheduled + min(max_step, max(-max_step, change))))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapingSettings:
    """What a reward that shapes failures is given, as SubSearch's code has it by default."""

    beta: float = 0.2
    floor: float = 0.02
    warmup_steps: int = 200
    decay_steps: int = 2000
    units_per_step: int = 12
    ema_decay: float = 0.98
    target_em: float = 0.65
    max_step: float = 0.01
    gated: bool = True


class FailureShaping:
    """The weight as it moves along with training.

    Raises:
        ValueError: a setting out of range; the message names the reward and the setting.
    """

    def __init__(self, reward: str, settings: Mapping[str, Any]) -> None:
        known = ShapingSettings.__dataclass_fields__
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise ValueError(f"reward {reward}: the schedule has no {unknown}; it has {sorted(known)}")
        self.settings = ShapingSettings(**settings)
        for name in known:
            value = getattr(self.settings, name)
            if name == "gated":
                if not isinstance(value, bool):
                    raise ValueError(f"reward {reward}: gated must be true or false, got {value!r}")
                continue
            checked = finite_parameter(reward, name, value, minimum=1.0 if name == "units_per_step" else 0.0)
            if name in ("ema_decay", "target_em", "beta", "floor") and checked > 1.0:
                raise ValueError(f"reward {reward}: {name} must be at most 1, got {value!r}")
            if name.endswith(("_steps", "_per_step")) and not isinstance(value, int):
                raise ValueError(f"reward {reward}: {name} must be a whole number, got {value!r}")
        self._num_units = 0
        self._matches: list[float] = []
        self._ema: float | None = None
        self._slope = 0.0

    @property
    def step(self) -> int:
        """Whole steps seen."""
        return self._num_units // self.settings.units_per_step

    @property
    def ema(self) -> float | None:
        """Moving average of exact match, one value a step; None before the first step is over."""
        return self._ema

    @property
    def beta(self) -> float:
        """The weight of this step, in [min(floor, beta), beta]."""
        s = self.settings
        scheduled = scheduled_beta(
            self.step, beta=s.beta, floor=s.floor, warmup_steps=s.warmup_steps, decay_steps=s.decay_steps
        )
        if not s.gated:
            return scheduled
        return gated_beta(
            scheduled,
            ema=self._ema,
            slope=self._slope,
            target_em=s.target_em,
            low=min(s.floor, s.beta),
            high=s.beta,
            max_step=s.max_step,
        )

    def observe(self, matches: Sequence[float]) -> None:
        """Count one scored unit, with the exact matches (0 or 1) of its scorable trajectories, maybe none."""
        self._num_units += 1
        self._matches.extend(matches)
        if self._num_units % self.settings.units_per_step or not self._matches:
            return
        mean = sum(self._matches) / len(self._matches)
        decay = self.settings.ema_decay
        previous = self._ema
        self._ema = mean if previous is None else decay * previous + (1.0 - decay) * mean
        self._slope = 0.0 if previous is None else self._ema - previous
        self._matches = []

    def state_dict(self) -> dict[str, Any]:
        """Units counted, the step's matches so far, the moving average and its slope, as JSON values."""
        return {
            "num_units": self._num_units,
            "matches": list(self._matches),
            "ema": self._ema,
            "slope": self._slope,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._num_units = int(state["num_units"])
        self._matches = [float(value) for value in state["matches"]]
        self._ema = None if state["ema"] is None else float(state["ema"])
        self._slope = float(state["slope"])
