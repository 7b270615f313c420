"""Leaves that fork from each other: whole trajectories with shared prefixes, each point forked at most once."""

from collections import Counter

import pytest

from agent.engine import EngineError
from envs.tree_sampling import TreeSampler
from tests.envs.unit_parts import Watched, sample, shares_its_prefix

ANSWER = "<answer>Quillon Bay [1]</answer>"


def three_turns(episode: str, turn: int) -> str:
    return f"<search>Velmora {episode[-2:]}</search>" if turn < 2 else ANSWER


@pytest.mark.parametrize("fork", ["random", "every_turn"])
@pytest.mark.parametrize(("leaves", "roots", "branching"), [(8, 2, 2), (7, 1, 3), (2, 2, 2), (5, 1, 9)])
async def test_a_tree_has_the_leaves_asked_for_and_every_point_at_most_its_children(
    fork, leaves, roots, branching
) -> None:
    episodes = Watched(three_turns)
    unit = await sample(TreeSampler(leaves=leaves, roots=roots, branching=branching, fork=fork), episodes)
    assert [t.id for t in unit.trajectories] == [f"u0-leaf{i:02d}" for i in range(leaves)]
    assert {t.group_id for t in unit.trajectories} == {"u0"} and unit.kind == "branch_tree"
    assert {t.finish_reason for t in unit.trajectories} == {"answered"}
    shares_its_prefix(unit)
    forks = Counter((t.parent_id, t.fork_turn) for t in unit.trajectories if t.parent_id)
    assert all(count <= branching - 1 and fork_turn >= 1 for (_, fork_turn), count in forks.items())
    known = {t.id: t for t in unit.trajectories}
    assert all(known[parent].fork_turn is None or fork > known[parent].fork_turn for parent, fork in forks)
    turns = sum(t.num_turns - (t.fork_turn or 0) for t in unit.trajectories)
    assert len(episodes.engine.requests) == turns, "a shared turn is sampled once"


async def test_every_turn_of_the_first_root_is_forked_first() -> None:
    sampler = TreeSampler(leaves=4, roots=2, branching=2, fork="every_turn")
    unit = await sample(sampler, Watched(three_turns))
    assert [(t.parent_id, t.fork_turn) for t in unit.trajectories[2:]] == [("u0-leaf00", 1), ("u0-leaf00", 2)]


async def test_trees_are_the_same_again_and_others_for_another_unit() -> None:
    sampler = TreeSampler(leaves=8, roots=2, branching=2, fork="random")
    first, again = [await sample(sampler, Watched(three_turns)) for _ in range(2)]
    assert [(t.parent_id, t.fork_turn) for t in first.trajectories] == [
        (t.parent_id, t.fork_turn) for t in again.trajectories
    ]


async def test_trajectories_of_one_turn_have_no_point_and_fresh_ones_are_sampled() -> None:
    sampler = TreeSampler(leaves=4, roots=2, branching=2, fork="random")
    unit = await sample(sampler, Watched(lambda episode, turn: ANSWER))
    assert [t.parent_id for t in unit.trajectories] == [None] * 4


async def test_what_an_outage_ended_is_not_forked() -> None:
    def say(episode: str, turn: int):
        return EngineError("gone") if episode == "u0-leaf00" and turn == 2 else three_turns(episode, turn)

    sampler = TreeSampler(leaves=5, roots=2, branching=2, fork="every_turn")
    unit = await sample(sampler, Watched(say))
    assert "u0-leaf00" not in {t.parent_id for t in unit.trajectories}
