"""Differences of two systems, drawn again: the bootstrap's estimates and the randomisation test's null distribution.

Both work on all measures of a question at once, because the same questions are drawn, or swapped, for each of them.
They give the estimates themselves: those of several question sets can be averaged, which makes the interval and the
test of a suite's mean (each set drawn for itself, and of equal weight). Sets that are averaged need seeds of their own,
such as `(seed, place)`: under one seed, sets of one size would get the same draws and move together.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_BLOCK_VALUES = 4_000_000


class Bootstrap(NamedTuple):
    """Interval of a difference (Efron, 1979), and the two-sided p-value of the paired bootstrap test.

    The test moves the estimates so that their centre is 0 and counts those at least as far from it as what was seen
    (Berg-Kirkpatrick, Burkett and Klein, EMNLP 2012).
    """

    low: float
    high: float
    p: float


def bootstrap_estimates(
    differences: NDArray[np.float64], *, num_resamples: int = 2000, seed: int | Sequence[int] = 0
) -> NDArray[np.float64]:
    """Means over questions drawn with replacement: `[num_resamples, num_measures]`.

    differences: `[num_questions, num_measures]`; NaN where a measure does not apply to a question, which leaves that
    question out of that mean. A resample in which nothing applies is NaN.

    Raises:
        ValueError: no question, another number of dimensions, or `num_resamples` < 1.
    """
    _check(differences, num_resamples)
    rng = np.random.default_rng(seed)
    num_questions = len(differences)
    applies = (~np.isnan(differences)).astype(np.float64)
    both = np.concatenate([np.nan_to_num(differences), applies], axis=1)
    num_measures = differences.shape[1]
    estimates = np.empty((num_resamples, num_measures))
    block = max(1, _BLOCK_VALUES // num_questions)
    for start in range(0, num_resamples, block):
        size = min(block, num_resamples - start)
        drawn = rng.integers(0, num_questions, size=(size, num_questions))
        drawn += np.arange(size)[:, None] * num_questions
        counts = np.bincount(drawn.ravel(), minlength=size * num_questions).reshape(size, num_questions)
        sums = counts.astype(np.float64) @ both
        totals = sums[:, num_measures:]
        estimates[start : start + size] = np.divide(
            sums[:, :num_measures], totals, out=np.full(totals.shape, np.nan), where=totals > 0
        )
    return estimates


def randomisation_estimates(
    differences: NDArray[np.float64], *, num_resamples: int = 10_000, seed: int | Sequence[int] = 0
) -> NDArray[np.float64]:
    """Mean differences if a coin decided, question by question, which system got which values:
    `[num_resamples, num_measures]` (Fisher, 1935). A question keeps its values together: one coin for all measures.

    differences: `[num_questions, num_measures]`, NaN as for `bootstrap_estimates`.

    Raises:
        ValueError: as `bootstrap_estimates`.
    """
    _check(differences, num_resamples)
    rng = np.random.default_rng(seed)
    applies = np.maximum((~np.isnan(differences)).sum(axis=0), 1)
    moving = np.nan_to_num(differences)
    moving = moving[(moving != 0).any(axis=1)]
    estimates = np.zeros((num_resamples, differences.shape[1]))
    if not len(moving):
        return estimates
    block = max(1, _BLOCK_VALUES // len(moving))
    for start in range(0, num_resamples, block):
        size = min(block, num_resamples - start)
        bits = np.unpackbits(np.frombuffer(rng.bytes(-(-size * len(moving) // 8)), dtype=np.uint8))
        signs = bits[: size * len(moving)].reshape(size, len(moving)).astype(np.float64)
        signs *= 2.0
        signs -= 1.0
        estimates[start : start + size] = signs @ moving
    return estimates / applies


def interval_over_sets(
    values: Sequence[NDArray[np.float64]], *, num_resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> NDArray[np.float64]:
    """Percentile bootstrap interval of the mean over question sets of each set's mean: `[num_measures, 2]`.

    values: of each set `[num_questions, num_measures]`, NaN as for `bootstrap_estimates`. Questions are drawn within
    their sets. NaN where a measure applies to no question of some set.

    Raises:
        ValueError: as `bootstrap_estimates` and `bootstrap_summary`, or no set.
    """
    if not values:
        raise ValueError("there is no question set; give at least one")
    _check_confidence(confidence)
    drawn = [bootstrap_estimates(own, num_resamples=num_resamples, seed=(seed, i)) for i, own in enumerate(values)]
    means = np.mean(drawn, axis=0)
    tail = (1.0 - confidence) / 2.0
    found = np.full((means.shape[1], 2), np.nan)
    for i in range(len(found)):
        if not np.isnan(means[:, i]).all():
            found[i] = np.nanquantile(means[:, i], [tail, 1.0 - tail])
    return found


def bootstrap_summary(estimates: NDArray[np.float64], difference: float, *, confidence: float = 0.95) -> Bootstrap:
    """Interval and p-value of one measure from its estimates, `[num_resamples]`; NaN where nothing applies.

    Raises:
        ValueError: `confidence` outside (0, 1).
    """
    _check_confidence(confidence)
    kept = estimates[~np.isnan(estimates)]
    if not kept.size or np.isnan(difference):
        return Bootstrap(float("nan"), float("nan"), float("nan"))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(kept, [tail, 1.0 - tail])
    return Bootstrap(float(low), float(high), _share_as_far(kept - difference, difference))


def randomisation_p(estimates: NDArray[np.float64], difference: float) -> float:
    """Two-sided p-value: (1 + estimates at least as far from 0 as `difference`) / (1 + their number)."""
    return _share_as_far(estimates, difference)


def _share_as_far(centred: NDArray[np.float64], difference: float) -> float:
    # Sums that are equal on paper may differ in their last bits.
    bound = abs(difference) * (1 - 1e-9)
    if bound == 0:
        return 1.0
    return (1 + int(np.count_nonzero(np.abs(centred) >= bound))) / (1 + centred.size)


def _check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1, both excluded (0.95 is usual)")


def _check(differences: NDArray[np.float64], num_resamples: int) -> None:
    if differences.ndim != 2 or not differences.size:
        raise ValueError(f"differences have shape {differences.shape}; give [num_questions, num_measures], not empty")
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}; it must be at least 1")
