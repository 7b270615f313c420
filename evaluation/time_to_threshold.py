"""How much a run needed until its curve first reached a threshold, where some runs never reach it.

A run that does not reach the threshold is censored at what it was given: all that is known is that it needs more. So
the share of runs that reached it stands beside the restricted mean, the mean of min(needed, given) over ALL runs, and
methods are compared by the ratio of restricted means.
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
        needed: of each run, None where it never reached the threshold: `[num_runs]`.
        given: what each run was given, at which it is censored: `[num_runs]`.
    """

    needed: tuple[float | None, ...]
    given: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.needed or len(self.needed) != len(self.given):
            raise ValueError(
                f"{len(self.needed)} runs needed something and {len(self.given)} were given something; both say one "
                "number for each run, of at least one"
            )

    @property
    def share_reached(self) -> float:
        """Share of the runs that reached the threshold."""
        return sum(needed is not None for needed in self.needed) / len(self.needed)

    @property
    def restricted(self) -> NDArray[np.float64]:
        """min(needed, given): `[num_runs]`."""
        pairs = zip(self.needed, self.given, strict=True)
        return np.array([given if needed is None else min(needed, given) for needed, given in pairs])

    @property
    def restricted_mean(self) -> float:
        """Mean of `restricted` over all runs."""
        return float(self.restricted.mean())

    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the restricted mean, over runs."""
        low, high = bootstrap_interval(self.restricted)
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
