"""How components become what credit gets: kept apart and added there (the default), or one product of bottom line and
utilities.

The product is SearchLLM's gated aggregation (arXiv:2603.10473): R = B U, so that no utility pays for a breach of the
bottom line. Its smoothing and weights were not recovered from the paper; delta 1e-3 is this project's choice. Smaller,
and all groups of an untrained policy, whose bottom line is 0, would have the same reward.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewards.bounds import Bounds
from rewards.score import Scores

GATED_PRODUCT = "gated_product"
"""Name of the component that holds the product."""


def gated_product(
    bottom_line: NDArray[np.float64],
    utilities: NDArray[np.float64],
    weights: NDArray[np.float64],
    *,
    smoothing: float = 1e-3,
) -> NDArray[np.float64]:
    """R = B U, with B = prod_m (b_m + smoothing)^(1 / M) and U = sum_k w_k u_k / sum_k w_k.

    bottom_line: `[M, num_trajectories]`; utilities: `[K, num_trajectories]`; both are clipped to [0, 1], because a
    negative factor would pay a breach of the other. weights: `[K]`, 0 or more. What is NaN is left out: M, and the sums
    over k, are over what applies. Returns `[num_trajectories]` in [0, 1 + smoothing], NaN where no bottom line or no
    utility of positive weight applies.
    """
    b, u = np.clip(bottom_line, 0.0, 1.0), np.clip(utilities, 0.0, 1.0)
    has_b, has_u = ~np.isnan(b), ~np.isnan(u)
    num_b = has_b.sum(axis=0)
    logs = np.where(has_b, np.log(np.where(has_b, b, 1.0) + smoothing), 0.0).sum(axis=0)
    total = (weights[:, None] * has_u).sum(axis=0)
    weighted = (weights[:, None] * np.where(has_u, u, 0.0)).sum(axis=0)
    applies = (num_b > 0) & (total > 0)
    product = np.exp(logs / np.maximum(num_b, 1)) * weighted / np.where(total > 0, total, 1.0)
    return np.where(applies, product, np.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedProduct:
    """`gated_product` over named components: those in `bottom_line` are B, all others of positive weight are U.

    A component's value is that of the whole trajectory: its outcome plus the sum of its turns, clipped to [0, 1] after
    the sum. So turn rewards are no longer told apart by turn, and the product is an outcome. A part that does not apply
    is left out; where a verdict failed on which a part hangs, the product has failed.
    """

    bottom_line: tuple[str, ...]
    smoothing: float = 1e-3

    def combined(self, scores: Mapping[str, Scores], weights: Mapping[str, float]) -> Scores:
        """The product as a component. `scores` are those behind their gates; `weights` those of the utilities."""
        totals = {name: trajectory_totals(score) for name, score in scores.items()}
        utilities = [name for name in scores if name not in self.bottom_line and weights[name] > 0]
        num_trajectories = len(next(iter(totals.values())))
        failed = np.any([scores[name].has_failed for name in (*self.bottom_line, *utilities)], axis=0)
        product = gated_product(
            np.stack([totals[name] for name in self.bottom_line]),
            np.array([totals[name] for name in utilities]).reshape(len(utilities), num_trajectories),
            np.array([weights[name] for name in utilities]),
            smoothing=self.smoothing,
        )
        turns = tuple(np.full_like(turn, np.nan) for turn in next(iter(scores.values())).turn)
        return Scores(turn=turns, outcome=np.where(failed, np.nan, product), failed=failed)

    def bounds(self, bounds: Mapping[str, Bounds], weights: Mapping[str, float], may_lack: frozenset[str]) -> Bounds:
        """Bounds of the product, given those of its parts; those in `may_lack` can be NaN where others are not."""
        clipped = {name: _clipped(one) for name, one in bounds.items()}
        b = [clipped[name] for name in self.bottom_line]
        u = {name: one for name, one in clipped.items() if name not in self.bottom_line and weights[name] > 0}
        if not u:
            return Bounds(low=0.0, high=0.0)
        low, high = (
            self._bottom([getattr(one, side) for one in b], may_lack, side)
            * _mean({name: getattr(one, side) for name, one in u.items()}, weights, may_lack, side)
            for side in ("low", "high")
        )
        # Without any utility, or any bottom line, there is no product: it adds 0.
        nothing = may_lack.issuperset(u) or may_lack.issuperset(self.bottom_line)
        return Bounds(low=0.0 if nothing else low, high=high)

    def _bottom(self, values: list[float], may_lack: frozenset[str], side: str) -> float:
        smoothed = [value + self.smoothing for value in values]
        if may_lack.intersection(self.bottom_line):
            return min(smoothed) if side == "low" else max(smoothed)
        return float(np.exp(np.mean(np.log(smoothed))))


def trajectory_totals(scores: Scores) -> NDArray[np.float64]:
    """Outcome plus the sum over turns, NaN where nothing applies or a verdict failed: `[num_trajectories]`."""
    totals = np.full(len(scores.outcome), np.nan)
    has_failed = scores.has_failed
    for i, (turns, outcome) in enumerate(zip(scores.turn, scores.outcome, strict=True)):
        applying = [value for value in (*turns, outcome) if not np.isnan(value)]
        if applying and not has_failed[i]:
            totals[i] = sum(applying)
    return totals


def _mean(values: dict[str, float], weights: Mapping[str, float], may_lack: frozenset[str], side: str) -> float:
    """A mean of which some members may be missing lies between the least and the greatest of them."""
    if may_lack.intersection(values):
        return min(values.values()) if side == "low" else max(values.values())
    return sum(weights[name] * value for name, value in values.items()) / sum(weights[name] for name in values)


def _clipped(bounds: Bounds) -> Bounds:
    return Bounds(low=min(max(bounds.low, 0.0), 1.0), high=min(max(bounds.high, 0.0), 1.0))
