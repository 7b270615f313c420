"""How much a run needed until its curve first reached a threshold, where some runs never reach it.

A run that does not reach the threshold is censored at the limit that all runs had alike: all that is known is that it
needs more. So the share of runs that reached it stands beside the restricted mean, the mean of min(needed, limit) over
ALL runs, and methods are compared by the ratio of restricted means. A cost that was not limited alike censors nothing:
a run that gave up early spent little, so its mean is known only where every run reached the threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.significance import bootstrap_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeToThreshold:
    """What the runs of one method needed.

    Attributes:
        needed: of each run, None where it never reached the threshold within the limit: `[num_runs]`.
        limit: what every run was given, at which it is censored; None where they were not given the same.

    Raises:
        ValueError: no run, or one that needed more than the limit.
    """

    needed: tuple[float | None, ...]
    limit: float | None

    def __post_init__(self) -> None:
        if not self.needed:
            raise ValueError("needed is empty; give a number, or None, for each run, of at least one")
        limit = self.limit
        if limit is not None and (past := [needed for needed in self.needed if needed is not None and needed > limit]):
            raise ValueError(f"needed has {past}, past the limit of {limit}; give None for a run that is censored")

    @property
    def share_reached(self) -> float:
        """Share of the runs that reached the threshold."""
        return sum(needed is not None for needed in self.needed) / len(self.needed)

    @property
    def restricted(self) -> NDArray[np.float64] | None:
        """min(needed, limit): `[num_runs]`; None where a run never reached the threshold and there is no limit."""
        censored = [self.limit if needed is None else needed for needed in self.needed]
        return None if None in censored else np.array(censored, dtype=np.float64)

    @property
    def restricted_mean(self) -> float:
        """Mean of `restricted` over all runs; NaN where it is not known."""
        restricted = self.restricted
        return float("nan") if restricted is None else float(restricted.mean())

    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the restricted mean, over runs; NaN where it is not known."""
        restricted = self.restricted
        low, high = bootstrap_interval([] if restricted is None else restricted)
        return low, high


def first_reached(curve: Sequence[tuple[float, float]], threshold: float) -> float | None:
    """Where a curve of (position, value) pairs first has a value of at least `threshold`, or None."""
    return next((position for position, value in curve if value >= threshold), None)


def ratio_of_means(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], *, num_resamples: int = 2000
) -> tuple[float, float, float]:
    """mean(ours) / mean(theirs) with a 95 % percentile bootstrap; both sides draw their runs independently.

    ours: `[num_runs]`, theirs: `[num_their_runs]`, their mean above 0.
    """
    rng = np.random.default_rng(0)
    means = [x[rng.integers(0, x.size, size=(num_resamples, x.size))].mean(axis=1) for x in (ours, theirs)]
    low, high = np.quantile(means[0] / means[1], [0.025, 0.975])
    return float(ours.mean() / theirs.mean()), float(low), float(high)
