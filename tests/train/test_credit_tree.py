"""Credit on forks: every token of a tree is trained once, with its node's advantage; prefixes are context."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.trajectory import Trajectory, Turn, Unit
from tests.train.credit_units import estimator, scored
from tests.train.fakes import trajectory, turn
from train.credit.row import Row
from train.credit.tree import tree_advantages

NAN = float("nan")


@st.composite
def trees(draw: st.DrawFn) -> tuple[Unit, list[float]]:
    """Leaves that fork from each other anywhere, forks of forks included, some lost or unscored, in any order.

    Every sampled token is unique in the tree, so a token that stands in several trajectories was sampled once.
    """
    fresh = iter(range(100, 100_000))

    def own_turns(count: int) -> list[Turn]:
        return [turn([next(fresh) for _ in range(draw(st.integers(1, 2)))], (6,)) for _ in range(count)]

    leaves: list[Trajectory] = []
    for i in range(draw(st.integers(1, 9))):
        parent = draw(st.sampled_from([None, *leaves]))
        if parent is None:
            leaves.append(trajectory(f"t{i}", own_turns(draw(st.integers(1, 4)))))
            continue
        fork = draw(st.integers(0, parent.num_turns))
        turns = [*parent.turns[:fork], *own_turns(draw(st.integers(1, 3)))]
        leaves.append(replace(trajectory(f"t{i}", turns), parent_id=parent.id, fork_turn=fork))
    lost = draw(st.lists(st.booleans(), min_size=len(leaves), max_size=len(leaves)))
    if draw(st.booleans()):
        leaves = [
            replace(leaf, finish_reason="retrieval_outage") if gone else leaf
            for leaf, gone in zip(leaves, lost, strict=True)
        ]
    leaves = list(draw(st.permutations(leaves)))
    values = draw(st.lists(st.sampled_from([0.0, 0.25, 1.0, NAN]), min_size=len(leaves), max_size=len(leaves)))
    return Unit(kind="branch_tree", trajectories=tuple(leaves)), values


def sampled_tokens(leaf: Trajectory) -> list[int]:
    return [token for played in leaf.turns for token in played.action_ids]


def brute_force(unit: Unit, values: Sequence[float], *, weigh_leaves: bool) -> dict[int, float]:
    """The coefficient of every token, from nothing but which token stands in which leaf."""
    worth = {
        leaf.id: value
        for leaf, value in zip(unit.trajectories, values, strict=True)
        if leaf.finish_reason == "answered" and not np.isnan(value)
    }
    having: dict[int, set[str]] = defaultdict(set)
    for leaf in unit.trajectories:
        for token in sampled_tokens(leaf):
            if leaf.id in worth:
                having[token].add(leaf.id)
    coefficients = {}
    for leaf in unit.trajectories:
        parent = node = set(worth)
        for token in sampled_tokens(leaf) if leaf.id in worth else ():
            if having[token] != node:
                parent, node = node, having[token]
            value = np.mean([worth[i] for i in node]) - np.mean([worth[i] for i in parent])
            coefficients[token] = value * (len(node) if weigh_leaves else 1)
    return coefficients


def summed(unit: Unit, rows: Sequence[Row]) -> tuple[dict[int, float], dict[int, int]]:
    """Over all rows: the sum of each trained token's coefficients, and in how many rows it is trained."""
    tokens = {leaf.id: leaf.token_ids for leaf in unit.trajectories}
    total: dict[int, float] = defaultdict(float)
    count: dict[int, int] = defaultdict(int)
    for row in rows:
        ids = tokens[row.trajectory_id][row.first_token : row.last_token]
        for token, advantage, mask in zip(ids.tolist(), row.advantages, row.loss_mask, strict=True):
            if mask:
                total[token] += float(advantage)
                count[token] += 1
            else:
                assert token == 6 and advantage == 0.0
    return total, count


@given(trees(), st.booleans())
def test_the_summed_coefficient_of_every_tree_token_is_its_nodes_advantage(
    tree: tuple[Unit, list[float]], weigh_leaves: bool
) -> None:
    unit, values = tree
    rows = estimator("tree", weigh_leaves=weigh_leaves)(unit, *scored(unit, values))
    total, count = summed(unit, rows)
    expected = brute_force(unit, values, weigh_leaves=weigh_leaves)
    assert set(total) == set(expected)
    assert set(count.values()) <= {1}
    for token, value in expected.items():
        assert total[token] == pytest.approx(value, abs=1e-12)


@given(trees())
def test_along_a_path_the_advantages_add_up_to_what_grpo_without_scaling_gives_the_leaf(
    tree: tuple[Unit, list[float]],
) -> None:
    """A leaf with turns that no other has: its return less the mean of all leaves, split over the nodes of its path."""
    unit, values = tree
    rows = estimator("tree")(unit, *scored(unit, values))
    coefficients, _ = summed(unit, rows)
    worth = {
        leaf.id: value
        for leaf, value in zip(unit.trajectories, values, strict=True)
        if leaf.finish_reason == "answered" and not np.isnan(value)
    }
    leaves = {leaf.id: sampled_tokens(leaf) for leaf in unit.trajectories if leaf.id in worth}
    for name, tokens in leaves.items():
        having = [frozenset(other for other, theirs in leaves.items() if token in theirs) for token in tokens]
        if having[-1] == {name}:
            nodes = dict(zip(having, (coefficients[token] for token in tokens), strict=True))
            assert sum(nodes.values()) == pytest.approx(worth[name] - np.mean(list(worth.values())), abs=1e-12)


