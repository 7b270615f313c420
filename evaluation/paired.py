"""Is one retriever (policy, run) better than another on the same questions, or only luckier in the draw of questions?

Paired tests look at each question's difference, so what makes a question hard for both drops out. The randomisation
test (Fisher, 1935; for retrieval Smucker, Allan and Carterette, CIKM 2007) asks how often differences as large would
come about if it were a coin toss which of the two got which value; it assumes nothing of their distribution.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from evaluation.significance import bootstrap_interval

EXACT_UP_TO = 14
_BLOCK_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTest:
    """Two systems on the same questions, by one measure.

    Attributes:
        first, second, measure: their names.
        difference: mean of first minus second; `low` and `high` are its 95 % bootstrap interval over questions.
        p: two-sided p-value of the paired randomisation test.
        p_holm: the same, corrected for all tests of the table.
    """

    first: str
    second: str
    measure: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


def paired_randomisation(
    first: Sequence[float] | NDArray[np.number],
    second: Sequence[float] | NDArray[np.number],
    *,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> float:
    """Two-sided p-value of the mean difference of `first` and `second`, `[num_questions]` each, in (0, 1].

    Where 14 questions or fewer differ all sign patterns are counted and p is exact; else it is (1 + patterns at least
    as extreme) / (1 + `num_resamples`) over random ones. Equal seeds give equal values.

    >>> paired_randomisation([1, 1, 1, 1, 1], [0, 0, 0, 0, 0])
    0.0625

    Raises:
        ValueError: different lengths, no question, a value that is not finite, or `num_resamples` < 1.
    """
    differences = _differences(first, second)
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}; it must be at least 1 (10000 is usual)")
    differences = differences[differences != 0]
    if differences.size == 0:
        return 1.0
    # Sums that are equal on paper may differ in their last bits.
    bound = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()
    if differences.size <= EXACT_UP_TO:
        patterns = np.arange(1 << differences.size)[:, None] >> np.arange(differences.size) & 1
        return float(np.mean(np.abs((2 * patterns - 1) @ differences) >= bound))
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK_BYTES // (8 * differences.size))
    extreme = 0
    for start in range(0, num_resamples, block):
        size = (min(block, num_resamples - start), differences.size)
        signs = rng.integers(0, 2, size=size, dtype=np.int8) * np.int8(2) - np.int8(1)
        extreme += int(np.count_nonzero(np.abs(signs @ differences) >= bound))
    return (1 + extreme) / (1 + num_resamples)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for being read together (Holm, 1979), in their order: each at least as large as it was.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Raises:
        ValueError: a value outside 0 to 1.
    """
    if any(not 0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values are {list(p_values)}; each lies between 0 and 1")
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for place, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[i]))
        corrected[i] = largest
    return corrected


def paired_tests(
    values: Mapping[str, Mapping[str, NDArray[np.float64]]],
    measures: Sequence[str],
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> list[PairedTest]:
    """Every pair of systems, or only `pairs`, by every measure; Holm's correction over all tests made.

    `values[system][measure]: [num_questions]`, the same questions in the same order.

    Raises:
        ValueError: systems with different numbers of questions, or a value that is not finite.
    """
    found = []
    for measure in measures:
        for first, second in combinations(values, 2) if pairs is None else pairs:
            differences = _differences(values[first][measure], values[second][measure])
            p = paired_randomisation(
                values[first][measure], values[second][measure], num_resamples=num_resamples, seed=seed
            )
            low, high = bootstrap_interval(differences, seed=seed)
            found.append((first, second, measure, float(differences.mean()), low, high, p))
    corrected = holm([p for *_, p in found])
    return [
        PairedTest(first=a, second=b, measure=measure, difference=mean, low=low, high=high, p=p, p_holm=p_holm)
        for (a, b, measure, mean, low, high, p), p_holm in zip(found, corrected, strict=True)
    ]


def _differences(
    first: Sequence[float] | NDArray[np.number], second: Sequence[float] | NDArray[np.number]
) -> NDArray[np.float64]:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"values have shapes {a.shape} and {b.shape}; give one number a question, the same questions")
    if a.size == 0:
        raise ValueError("there is no question to compare on")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("values hold NaN or an infinite number; leave out questions that do not apply to both")
    return a - b
