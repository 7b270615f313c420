"""From named scores to rows: who takes part, what lands where, and what is refused."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.trajectory import Unit
from rewards.score import Scores
from tests.conftest import REPOSITORY
from tests.train.credit_units import estimator, group_for, per_turn, scored
from tests.train.fakes import trajectory, turn, unit_of
from train.credit import ESTIMATORS, load_estimator
from train.credit.outcome import Outcome, outcome_advantages
from train.credit.turn import Turn
from train.credit.turn_normalised import TurnNormalised

NAN = float("nan")


def by_outcome(unit: Unit, values: list[float]) -> Scores:
    return Scores.of_outcome(unit, np.asarray(values))


def by_turn(unit: Unit, values: list[list[float]]) -> Scores:
    return Scores.of_turns(unit, [np.asarray(v) for v in values])


def leave_one_out(values: np.ndarray) -> np.ndarray:
    others = (values.sum() - values) / (len(values) - 1)
    return values - others


ON_ONE_TURN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "outcome_mean": lambda values: values - values.mean(),
    "rloo": leave_one_out,
    "renorm": lambda values: outcome_advantages(2 * values - 1),
    "state": lambda values: 2 * outcome_advantages(values),
    "tree": lambda values: values - values.mean(),
}
"""What an estimator makes of outcomes in [0, 1] where every trajectory has one turn; the others make GRPO of them."""


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
@given(values=st.lists(st.floats(0, 1, width=16), min_size=2, max_size=6))
def test_every_estimator_on_one_turn_and_an_outcome(name: str, values: list[float]) -> None:
    unit = group_for(name, [1] * len(values))
    rows = estimator(name)(unit, *scored(unit, values))
    expected = ON_ONE_TURN.get(name, outcome_advantages)(np.asarray(values))
    np.testing.assert_allclose([per_turn(row)[0] for row in rows], expected, atol=1e-12)


def test_outcome_adds_up_all_that_a_trajectory_earned() -> None:
    """Turn rewards under `outcome` are the arm "trajectory-level process reward"."""
    unit = unit_of([2, 1, 3])
    scores = {"em": by_outcome(unit, [0, 1, 0]), "hops": by_turn(unit, [[1, 0], [NAN], [1, 1, NAN]])}
    rows = Outcome()(unit, scores, {"em": 1.0, "hops": 0.5})
    expected = outcome_advantages(np.array([0.5, 1.0, 1.0]))
    for row, value in zip(rows, expected, strict=True):
        np.testing.assert_allclose(per_turn(row), value)


def test_turn_puts_the_outcome_on_the_last_turn() -> None:
    unit = unit_of([2, 2])
    scores = {"em": by_outcome(unit, [1, 0]), "hops": by_turn(unit, [[0, 0], [1, NAN]])}
    first, second = Turn()(unit, scores, {"em": 1.0, "hops": 1.0})
    assert per_turn(first)[0] == per_turn(second)[0] == 0.0  # both return 1 from turn 0 on
    assert per_turn(first)[1] > 0 > per_turn(second)[1]


def test_turn_normalised_does_not_let_a_dense_reward_drown_the_outcome() -> None:
    unit = unit_of([1, 1, 1, 1])
    scores = {"em": by_outcome(unit, [1, 0, 0, 0]), "hops": by_turn(unit, [[0], [50], [100], [150]])}
    weights = {"em": 1.0, "hops": 0.5}
    added = [per_turn(row)[0] for row in Turn()(unit, scores, weights)]
    apart = [per_turn(row)[0] for row in TurnNormalised()(unit, scores, weights)]
    assert added[0] < 0 < apart[0]


def test_turn_normalised_gives_the_outcome_to_every_turn_and_turn_scores_to_theirs() -> None:
    unit = unit_of([2, 2])
    scores = {"em": by_outcome(unit, [1, 0]), "hops": by_turn(unit, [[0, 0], [0, 1]])}
    first, second = TurnNormalised(process_discount=0.0)(unit, scores, {"em": 1.0, "hops": 1.0})
    z = 0.5 / (np.sqrt(0.5) + 1e-4)
    np.testing.assert_allclose(per_turn(first), [z, z - z], atol=1e-12)
    np.testing.assert_allclose(per_turn(second), [-z, -z + z], atol=1e-12)


def test_a_reward_that_does_not_apply_stays_out_of_its_own_baseline_only() -> None:
    unit = unit_of([1, 1, 1])
    scores = {"em": by_outcome(unit, [1, 0, 1]), "hops": by_turn(unit, [[NAN], [3], [1]])}
    rows = TurnNormalised()(unit, scores, {"em": 0.0, "hops": 1.0})
    assert [row.trajectory_id for row in rows] == ["t1", "t2"]  # em has weight 0: nothing is left for t0
    rows = TurnNormalised()(unit, scores, {"em": 1.0, "hops": 1.0})
    assert per_turn(rows[0])[0] == pytest.approx(outcome_advantages(np.array([1.0, 0.0, 1.0]))[0])


def test_groups_of_one_unit_have_baselines_of_their_own() -> None:
    members = [trajectory(f"t{i}", [turn((4, 5))], group="a" if i < 2 else "b") for i in range(4)]
    unit = Unit(kind="paraphrase_set", trajectories=tuple(members))
    rows = Outcome()(unit, {"em": by_outcome(unit, [1, 0, 5, 5])}, {"em": 1.0})
    assert per_turn(rows[0])[0] == -per_turn(rows[1])[0] > 0
    assert [per_turn(row)[0] for row in rows[2:]] == [0.0, 0.0]


def test_a_row_starts_after_the_prompt_and_ends_with_the_last_sampled_token() -> None:
    unit = Unit(kind="group", trajectories=(trajectory("t0", [turn((4, 5), (6, 7)), turn((8,), (9, 9, 9))]),))
    (row,) = Outcome()(unit, {"em": by_outcome(unit, [1])}, {"em": 1.0})
    assert (row.first_token, row.last_token) == (3, 8)
    assert row.loss_mask.tolist() == [1, 1, 0, 0, 1]
    assert (row.advantages[row.loss_mask == 0] == 0).all()


def test_what_does_not_fit_is_refused() -> None:
    unit = unit_of([1, 2])
    em = by_outcome(unit, [1, 0])
    with pytest.raises(ValueError, match="give each a weight"):
        Outcome()(unit, {"em": em}, {"f1": 1.0})
    with pytest.raises(ValueError, match="must be a finite number"):
        Outcome()(unit, {"em": em}, {"em": NAN})
    with pytest.raises(ValueError, match=r"scored turns \[1, 1\]"):
        Outcome()(unit, {"em": by_outcome(unit_of([1, 1]), [1, 0])}, {"em": 1.0})
    for wrong in (1.5, float("nan"), "high", True):
        with pytest.raises(ValueError, match=r"^discount is .+ must be a number in \[0, 1\]"):
            load_estimator("turn", discount=wrong)
    with pytest.raises(ValueError, match="scale is 'no'; it must be true or false"):
        load_estimator("turn", scale="no")
    with pytest.raises(ValueError, match=r"^process_discount is -1"):
        load_estimator("turn_normalised", process_discount=-1)
    with pytest.raises(ValueError, match=r"'gama'; credit estimator 'turn' takes discount, scale"):
        load_estimator("turn", gama=0.5)
    with pytest.raises(ValueError, match=r"'gama'; credit estimator 'outcome' takes no parameters"):
        load_estimator("outcome", gama=0.5)
    with pytest.raises(ValueError, match="outcome_mean"):
        load_estimator("outcom")


def test_an_estimator_of_ones_own_is_named_by_module() -> None:
    assert isinstance(load_estimator("train.credit.turn:Turn", discount=0.5), Turn)
    with pytest.raises(ValueError, match="cannot be called"):
        load_estimator("tests.train.test_credit_group:not_an_estimator")


def test_the_estimator_of_the_docs_page_runs() -> None:
    page = (REPOSITORY / "docs" / "credit.md").read_text(encoding="utf-8")
    scope: dict[str, Any] = {}
    exec(page.split("```python\n", 1)[1].split("```", 1)[0], scope)
    unit = unit_of([2, 1, 1])
    rows = scope["LastTurn"]()(unit, {"em": by_outcome(unit, [1, 0, NAN])}, {"em": 1.0})
    assert [per_turn(row) for row in rows] == [[0.0, 0.5], [-0.5]]


def test_the_docs_table_has_every_estimator_with_its_parameters() -> None:
    page = (REPOSITORY / "docs" / "credit.md").read_text(encoding="utf-8")
    rows = {m[1]: re.findall(r"`(\w+)`", m[2]) for m in re.finditer(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", page, re.M)}
    assert rows == {name: list(inspect.signature(factory).parameters) for name, factory in ESTIMATORS.items()}


def not_an_estimator() -> str:
    return "not callable"
