"""Credit: how the scores of a unit become advantages on tokens. One estimator a file, looked up by name here."""

from typing import Any

from agent.extension import load_object
from train.credit.outcome import Outcome
from train.credit.outcome_mean import OutcomeMean
from train.credit.row import CreditEstimator, Row
from train.credit.turn import Turn
from train.credit.turn_normalised import TurnNormalised

ESTIMATORS: dict[str, Any] = {
    "outcome": Outcome,
    "outcome_mean": OutcomeMean,
    "turn": Turn,
    "turn_normalised": TurnNormalised,
}
"""Factories by name: `ESTIMATORS[name](**params)` is a `CreditEstimator`."""


def load_estimator(reference: str, **params: Any) -> CreditEstimator:
    """An estimator by built-in name, or a factory of the user's own as `module:object`, called with `params`.

    >>> load_estimator("turn", discount=0.9).discount
    0.9

    Raises:
        ValueError: an unknown name (the message lists the built-in ones), or parameters that the factory refuses.
    """
    factory = load_object(reference, kind="credit estimator", builtins=ESTIMATORS)
    try:
        estimator = factory(**params)
    except TypeError as error:
        raise ValueError(
            f"credit estimator {reference!r} does not take {params or 'no parameters'}: {error}"
        ) from error
    if not callable(estimator):
        raise ValueError(
            f"credit estimator {reference!r} made a {type(estimator).__name__}, which cannot be called; it must return "
            "an object with `__call__(unit, scores, weights) -> list[Row]`"
        )
    return estimator


__all__ = ["ESTIMATORS", "CreditEstimator", "Row", "load_estimator"]
