"""How sure a mean is: percentile bootstrap intervals over questions, or over seeds.

The bootstrap (Efron, 1979) draws as many values as there are, with replacement, again and again, and reads the
interval off the percentiles of the statistic. NaN means "does not apply" and is left out before anything is drawn, so
the interval speaks of the same values as `numpy.nanmean`.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Statistic = Literal["mean", "median"]

_MAX_DRAWN_VALUES = 4_000_000


class Interval(NamedTuple):
    """A confidence interval; both ends are NaN where no value applies."""

    low: float
    high: float


def bootstrap_interval(
    values: Sequence[float] | NDArray[np.number],
    *,
    statistic: Statistic = "mean",
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of the mean or median of `values`: `[num_values]`, NaN left out.

    Equal values, settings and `seed` give an equal interval. One value gives an interval of no width, none gives NaN.
    Memory is bounded: resamples are drawn in blocks of at most 32 MB.

    >>> bootstrap_interval([1.0, 1.0, 1.0])
    Interval(low=1.0, high=1.0)

    Raises:
        ValueError: `values` has more than one dimension or holds an infinite value, `num_resamples` < 1, `confidence`
            outside (0, 1), or an unknown `statistic`.
    """
    if statistic not in ("mean", "median"):
        raise ValueError(f"statistic is {statistic!r}; use 'mean' or 'median'")
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}; it must be at least 1 (2000 is usual)")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1, both excluded (0.95 is usual)")
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"values have shape {array.shape}; give one dimension, one number per question or seed")
    array = array[~np.isnan(array)]
    if np.isinf(array).any():
        raise ValueError("values hold an infinite number; leave out with NaN what does not apply")
    if array.size == 0:
        return Interval(float("nan"), float("nan"))
    if (array == array[0]).all():
        return Interval(float(array[0]), float(array[0]))
    rng = np.random.default_rng(seed)
    block = max(1, _MAX_DRAWN_VALUES // array.size)
    estimates = np.empty(num_resamples)
    for start in range(0, num_resamples, block):
        stop = min(start + block, num_resamples)
        drawn = array[rng.integers(0, array.size, size=(stop - start, array.size))]
        estimates[start:stop] = drawn.mean(axis=1) if statistic == "mean" else np.median(drawn, axis=1)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(estimates, [tail, 1.0 - tail])
    return Interval(float(low), float(high))
