"""Several learners judge a step as one does: each its own groups, with the weights of the step, and all they asked."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from agent.trajectory import Unit
from rewards.compose import RewardTerm, build_rewards
from rewards.reward import RewardContext
from tests.train.fakes import trajectory, turn
from tests.train.test_judge_outage import QUESTIONS
from train.composition_config import CompositionConfig
from train.credit import load_estimator
from train.judge import UnitJudge
from train.judge_outage import JudgeGuard
from train.loop import judge_own, judges_everywhere
from train.ranks import Ranks

TERMS = {
    "judged": RewardTerm(use="tests.train.test_judge_outage:Judged", weight=0.5),
    "fading": RewardTerm(
        use="tests.train.fakes:EvenTokens",
        schedule={"kind": "cosine", "steps": 3},  # type: ignore[arg-type]
    ),
}


@dataclass(frozen=True, kw_only=True)
class Together(Ranks):
    """Ranks that are threads."""

    barrier_: threading.Barrier
    values: list[Any] = field(default_factory=list)

    def everywhere(self, value: Any) -> list[Any]:
        self.values[self.rank] = value
        self.barrier_.wait(30)
        found = list(self.values)
        self.barrier_.wait(30)
        return found


class Dealt:
    """A door that deals the three groups of a step."""

    def next_units(self, step: int, rank: int, world_size: int) -> list[Unit]:
        return [unit(step, place) for place in range(3)][rank::world_size]


@dataclass
class PartsOf:
    """What `judge_own` reads of a run's parts."""

    rewards: Any


def unit(step: int, place: int) -> Unit:
    rng = np.random.default_rng([step, place])
    name = f"s{step}u{place}"
    members = [trajectory(f"{name}-{i}", [turn(rng.integers(2, 40, 3).tolist(), (6,))], group=name) for i in range(3)]
    return Unit(kind="group", trajectories=tuple(members))


def run(ranks: Ranks) -> tuple[dict[str, list[float]], list[dict[str, float]]]:
    """The advantage of each trajectory that this rank judged in four steps, and what all ranks asked in each."""
    rewards = build_rewards(TERMS, RewardContext(passage=lambda id: None, corpus=lambda: None))
    guard = JudgeGuard.of(rewards.rewards, CompositionConfig(), patience_s=60)
    judge = UnitJudge(rewards, load_estimator("outcome_mean"), QUESTIONS, guard=guard)
    parts, door = PartsOf(rewards), Dealt()
    advantages: dict[str, list[float]] = {}
    asked = []
    for step in range(4):
        own = door.next_units(step, ranks.rank, ranks.world_size)
        judged = judge_own(own, door, judge, step, parts, ranks)  # type: ignore[arg-type]
        advantages.update((row.trajectory_id, row.advantages.tolist()) for one in judged for row in one.rows)
        rewards.advance()
        asked.append(judges_everywhere(judge, ranks))
    return advantages, asked


def all_ranks(count: int, work: Callable[[Ranks], Any]) -> list[Any]:
    barrier, values = threading.Barrier(count), [None] * count
    ranks = [Together(rank=rank, world_size=count, barrier_=barrier, values=values) for rank in range(count)]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, ranks))


@pytest.mark.parametrize("count", [2, 3])
def test_the_weights_of_a_step_are_those_of_one_learner(count: int) -> None:
    alone, alone_asked = run(Ranks())
    of_ranks = all_ranks(count, run)
    together = {name: row for rows, _ in of_ranks for name, row in rows.items()}
    assert together == alone and len(alone) == 4 * 9
    assert {tuple(asked[0].items()) for _, asked in of_ranks} == {tuple(of_ranks[0][1][0].items())}
    assert [step["judge/asked"] for step in alone_asked] == [30.0] * 4
    # The reward keeps a state, so that every rank asks for every group: what is told is what was asked.
    assert [step["judge/asked"] for step in of_ranks[0][1]] == [30.0 * count] * 4


def test_ranks_without_a_judge_tell_nothing() -> None:
    rewards = build_rewards({"fading": TERMS["fading"]}, RewardContext(passage=lambda id: None, corpus=lambda: None))
    assert judges_everywhere(UnitJudge(rewards, load_estimator("outcome"), QUESTIONS), Ranks()) == {}
