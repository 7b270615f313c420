"""How many questions it takes to see a difference, and how small a difference so many questions can show.

What counts is how much two systems differ question by question: `spread` is the mean squared difference. On right and
wrong (`binary`) that is the share of questions that only one of the two answers right, the discordance, and the formula
is Connor's for McNemar's test (Biometrics 43, 1987); for other measures it is the paired z-test's, with the spread
under no difference for the error of the first kind and the variance for that of the second.

No difference is larger than what its spread allows: the square root of the spread, and on right and wrong the
discordance. Asked for a larger one, the functions take the smallest spread that allows it.
"""

import math
from statistics import NormalDist

_NORMAL = NormalDist()


def questions_needed(
    difference: float, spread: float, *, power: float = 0.8, alpha: float = 0.05, binary: bool = False
) -> int | None:
    """Questions with which a true mean difference is found, two-sided at `alpha`, with probability `power`.

    difference: mean of one minus the other; its sign does not matter. spread: mean squared difference. binary: every
    figure is right (1) or wrong (0). None where there is no difference.

    >>> questions_needed(0.02, 0.20)
    3923

    Raises:
        ValueError: a spread below 0 or not finite, a difference that is not finite (beyond 1 where `binary`), or
            `power` or `alpha` outside (0, 1).
    """
    _check(spread, power, alpha)
    _check_difference(difference, binary)
    if difference == 0:
        return None
    spread = _at_least(spread, difference, binary)
    return max(1, math.ceil((_z(alpha, power, spread, difference) / difference) ** 2 - 1e-9))


def visible_difference(
    num_questions: int, spread: float, *, power: float = 0.8, alpha: float = 0.05, binary: bool = False
) -> float | None:
    """The smallest true difference that so many questions show with probability `power`, at this spread.

    On right and wrong a difference beyond the spread is one of runs that differ on as many questions as that takes.
    None where even the largest is not seen: the square root of the spread, or 1 where `binary`.

    Raises:
        ValueError: `num_questions` < 1, and as `questions_needed`.
    """
    _check(spread, power, alpha)
    if num_questions < 1:
        raise ValueError(f"num_questions is {num_questions}; it must be at least 1")
    largest = 1.0 if binary else math.sqrt(spread)
    if largest == 0 or _reach(largest, spread, power, alpha, binary) > math.sqrt(num_questions):
        return None
    low, high = 0.0, largest
    for _ in range(60):
        middle = (low + high) / 2
        if _reach(middle, spread, power, alpha, binary) > math.sqrt(num_questions):
            low = middle
        else:
            high = middle
    return high


def achieved_power(difference: float, spread: float, num_questions: int, *, alpha: float = 0.05) -> float:
    """Probability that so many questions show a true difference, two-sided at `alpha`.

    Raises:
        ValueError: as `visible_difference`, or a difference that is not finite.
    """
    _check(spread, 0.5, alpha)
    _check_difference(difference, False)
    if num_questions < 1:
        raise ValueError(f"num_questions is {num_questions}; it must be at least 1")
    spread = max(spread, difference**2)
    deviation = math.sqrt(max(spread - difference**2, 0.0))
    margin = abs(difference) * math.sqrt(num_questions) - _NORMAL.inv_cdf(1 - alpha / 2) * math.sqrt(spread)
    if deviation == 0:
        return 1.0 if margin > 0 else 0.0
    return _NORMAL.cdf(margin / deviation)


def _at_least(spread: float, difference: float, binary: bool) -> float:
    return max(spread, abs(difference) if binary else difference**2)


def _reach(difference: float, spread: float, power: float, alpha: float, binary: bool) -> float:
    """Square root of the questions needed, not rounded."""
    return _z(alpha, power, _at_least(spread, difference, binary), difference) / difference


def _z(alpha: float, power: float, spread: float, difference: float) -> float:
    return _NORMAL.inv_cdf(1 - alpha / 2) * math.sqrt(spread) + _NORMAL.inv_cdf(power) * math.sqrt(
        max(spread - difference**2, 0.0)
    )


def _check_difference(difference: float, binary: bool) -> None:
    if not math.isfinite(difference):
        raise ValueError(f"difference is {difference}; give a finite number")
    if binary and abs(difference) > 1:
        raise ValueError(f"difference is {difference}; of right and wrong it lies between -1 and 1")


def _check(spread: float, power: float, alpha: float) -> None:
    if not math.isfinite(spread) or spread < 0:
        raise ValueError(f"spread is {spread}; it is a mean of squares: give a number of at least 0")
    for name, value in (("power", power), ("alpha", alpha)):
        if not 0.0 < value < 1.0:
            raise ValueError(f"{name} is {value}; it must lie between 0 and 1, both excluded")
