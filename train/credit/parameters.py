"""The checks of estimators' parameters: what was given, and what is allowed, in one sentence."""

import math
from collections.abc import Sequence


def number(name: str, value: float, *, low: float = 0.0, high: float = math.inf) -> float:
    """`value` as a float, checked to be a finite number in [low, high].

    Raises:
        ValueError: it is not; the message has `name`.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        allowed = f"a finite number of at least {low:g}" if high == math.inf else f"a number in [{low:g}, {high:g}]"
        raise ValueError(f"{name} is {value!r}; it must be {allowed}")
    return float(value)


def share(name: str, value: float) -> float:
    """A share or a discount, checked to be a number in [0, 1].

    Raises:
        ValueError: it is not; the message has `name`.
    """
    return number(name, value, high=1.0)


def switch(name: str, value: bool) -> bool:
    """`value`, checked to be true or false.

    Raises:
        ValueError: it is not; the message has `name`.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be true or false")
    return value


def choice(name: str, value: str, allowed: Sequence[str]) -> str:
    """`value`, checked to be one of `allowed`.

    Raises:
        ValueError: it is not; the message has `name` and the choices.
    """
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(allowed)}")
    return value


def reward_name(role: str, value: str) -> str:
    """`value`, checked to be a name.

    Raises:
        ValueError: it is not; the message has `role`.
    """
    if not isinstance(value, str) or not value:
        raise ValueError(f"{role} is {value!r}; give the name of a reward of the config")
    return value