def fork(name: str, parent: Trajectory, at: int, own: Sequence[Turn], **fields: str) -> Trajectory:
    return replace(
        trajectory(name, [*parent.turns[:at], *own]),
        parent_id=parent.id,
        fork_turn=at,
        **fields,  # type: ignore[arg-type]
    )


def test_a_prefix_whose_owner_was_lost_is_trained_in_its_first_forks_row() -> None:
    root = trajectory("root", [turn((10,), (6,)), turn((11,))], finish="engine_failure")
    good, bad = fork("good", root, 1, [turn((12,))]), fork("bad", root, 1, [turn((13,))])
    other = trajectory("other", [turn((14,))])
    unit = Unit(kind="branch_tree", trajectories=(root, good, bad, other))
    rows = estimator("tree")(unit, *scored(unit, [NAN, 1.0, 0.0, 0.0]))
    assert [(row.trajectory_id, row.first_token, row.last_token) for row in rows] == [
        ("good", 3, 6),
        ("bad", 5, 6),
        ("other", 3, 4),
    ]
    np.testing.assert_allclose(rows[0].advantages, [1 / 2 - 1 / 3, 0.0, 1 / 2])
    np.testing.assert_allclose(rows[1].advantages, [-1 / 2])


def test_scaled_by_the_deviation_of_the_leaves() -> None:
    returns = np.array([1.0, 0.0, 0.0, 1.0])
    plain, scaled = (tree_advantages([(0,), (1,), (2,), (3,)], returns, scale=s) for s in (False, True))
    np.testing.assert_allclose(scaled, plain / (returns.std(ddof=1) + 1e-4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parent_id": None}, "a fork names its parent"),
        ({"fork_turn": None}, "says at which turn it left it"),
        ({"parent_id": "nobody"}, "the parent is not in its unit"),
        ({"parent_id": "fork"}, "descend from themselves"),
        ({"fork_turn": 3}, "it cannot share more"),
        ({"fork_turn": -1}, "it cannot share more"),
        ({"id": "root"}, "each needs an id of its own"),
        ({"group_id": "h"}, "leaves that share one group_id"),
    ],
)
def test_what_is_no_tree_is_refused(changes: dict[str, object], message: str) -> None:
    root = trajectory("root", [turn((10,), (6,)), turn((11,))])
    child = replace(fork("fork", root, 1, [turn((12,))]), **changes)  # type: ignore[arg-type]
    unit = Unit(kind="branch_tree", trajectories=(root, child))
    with pytest.raises(ValueError, match=message):
        estimator("tree")(unit, *scored(unit, [1.0, 0.0]))


def test_candidates_are_compared_by_their_own_turn_alone_and_the_prefix_is_context() -> None:
    """What the prefix earned is common to all, and is no merit of a candidate of which nothing is known."""
    start = trajectory("start", [turn((10,), (6,))], finish="cut", group="u-turn0")
    own = [turn((11, 12), (6,)), turn((13,), (6,)), turn((14,), (6,))]
    members = [fork(f"c{i}", start, 1, [t], group_id="u-turn1", finish_reason="cut") for i, t in enumerate(own)]
    unit = Unit(kind="branch_tree", trajectories=(replace(start, fork_turn=0), *members))
    steps = [[0.7], [0.7, 1.0], [0.7, -1.0], [0.7, NAN]]
    rows = estimator("branch")(unit, *scored(unit, [NAN] * 4, steps))
    assert [(row.trajectory_id, row.first_token, row.last_token) for row in rows] == [
        ("start", 3, 4),
        ("c0", 5, 7),
        ("c1", 5, 6),
    ]
    z = 1.0 / (np.sqrt(2.0) + 1e-4)
    np.testing.assert_allclose(rows[1].advantages, [z, z])
    np.testing.assert_allclose(rows[2].advantages, [-z])
    assert rows[0].advantages.tolist() == [0.0]


def test_refinements_are_compared_by_all_that_they_earned_and_trained_from_their_fork_on() -> None:
    seed = trajectory("y0", [turn((10,), (6,)), turn((11,), (6,)), turn((12,))])
    early, late = fork("y1", seed, 1, [turn((13,), (6,)), turn((14,))]), fork("y2", seed, 2, [turn((15,))])
    unit = Unit(kind="branch_tree", trajectories=(seed, early, late))
    scores, weights = scored(unit, [0.0, 1.0, 0.0], [[0.5, 0.0, 0.0], [0.5, 0.0, 0.0], [0.5, 0.0, 0.25]])
    rows = estimator("branch", scale=False)(unit, scores, weights)
    assert [row.first_token for row in rows] == [3, 5, 7]
    returns = np.array([0.5, 1.5, 0.75])
    np.testing.assert_allclose([row.advantages[0] for row in rows], returns - returns.mean())


def test_a_fork_that_sampled_nothing_takes_no_part() -> None:
    start = trajectory("start", [turn((10,), (6,))], finish="cut")
    members = [fork(f"c{i}", start, 1, own) for i, own in enumerate([[turn((11,))], [turn(())], [turn((12,))]])]
    unit = Unit(kind="branch_tree", trajectories=tuple(members))
    rows = estimator("branch", scale=False)(unit, *scored(unit, [1.0, 9.0, 0.0]))
    assert {row.trajectory_id: row.advantages.tolist() for row in rows} == {"c0": [0.5], "c2": [-0.5]}
