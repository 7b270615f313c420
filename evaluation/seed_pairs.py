"""Is one method better than another, over seeds and questions?

Runs are paired by seed and questions by id. The interval draws seeds and questions both, so that it speaks of other
seeds AND other questions. A p-value is given only from `MIN_SEEDS` seeds on, and its unit is the seed: many questions
of few runs say nothing about the next run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.paired import holm, paired_randomisation

MIN_SEEDS = 10
"""Seeds below which nothing is claimed."""

ALPHA = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedComparison:
    """Ours minus theirs.

    Attributes:
        num_seeds: pairs of runs. difference: mean over seeds and questions; `low` and `high`: its 95 % interval.
        by_seed: difference of each pair: `[num_seeds]`.
        p: two-sided, of the paired randomisation test over seeds; None with fewer than `MIN_SEEDS`.
        p_holm: corrected for all comparisons that were made together; None until then.
    """

    num_seeds: int
    difference: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    p: float | None
    p_holm: float | None = None

    @property
    def is_significant(self) -> bool:
        """True if there are seeds enough and the corrected p-value is below `ALPHA`."""
        return self.p_holm is not None and self.p_holm < ALPHA


def compare_over_seeds(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], *, num_resamples: int = 2000, seed: int = 0
) -> SeedComparison | None:
    """Compare two methods; None where no question applies to both.

    ours, theirs: `[num_seeds, num_questions]`, the same seeds and questions in the same order; NaN where a figure does
    not apply, which takes that question of that seed out of both.

    Raises:
        ValueError: other shapes than each other's, or not two dimensions.
    """
    if ours.shape != theirs.shape or ours.ndim != 2 or not ours.size:
        raise ValueError(
            f"values have shapes {ours.shape} and {theirs.shape}; give [num_seeds, num_questions], the same for both"
        )
    differences = ours - theirs
    applies = ~np.isnan(differences)
    kept = applies.any(axis=1)
    differences, applies = np.nan_to_num(differences[kept]), applies[kept]
    if not len(differences):
        return None
    by_seed = differences.sum(axis=1) / applies.sum(axis=1)
    low, high = _interval(differences, applies, num_resamples, seed)
    zeros = np.zeros_like(by_seed)
    return SeedComparison(
        num_seeds=len(by_seed),
        difference=float(by_seed.mean()),
        low=low,
        high=high,
        by_seed=tuple(by_seed.tolist()),
        p=paired_randomisation(by_seed, zeros, seed=seed) if len(by_seed) >= MIN_SEEDS else None,
    )


def correct_together(comparisons: Sequence[SeedComparison]) -> list[SeedComparison]:
    """The same with `p_holm`: Holm's correction over those that have a p-value."""
    corrected = iter(holm([one.p for one in comparisons if one.p is not None]))
    return [one if one.p is None else replace(one, p_holm=next(corrected)) for one in comparisons]


def _interval(
    differences: NDArray[np.float64], applies: NDArray[np.bool_], num_resamples: int, seed: int
) -> tuple[float, float]:
    """Percentiles of the mean over drawn seeds of the mean over drawn questions; questions are drawn once for all
    seeds, because all runs answer the same ones.
    """
    rng = np.random.default_rng(seed)
    num_seeds, num_questions = differences.shape
    seeds = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=num_resamples)
    questions = rng.multinomial(num_questions, np.full(num_questions, 1 / num_questions), size=num_resamples)
    counts = questions @ applies.T.astype(np.float64)
    means = np.divide(questions @ differences.T, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    drawn = seeds * ~np.isnan(means)
    totals = drawn.sum(axis=1)
    estimates = (drawn * np.nan_to_num(means)).sum(axis=1)[totals > 0] / totals[totals > 0]
    low, high = np.quantile(estimates, [0.025, 0.975])
    return float(low), float(high)
