"""McNemar's exact test: of the questions that only one of two systems answers right, is each side's share a coin toss?

Questions that both answer right, or both wrong, say nothing about which is better (McNemar, 1947). Of the n that are
left, the number that the first wins is binomial(n, 1/2) if neither is better; p is counted exactly, with whole numbers,
for any n. On right and wrong it equals the randomisation test over all sign patterns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """Questions that only the first, or only the second system answers right, and the two-sided exact p-value."""

    first_only: int
    second_only: int
    p: float


def mcnemar_exact(first: Sequence[float] | NDArray[np.number], second: Sequence[float] | NDArray[np.number]) -> McNemar:
    """The test on two columns of 0 and 1, `[num_questions]` each, the same questions in the same order.

    >>> mcnemar_exact([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0])
    McNemar(first_only=5, second_only=0, p=0.0625)

    Raises:
        ValueError: different lengths, no question, or a value other than 0 and 1.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"values have shapes {a.shape} and {b.shape}; give one number a question, the same questions")
    if a.size == 0:
        raise ValueError("there is no question to compare on")
    if not (is_binary(a) and is_binary(b)):
        raise ValueError("McNemar's test is for right (1) and wrong (0) alone; use paired_randomisation for shares")
    first_only, second_only = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    return McNemar(first_only=first_only, second_only=second_only, p=_two_sided(first_only, second_only))


def is_binary(values: NDArray[np.float64]) -> bool:
    """True if every value is 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


def _two_sided(first_only: int, second_only: int) -> float:
    n, fewer = first_only + second_only, min(first_only, second_only)
    if 2 * fewer >= n:
        return 1.0
    term = total = 1  # of n choose 0; each further one from the one before it
    for i in range(1, fewer + 1):
        term = term * (n - i + 1) // i
        total += term
    return min(1.0, 2 * total / (1 << n))  # the quotient of two whole numbers is exact however long they are
