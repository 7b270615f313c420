"""Rollouts over a retriever that can be switched off, for the tests of what an outage costs."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.protocols.registry import load_protocol
from agent.trajectory import Unit
from envs.actor import EngineActor
from envs.episode import Search
from envs.episode_pool import EpisodePool
from envs.units import GroupSampler
from retrieval.passage import Hit
from retrieval.retriever import RetrievalError
from tests.envs.ray_parts import LIMITS, SleepingEngine
from tests.envs.ray_parts import search as overlap_search
from tests.envs.small_world import BRIDGE, COMPARISON, byte_tokenizer
from train.ledger import Ledger, audit
from train.outage import OutageGuard, Probe
from train.question_order import QuestionOrder
from train.rollouts import Rollouts

UNITS, SAMPLES = 2, 4


class Retriever:
    """Answers but while it is down: then it raises after `wait_s`, as a batcher does at its deadline."""

    def __init__(self, wait_s: float = 0.01) -> None:
        self.is_down = False
        self.searches = 0
        self._wait_s = wait_s

    async def search(self, query: str, k: int) -> list[Hit]:
        self.searches += 1
        if self.is_down:
            await asyncio.sleep(self._wait_s)
            raise RetrievalError("connection refused")
        return await overlap_search(query, k)

    async def probe(self) -> str | None:
        return "connection refused" if self.is_down else None


def guarded(probe: Probe, told: list[str], **fields: Any) -> OutageGuard:
    return OutageGuard(
        **{"max_share": 0.3, "poll_s": 0.02, "patience_s": 60.0, "probe": probe, **fields}, tell=told.append
    )


def over(search: Search, folder: Path, **fields: Any) -> tuple[Rollouts, EpisodePool, Ledger]:
    """Rollouts of a sleeping engine over this search, the pool of their episodes, and their ledger."""
    pool = EpisodePool(
        actor=EngineActor(SleepingEngine(0.001)),
        search=search,
        protocol=load_protocol("waymark"),
        tokenizer=byte_tokenizer(),
        limits=LIMITS,
    )
    ledger = Ledger(folder / "ledger.jsonl")
    door = Rollouts(
        order=QuestionOrder([BRIDGE, COMPARISON], seed=0),
        episodes=pool,
        units_per_step=UNITS,
        sampler=GroupSampler(samples=SAMPLES),
        seed=5,
        ledger=ledger,
        **fields,
    )
    return door, pool, ledger


async def steps_of(
    search: Search, folder: Path, steps: int, *, before: Callable[[int], None] = lambda step: None, **fields: Any
) -> list[list[Unit]]:
    """Take so many steps; the ledger must be clean at the end."""
    door, pool, ledger = over(search, folder, **fields)
    taken = []
    try:
        for step in range(steps):
            before(step)
            taken.append(await asyncio.wait_for(door.next_units(step), 120))
            door.set_version(step + 1)
    finally:
        await door.close()
        await pool.close()
        ledger.close()
    staleness = fields.get("max_staleness", 0)
    problems = audit(
        folder / "ledger.jsonl", steps=steps, units_per_step=UNITS, samples=SAMPLES, max_staleness=staleness
    )
    assert problems == []
    return taken


def played(steps: list[list[Unit]]) -> list[tuple]:
    """What was sampled, but for which attempt at it this was."""
    return [
        (t.question_id, t.sample, t.finish_reason, tuple(turn.action_ids for turn in t.turns))
        for units in steps
        for unit in units
        for t in unit.trajectories
    ]


def undisturbed(steps: int, **fields: Any) -> list[tuple]:
    """What these rollouts sample where nothing is ever down."""
    with tempfile.TemporaryDirectory() as folder:
        return played(asyncio.run(steps_of(Retriever().search, Path(folder), steps, **fields)))
