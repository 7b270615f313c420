"""Units that branch, through the door to rollouts: whole on every rank, booked, and sampled again after an outage."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.trajectory import Unit
from envs.branching import BranchSampler
from retrieval.retriever import RetrievalError
from tests.envs.fake_engine import found
from tests.envs.small_world import BRIDGE, COMPARISON
from tests.envs.unit_parts import Scored, Watched, shares_its_prefix
from train.ledger import Ledger, audit, read_ledger
from train.outage import OutageGuard
from train.question_order import QuestionOrder
from train.rollouts import Rollouts

ANSWER = "<answer>Quillon Bay [1]</answer>"


def search_twice(episode: str, turn: int) -> str:
    return f"<search>Velmora {episode[-2:]}</search>" if turn < 2 else ANSWER


def rollouts(episodes: Watched, ledger: Ledger | None = None, **options: Any) -> Rollouts:
    sampler = BranchSampler(candidates=2, eta=0.7, retrieve="all", scorer=Scored(lambda t: t.sample / 2))
    return Rollouts(
        order=QuestionOrder([BRIDGE, COMPARISON], seed=0),
        episodes=episodes,
        units_per_step=2,
        sampler=sampler,
        seed=5,
        ledger=ledger,
        **options,
    )


def told(units: list[Unit]) -> list[tuple]:
    return [(t.id, t.parent_id, t.finish_reason, t.token_ids.tolist()) for u in units for t in u.trajectories]


@pytest.mark.parametrize("max_staleness", [0, 1])
async def test_units_are_dealt_whole_to_ranks_and_every_trajectory_is_booked_once(
    tmp_path: Path, max_staleness: int
) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    door = rollouts(Watched(search_twice), ledger, max_staleness=max_staleness)
    for step in range(3):
        first, second = [await door.next_units(step, rank, 2) for rank in range(2)]
        assert len(first) == len(second) == 1
        for unit in (*first, *second):
            assert len(unit.trajectories) == 6
            shares_its_prefix(unit)
        assert door.readings()["sampled_trajectories"] == pytest.approx(2 * 2 * (step + 1))
        door.set_version(step + 1)
    await door.close()
    ledger.close()
    path = tmp_path / "ledger.jsonl"
    assert audit(path, steps=3, units_per_step=2, samples=None, max_staleness=max_staleness) == []
    events = Counter(event["event"] for event in read_ledger(path) if event.get("unit", "").startswith("step000000"))
    assert events == {"started": 2, "extended": 4, "accepted": 12, "taken": 2}


async def test_what_a_unit_went_on_to_is_missed_where_it_is_not_booked(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    door = rollouts(Watched(search_twice), ledger)
    await door.next_units(0)
    await door.close()
    ledger.close()
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    lost = next(line for line in lines if '"accepted"' in line and "turn01-candidate00" in line)
    path.write_text("".join(line for line in lines if line != lost), encoding="utf-8")
    assert ["5 of 6 samples" in problem for problem in audit(path, steps=1, units_per_step=2, samples=None)] == [True]


async def test_a_resume_samples_the_same_units_and_counts_on() -> None:
    whole = rollouts(Watched(search_twice))
    steps = [await whole.next_units(step) for step in range(1)]
    state = whole.state
    whole.set_version(1)
    steps.append(await whole.next_units(1))
    resumed = rollouts(Watched(search_twice), version=1, state=state)
    assert told(await resumed.next_units(1)) == told(steps[1])
    assert resumed.readings() == whole.readings()
    assert resumed.readings()["sampled_trajectories"] == pytest.approx(8)


@pytest.mark.parametrize("in_step", [False, True])
async def test_after_an_outage_a_unit_is_what_it_would_have_been(in_step: bool) -> None:
    undisturbed = await rollouts(Watched(search_twice)).next_units(0)
    down = [True]

    async def search(query: str, k: int):
        if down[0]:
            raise RetrievalError("down")
        return await found(query, k)

    async def probe() -> str | None:
        down[0] = False
        return None

    guard = OutageGuard(max_share=0.3, probe=probe, poll_s=0.01)
    forgotten: list[str] = []
    door = rollouts(Watched(search_twice, search), guard=guard, in_step=in_step, forget=forgotten.append)
    units = await asyncio.wait_for(door.next_units(0), 20)
    assert guard.pauses == 1 and door.sampled_again == 2
    assert [unit.id for unit in units] == ["step000000-unit000-again1", "step000000-unit001-again1"]
    assert forgotten == ["step000000-unit000", "step000000-unit001"], "the ids that nobody will ask for"
    assert [one[3] for one in told(units)] == [one[3] for one in told(undisturbed)]
    assert door.readings()["sampled_trajectories"] == pytest.approx(4 + 4), "what the outage spoiled was sampled too"


async def test_units_without_spread_give_way_to_others_in_step_too() -> None:
    refused: list[str] = []

    def keep(unit: Unit) -> bool:
        if len(refused) < 3:
            refused.append(unit.id)
            return False
        return True

    door = rollouts(Watched(search_twice), keep=keep, in_step=True)
    units = await asyncio.wait_for(door.next_units(0), 20)
    assert len(units) == 2 and door.rejected == 3
    assert door.readings()["sampled_trajectories"] == pytest.approx(2 * 5)


async def test_in_step_a_round_of_all_units_is_one_batch_whatever_scoring_takes() -> None:
    class Slow(Scored):
        async def advantages(self, unit: Unit) -> np.ndarray:
            await asyncio.sleep(np.random.default_rng().uniform(0, 0.01))
            return await super().advantages(unit)

    batches = []
    for _ in range(2):
        episodes = Watched(search_twice)
        door = rollouts(episodes, in_step=True)
        door._sampler = BranchSampler(candidates=2, eta=0.7, retrieve="all", scorer=Slow(lambda t: t.sample / 2))
        await door.next_units(0)
        batches.append([[spec.id for spec in specs] for specs in episodes.rounds])
    assert batches[0] == batches[1] and [len(batch) for batch in batches[0]] == [4, 4, 4]


async def test_closing_gives_up_units_that_wait_for_each_other() -> None:
    door = rollouts(Watched(search_twice), in_step=True)
    waiting = asyncio.create_task(door.next_units(0))
    for _ in range(8):
        await asyncio.sleep(0)
    await asyncio.wait_for(door.close(), 5)
    with pytest.raises(asyncio.CancelledError):
        await waiting
