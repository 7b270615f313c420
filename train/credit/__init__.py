"""Credit: how the scores of a unit become advantages on tokens. One estimator a file, looked up by name here."""

import inspect
from typing import Any

from agent.extension import load_object
from train.credit.branch import Branch
from train.credit.c_grpo import CGrpo
from train.credit.checked import check_call
from train.credit.outcome import Outcome
from train.credit.outcome_mean import OutcomeMean
from train.credit.ps_grpo import PsGrpo
from train.credit.reading import check_rewards
from train.credit.renorm import ReNorm
from train.credit.rloo import Rloo
from train.credit.row import CreditEstimator, Row
from train.credit.state import State
from train.credit.step_tokens import StepTokens
from train.credit.tree import Tree
from train.credit.turn import Turn
from train.credit.turn_normalised import TurnNormalised

ESTIMATORS: dict[str, Any] = {
    "outcome": Outcome,
    "outcome_mean": OutcomeMean,
    "rloo": Rloo,
    "turn": Turn,
    "turn_normalised": TurnNormalised,
    "c_grpo": CGrpo,
    "ps_grpo": PsGrpo,
    "renorm": ReNorm,
    "step_tokens": StepTokens,
    "state": State,
    "branch": Branch,
    "tree": Tree,
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
    if not callable(factory):
        raise ValueError(f"credit estimator {reference!r} is a {type(factory).__name__}, not a factory that is called")
    signature = inspect.signature(factory)
    try:
        signature.bind(**params)
    except TypeError as error:
        takes = ", ".join(signature.parameters) or "no parameters"
        own = "; it is a factory, called with credit.params, that returns the estimator" if ":" in reference else ""
        raise ValueError(f"credit.params: {error}; credit estimator {reference!r} takes {takes}{own}") from None
    estimator = factory(**params)
    if not callable(estimator):
        raise ValueError(
            f"credit estimator {reference!r} made a {type(estimator).__name__}, which cannot be called; it must return "
            "an object with `__call__(unit, scores, weights) -> list[Row]`"
        )
    check_call(reference, estimator)
    return estimator


__all__ = ["ESTIMATORS", "CreditEstimator", "Row", "check_rewards", "load_estimator"]
