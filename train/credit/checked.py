"""An estimator's rows, looked at before anything is learnt from them, with an error that names who made them.

An estimator may be a user's own: what it returns would otherwise be seen in the learner, where nobody knows its maker.
"""

import inspect
from collections.abc import Mapping

import numpy as np

from agent.trajectory import Unit
from rewards.score import Scores
from train.credit.row import CreditEstimator, Row


def estimator_name(estimator: CreditEstimator) -> str:
    """The name of a function, or of an object's class."""
    return str(getattr(estimator, "__name__", type(estimator).__name__))


def check_call(reference: str, estimator: CreditEstimator) -> None:
    """See that an estimator can be called with a unit, its scores and the weights.

    Raises:
        ValueError: it takes something else.
    """
    try:
        signature = inspect.signature(estimator)
    except (TypeError, ValueError):  # a callable that does not tell its signature
        return
    try:
        signature.bind(None, {}, {})
    except TypeError as error:
        raise ValueError(
            f"credit estimator {reference!r} is called with (unit, scores, weights), and takes {signature}: {error}"
        ) from None


def credited_rows(
    estimator: CreditEstimator, unit: Unit, scores: Mapping[str, Scores], weights: Mapping[str, float]
) -> list[Row]:
    """The rows of a unit.

    Raises:
        ValueError: the estimator refuses the unit, or returns what are no rows of it; the message names it.
    """
    told = f"credit estimator {estimator_name(estimator)}, unit {unit.id!r}"
    try:
        rows = estimator(unit, scores, weights)
    except ValueError as error:
        raise ValueError(f"{told}: {error}") from error
    except Exception as error:
        error.add_note(f"while {told} was credited")
        raise
    if not isinstance(rows, list | tuple) or not all(isinstance(row, Row) for row in rows):
        raise ValueError(f"{told}: it returned {_kind(rows)}; it must return a list of train.credit.Row")
    lengths = {trajectory.id: len(trajectory.token_ids) for trajectory in unit.trajectories}
    for row in rows:
        if fault := _fault(row, lengths):
            raise ValueError(f"{told}: the row of trajectory {row.trajectory_id!r} {fault}")
    return list(rows)


def _fault(row: Row, lengths: Mapping[str, int]) -> str | None:
    if row.trajectory_id not in lengths:
        return f"is of no trajectory of the unit; there are {', '.join(lengths)}"
    size = lengths[row.trajectory_id]
    if not 0 <= row.first_token < row.last_token <= size:
        return f"covers tokens {row.first_token} to {row.last_token} of {size}"
    shape = (row.last_token - row.first_token,)
    for name in ("advantages", "loss_mask"):
        if np.shape(getattr(row, name)) != shape:
            return f"has {name} of shape {np.shape(getattr(row, name))}; it covers tokens of shape {shape}"
    return None if np.isfinite(row.advantages).all() else "has advantages that are not finite"


def _kind(rows: object) -> str:
    if isinstance(rows, list | tuple):
        other = next(type(row).__name__ for row in rows if not isinstance(row, Row))
        return f"a {type(rows).__name__} with a {other} in it"
    return "None" if rows is None else f"a {type(rows).__name__}"
