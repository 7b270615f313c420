"""What an estimator of a user's own does wrong is told with its name, before anything is learnt from it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from agent.trajectory import Unit
from rewards.score import Scores
from tests.train.fakes import unit_of
from train.credit import load_estimator
from train.credit.checked import credited_rows
from train.credit.group import to_rows
from train.credit.row import Row

UNIT = unit_of([1, 2])
SCORES = {"r": Scores.of_outcome(UNIT, np.array([0.0, 1.0]))}


def row(**changes: Any) -> Row:
    plain: dict[str, Any] = {"trajectory_id": "t0", "first_token": 3, "last_token": 5}
    return Row(**{**plain, "advantages": np.ones(2), "loss_mask": np.ones(2, dtype=np.int64), **changes})


def too_few_arguments() -> Callable[..., Any]:
    return lambda unit: []


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (None, "it returned None; it must return a list of train.credit.Row"),
        (row(), "it returned a Row"),
        ([1.0], "it returned a list with a float in it"),
        ([row(trajectory_id="x")], "the row of trajectory 'x' is of no trajectory of the unit; there are t0, t1"),
        ([row(last_token=99)], "covers tokens 3 to 99 of 6"),
        ([row(advantages=np.ones(3))], r"has advantages of shape \(3,\); it covers tokens of shape \(2,\)"),
        ([row(loss_mask=np.ones(1))], r"has loss_mask of shape \(1,\)"),
        ([row(advantages=np.array([1.0, np.nan]))], "advantages that are not finite"),
    ],
)
def test_what_are_no_rows_is_refused_by_name(made: Any, message: str) -> None:
    def mine(unit: Unit, scores: Mapping[str, Scores], weights: Mapping[str, float]) -> Any:
        return made

    with pytest.raises(ValueError, match=f"credit estimator mine, unit 'u': .*{message}"):
        credited_rows(mine, UNIT, SCORES, {"r": 1.0})


def test_advantages_of_another_shape_are_refused() -> None:
    def mine(unit: Unit, scores: Mapping[str, Scores], weights: Mapping[str, float]) -> list[Row]:
        return to_rows(unit, scores, weights, lambda group: np.zeros(3))

    with pytest.raises(ValueError, match=r"estimator mine, .*have shape \(3,\).*\[num_traj.*here \(2, 2\)"):
        credited_rows(mine, UNIT, SCORES, {"r": 1.0})


def test_an_estimator_that_takes_something_else_is_refused_when_it_is_loaded() -> None:
    with pytest.raises(ValueError, match=r"is called with \(unit, scores, weights\), and takes \(unit\)"):
        load_estimator(f"{__name__}:too_few_arguments")
    with pytest.raises(ValueError, match="it is a factory, called with"):
        load_estimator("json:loads")


def test_good_rows_pass() -> None:
    assert len(credited_rows(load_estimator("outcome"), UNIT, SCORES, {"r": 1.0})) == 2
    assert credited_rows(lambda *_: [row()], UNIT, SCORES, {"r": 1.0})[0].trajectory_id == "t0"
