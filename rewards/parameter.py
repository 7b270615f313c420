"""Parameters of rewards that are words, switches or judges, checked when a reward is made, before anything is spent."""

from collections.abc import Mapping, Sequence
from typing import Any

from rewards.judge.judge import Judge

AGGREGATES = ("mean", "sum")
"""`sum`: each turn has its own score. `mean`: each has its share of the mean, so that more turns do not pay more."""


def one_of(reward: str, parameter: str, value: str, allowed: Sequence[str]) -> str:
    """`value`, checked to be among `allowed`.

    Raises:
        ValueError: it is not; the message names reward, parameter and what is allowed.
    """
    if value not in allowed:
        raise ValueError(f"reward {reward}: {parameter} must be one of {', '.join(allowed)}; got {value!r}")
    return value


def flag(reward: str, parameter: str, value: bool) -> bool:
    """`value`, checked to be true or false.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, bool):
        raise ValueError(f"reward {reward}: {parameter} must be true or false, got {value!r}")
    return value


def opened_judge(spec: str | Mapping[str, Any] | Judge | None) -> Judge | None:
    """None for None, a judge as it is, and what `rewards.judge.open_judge` makes of a name or of settings.

    Raises:
        ValueError: none of these, or settings that are not valid.
    """
    if spec is None:
        return None
    if not isinstance(spec, str | Mapping):
        if callable(getattr(spec, "ask", None)):
            return spec
        raise ValueError(f"judge must be the name of a judge, its settings or a judge, got {spec!r}")
    from rewards.judge import open_judge

    return open_judge(spec)
