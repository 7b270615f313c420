"""A policy with two arms, of which one pays: the gradient of every estimator raises that arm's logit.

The arm is a token in the middle of a trajectory, its pay a turn score there and the outcome at the end. The policy
draws each arm with probability 1/2, so the gradient of the better arm's logit is half the sum of the advantages on its
tokens less those on the other's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.trajectory import Shown, Trajectory, Unit
from tests.train.credit_units import estimator, scored
from tests.train.fakes import trajectory, turn
from train.credit import ESTIMATORS

BAD, GOOD = 20, 21
"""The arms as tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """Which arm each trajectory drew, and what the arms pay in their turn, in [0, 1]."""

    arms: tuple[bool, ...]
    good_pay: float
    bad_pay: float

    @property
    def mixed(self) -> bool:
        return len(set(self.arms)) == 2


toys = st.builds(
    Toy,
    arms=st.lists(st.booleans(), min_size=2, max_size=6).map(tuple),
    good_pay=st.floats(0.9, 1.0),
    bad_pay=st.floats(0.01, 0.1),
)


def episode(name: str, arm: bool, *, before: int = 0, **fields: Any) -> Trajectory:
    """`before` turns that all have in common, each of which leads on, the arm's turn, and an answer."""
    common = [replace(turn((10, 11), (6,)), shown=(Shown(number=1, passage_id=f"c{i}"),)) for i in range(before)]
    chosen = replace(turn((GOOD if arm else BAD,), (6,)), shown=(Shown(number=1, passage_id=f"p{arm}"),))
    return replace(trajectory(name, [*common, chosen, turn((12,))]), **fields)


def plain(toy: Toy) -> tuple[Unit, Sequence[bool]]:
    members = [episode(f"t{i}", arm, before=1) for i, arm in enumerate(toy.arms)]
    return Unit(kind="group", trajectories=tuple(members)), toy.arms


def wordings(toy: Toy) -> tuple[Unit, Sequence[bool]]:
    """Two wordings, of which the second draws the arms the other way round."""
    arms = [*toy.arms, *(not arm for arm in toy.arms)]
    views = [view for view in (0, 1) for _ in toy.arms]
    members = [
        episode(f"t{i}", arm, before=1, view=view, group_id=f"u-view{view}")
        for i, (arm, view) in enumerate(zip(arms, views, strict=True))
    ]
    return Unit(kind="paraphrase_set", trajectories=tuple(members)), arms


def candidates(toy: Toy) -> tuple[Unit, Sequence[bool]]:
    """Forks of a turn that is in the unit as a step of its own; its other candidate came to nothing."""
    first = [replace(trajectory(f"s{i}", [turn((10, 11), (6,))], finish="cut"), group_id="u-turn0") for i in (0, 1)]
    first = [replace(t, fork_turn=0) for t in first]
    members = [
        episode(f"t{i}", arm, before=1, parent_id="s0", fork_turn=1, group_id="u-turn1")
        for i, arm in enumerate(toy.arms)
    ]
    return Unit(kind="branch_tree", trajectories=(*first, *members)), [False, False, *toy.arms]


def forks(toy: Toy) -> tuple[Unit, Sequence[bool]]:
    """The first trajectory, and the others forked from it where it drew its arm; a last one forks from a fork."""
    root, *others = [episode(f"t{i}", arm, before=1) for i, arm in enumerate(toy.arms)]
    children = [replace(other, parent_id="t0", fork_turn=1) for other in others]
    late = replace(others[-1], id="late", parent_id=others[-1].id, fork_turn=2)
    return Unit(kind="branch_tree", trajectories=(root, *children, late)), [*toy.arms, toy.arms[-1]]


CASES: list[tuple[str, dict[str, Any], Callable[[Toy], tuple[Unit, Sequence[bool]]]]] = [
    ("outcome", {}, plain),
    ("outcome_mean", {}, plain),
    ("rloo", {}, plain),
    ("turn", {}, plain),
    ("turn", {"discount": 0.5, "scale": False}, plain),
    ("turn_normalised", {}, plain),
    ("turn_normalised", {"baseline": "hops_found", "progress": "steps"}, plain),
    ("turn_normalised", {"baseline": "passages", "process_discount": 0.0}, plain),
    ("c_grpo", {"rubric": "steps"}, plain),
    ("ps_grpo", {}, wordings),
    ("renorm", {}, plain),
    ("renorm", {"variant": "paper"}, plain),
    ("step_tokens", {}, plain),
    ("step_tokens", {"token_discount": 0.8}, plain),
    ("state", {}, plain),
    ("state", {"state": "hops_found", "progress": "steps", "episode_weight": 0.0}, plain),
    ("branch", {}, candidates),
    ("branch", {"scale": False}, candidates),
    ("branch", {}, forks),
    ("tree", {}, forks),
    ("tree", {"weigh_leaves": True, "scale": True}, forks),
]


def better_arms_gradient(name: str, params: dict[str, Any], unit: Unit, arms: Sequence[bool], toy: Toy) -> float:
    """Half the sum of the coefficients on the good arm's tokens, less those on the bad one's."""
    pay = {GOOD: toy.good_pay, BAD: toy.bad_pay, 10: 0.3}
    steps = [[pay.get(played.action_ids[0], 0.0) for played in member.turns] for member in unit.trajectories]
    answered = [member.finish_reason == "answered" for member in unit.trajectories]
    em = [float(arm) if ended else float("nan") for arm, ended in zip(arms, answered, strict=True)]
    rows = estimator(name, **params)(unit, *scored(unit, em, steps))
    tokens = {member.id: member.token_ids for member in unit.trajectories}
    gradient = 0.0
    for row in rows:
        ids = tokens[row.trajectory_id][row.first_token : row.last_token]
        coefficients = row.advantages * row.loss_mask
        gradient += 0.5 * float(coefficients[ids == GOOD].sum() - coefficients[ids == BAD].sum())
    return gradient


@pytest.mark.parametrize(("name", "params", "sample"), CASES, ids=lambda value: getattr(value, "__name__", str(value)))
@given(toy=toys)
def test_the_better_arm_gains(
    name: str, params: dict[str, Any], sample: Callable[[Toy], tuple[Unit, Sequence[bool]]], toy: Toy
) -> None:
    unit, arms = sample(toy)
    gradient = better_arms_gradient(name, params, unit, arms, toy)
    if toy.mixed:
        assert gradient > 1e-3
    elif (name, params) != ("renorm", {}):  # whose baseline is one for all turns
        assert gradient == 0.0


def test_every_estimator_is_tried() -> None:
    assert {name for name, _, _ in CASES} == set(ESTIMATORS)
