"""Units that the embedded engine has sampled, and what the run's credit makes of them, against loops written out."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.trajectory import Trajectory, Unit
from rewards.compose import Composition, RewardTerm
from rewards.score import Scores
from tests.envs.small_world import BRIDGE
from tests.train.conftest import run_settings
from tests.train.fakes import unit_of
from tests.train.test_unit_runs import REWARDS
from train.admission import AdmissionState
from train.assembly import Parts, assemble
from train.config import check_config
from train.credit import load_estimator
from train.judge import UnitJudge
from train.ledger import Ledger
from train.runtime import InProcess
from train.sampler import Sampler
from train.testbed import Testbed


@pytest.fixture
def sampled(testbed: Testbed, searching: Path, tmp_path: Path) -> Iterator[Any]:
    opened: list[Parts] = []

    async def sample(unit: dict[str, Any], estimator: str) -> tuple[list[Unit], UnitJudge]:
        rollout = {"questions_per_step": 3, "unit": unit}
        settings = run_settings(testbed, policy={"model": str(searching)}, rollout=rollout, rewards=REWARDS)
        config = check_config({**settings, "credit": {"estimator": estimator}, "cold_start": None})
        parts = assemble(config)
        opened.append(parts)
        judge = UnitJudge(parts.rewards, parts.estimator, parts.questions_by_id)
        runtime = InProcess(config, parts, str(searching))
        ledger = Ledger(tmp_path / "ledger.jsonl")
        sampler = Sampler(
            config,
            parts,
            runtime,
            judge=judge,
            ledger=ledger,
            version=0,
            state=AdmissionState(),
            tell=lambda line: None,
        )
        try:
            return await sampler.next_units(0), judge
        finally:
            await sampler.close()
            ledger.close()

    yield sample
    for parts in opened:
        parts.close()


def owner(known: dict[str, Trajectory], leaf: Trajectory, turn: int) -> str:
    """Who sampled a turn of a leaf."""
    while leaf.fork_turn is not None and turn < leaf.fork_turn:
        leaf = known[leaf.parent_id or ""]
    return leaf.id


@pytest.mark.parametrize("fork", ["random", "every_turn"])
async def test_the_summed_coefficient_of_every_token_of_a_sampled_tree_is_its_nodes_advantage(sampled, fork) -> None:
    units, judge = await sampled({"kind": "tree", "leaves": 7, "roots": 2, "branching": 3, "fork": fork}, "tree")
    forks, trained = 0, 0
    for unit in units:
        judged = judge.judge(unit)
        known = {t.id: t for t in unit.trajectories}
        forks += sum(t.parent_id is not None for t in unit.trajectories)
        earned = {
            t.id: sum(np.nansum(scores.turn[i]) + np.nan_to_num(scores.outcome[i]) for scores in judged.scores.values())
            for i, t in enumerate(unit.trajectories)
        }
        below = defaultdict(set)
        for leaf in unit.trajectories:
            for turn in range(leaf.num_turns):
                below[owner(known, leaf, turn), turn].add(leaf.id)
        worth = {node: np.mean([earned[leaf] for leaf in sorted(leaves)]) for node, leaves in below.items()}
        expected = {}
        for leaf in unit.trajectories:
            before, advantage = set(known), 0.0
            above = np.mean([earned[id] for id in known])
            for turn in range(leaf.num_turns):
                node = owner(known, leaf, turn), turn
                if below[node] != before:
                    advantage, before, above = worth[node] - above, below[node], worth[node]
                expected[node] = advantage
        summed: dict[tuple[str, int, int], float] = defaultdict(float)
        for row in judged.rows:
            leaf = known[row.trajectory_id]
            turns = leaf.turn_index[row.first_token : row.last_token]
            for place, turn in enumerate(turns):
                if turn >= 0 and row.loss_mask[place]:
                    key = owner(known, leaf, turn), int(turn), row.first_token + place
                    summed[key] += row.advantages[place]
        tokens = {
            (owner(known, leaf, turn), int(turn), place)
            for leaf in unit.trajectories
            for place, turn in enumerate(leaf.turn_index)
            if turn >= 0
        }
        for who, turn, place in tokens:
            assert summed[who, turn, place] == pytest.approx(expected[who, turn], abs=1e-12)
        trained += sum(value != 0 for value in summed.values())
    assert forks and trained, "a tree without forks or without an advantage shows nothing"


async def test_a_candidates_advantage_is_that_of_its_step_and_winners_are_drawn_by_it(sampled) -> None:
    units, judge = await sampled({"kind": "branch", "candidates": 4, "eta": 1e-6}, "branch")
    for unit in units:
        judged = judge.judge(unit)
        rows = {row.trajectory_id: row for row in judged.rows}
        steps = defaultdict(list)
        for i, t in enumerate(unit.trajectories):
            values = [scores.turn[i][-1] for scores in judged.scores.values()]
            values += [scores.outcome[i] for scores in judged.scores.values()]
            steps[t.fork_turn].append((t, np.nansum(values)))
        for step, members in steps.items():
            rewards = np.array([reward for _, reward in members])
            expected = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
            for (t, _), advantage in zip(members, expected, strict=True):
                row = rows[t.id]
                assert row.first_token == len(t.prompt_ids) + sum(
                    len(turn.action_ids) + len(turn.observation_ids) for turn in t.turns[:step]
                ), "the shared prefix is context"
                assert row.advantages[row.loss_mask == 1] == pytest.approx(advantage, abs=1e-9)
            children = {t.parent_id for t, _ in steps.get(step + 1, ())}
            if children:
                assert children == {members[int(rewards.argmax())][0].id}, "at this eta the best goes on"


async def test_a_preview_has_the_rows_of_the_judgement(sampled) -> None:
    units, judge = await sampled({"kind": "refine", "component": "even_tokens", "bad_below": 0.6}, "branch")
    assert any(t.parent_id for unit in units for t in unit.trajectories)
    preview = judge.preview(units[0])
    judged = judge.judge(units[0])
    assert [row.trajectory_id for row in preview.rows] == [row.trajectory_id for row in judged.rows]
    assert all((a.advantages == b.advantages).all() for a, b in zip(preview.rows, judged.rows, strict=True))
    assert judge.preview(units[0], credit=False).rows == []


class Counts:
    """Remembers how often it was asked, and says nothing."""

    name = "counts"
    needs: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, unit: Unit, questions: Any) -> Scores:
        self.asked += 1
        return Scores.of_outcome(unit, np.full(len(unit.trajectories), np.nan))

    def state_dict(self) -> dict[str, Any]:
        return {"asked": self.asked}

    def load_state_dict(self, state: Any) -> None:
        self.asked = state["asked"]


def test_a_preview_leaves_no_trace_in_counts_or_states() -> None:
    reward = Counts()
    rewards = Composition({"counts": reward}, {"counts": RewardTerm()})
    judge = UnitJudge(rewards, load_estimator("outcome"), {"q": BRIDGE})
    judge.preview(unit_of([1, 2]))
    assert (reward.asked, rewards.missing) == (0, {"counts": 0})
    judge.judge(unit_of([1, 2]))
    assert (reward.asked, rewards.missing) == (1, {"counts": 2})
