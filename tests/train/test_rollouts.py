"""Which question a unit asks follows from its number alone, and batches are whole in any order of completion."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.trajectory import Trajectory, Unit
from envs.episode import EpisodeSpec
from envs.question import Question
from envs.units import GroupSampler
from train.ledger import Ledger, audit
from train.question_order import QuestionOrder
from train.rollouts import Rollouts


def questions(n: int) -> list[Question]:
    return [Question(id=str(i), text=f"q{i}", golden_answers=("a",)) for i in range(n)]


@given(n=st.integers(1, 30), seed=st.integers(0, 5))
def test_every_epoch_asks_every_question_once(n: int, seed: int) -> None:
    order = QuestionOrder(questions(n), seed=seed)
    asked = [order[number].id for number in range(3 * n)]
    for epoch in range(3):
        assert sorted(asked[epoch * n : (epoch + 1) * n], key=int) == [str(i) for i in range(n)]


def test_a_unit_asks_the_same_whatever_was_asked_before() -> None:
    a, b = (QuestionOrder(questions(10), seed=1) for _ in range(2))
    earlier = [a[number].id for number in range(40)]
    assert [b[number].id for number in range(31, 36)] == earlier[31:36]


def test_another_seed_asks_in_another_order() -> None:
    first, second = ([QuestionOrder(questions(50), seed=seed)[n].id for n in range(20)] for seed in (0, 1))
    assert first != second


def test_no_question_is_refused() -> None:
    with pytest.raises(ValueError, match="no question to train on"):
        QuestionOrder([], seed=0)


class ByHand:
    """Episodes that end when the test says so."""

    def __init__(self) -> None:
        self.live: dict[str, tuple[EpisodeSpec, asyncio.Future[Trajectory]]] = {}
        self.calls: list[list[str]] = []

    def submit(self, specs: Sequence[EpisodeSpec]) -> list[asyncio.Future[Trajectory]]:
        self.calls.append([spec.id for spec in specs])
        futures = [asyncio.get_running_loop().create_future() for _ in specs]
        self.live.update({spec.id: (spec, future) for spec, future in zip(specs, futures, strict=True)})
        return futures

    def end(self, unit: str) -> None:
        for id in [id for id in self.live if id.startswith(unit)]:
            spec, future = self.live.pop(id)
            future.set_result(
                Trajectory(
                    id=spec.id,
                    question_id=spec.question.id,
                    unit_id=spec.unit_id,
                    group_id=spec.group_id,
                    sample=spec.sample,
                    prompt_ids=(1,),
                    turns=(),
                    finish_reason="no_answer",
                )
            )


def rollouts(episodes: ByHand, **options) -> Rollouts:
    return Rollouts(
        order=QuestionOrder(questions(7), seed=0),
        episodes=episodes,
        units_per_step=2,
        sampler=GroupSampler(samples=3),
        seed=5,
        **options,
    )


def ids(units: Sequence[Unit]) -> list[str]:
    return [unit.id for unit in units]


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_step_is_its_own_units_in_order_and_all_episodes_are_submitted_at_once() -> None:
    episodes = ByHand()
    door = rollouts(episodes)
    waiting = asyncio.create_task(door.next_units(0))
    await _settle()
    assert len(episodes.calls) == 1
    assert len(episodes.calls[0]) == 6
    episodes.end("step000000-unit001")
    await _settle()
    assert not waiting.done()
    episodes.end("step000000-unit000")
    assert ids(await waiting) == ["step000000-unit000", "step000000-unit001"]


async def test_ahead_of_the_learner_a_batch_does_not_wait_for_a_long_episode_until_it_would_be_too_old(
    tmp_path,
) -> None:
    episodes = ByHand()
    ledger = Ledger(tmp_path / "ledger.jsonl")
    door = rollouts(episodes, max_staleness=1, ledger=ledger)
    waiting = asyncio.create_task(door.next_units(0))
    await _settle()
    for unit in ("step000000-unit001", "step000001-unit001"):
        episodes.end(unit)
    assert ids(await waiting) == ["step000000-unit001", "step000001-unit001"]
    door.set_version(1)
    waiting = asyncio.create_task(door.next_units(1))
    await _settle()
    for unit in ("step000002-unit000", "step000002-unit001"):
        episodes.end(unit)
    await _settle()
    assert not waiting.done()
    for unit in ("step000000-unit000", "step000001-unit000"):
        episodes.end(unit)
    assert ids(await waiting) == ["step000000-unit000", "step000001-unit000"]
    door.set_version(2)
    assert ids(await door.next_units(2)) == ["step000002-unit000", "step000002-unit001"]
    await door.close()
    ledger.close()
    assert audit(tmp_path / "ledger.jsonl", steps=3, units_per_step=2, samples=3, max_staleness=1) == []


async def test_ranks_share_a_step_whole_and_may_ask_again() -> None:
    episodes = ByHand()
    door = rollouts(episodes)
    asked = [asyncio.create_task(door.next_units(0, rank, 2)) for rank in (1, 0)]
    await _settle()
    episodes.end("step000000")
    second, first = [ids(await task) for task in asked]
    assert (first, second) == (["step000000-unit000"], ["step000000-unit001"])
    assert ids(await door.next_units(0, 1, 2)) == second


async def test_units_without_spread_are_replaced_by_fresh_ones() -> None:
    episodes = ByHand()
    door = rollouts(episodes, keep=lambda unit: unit.id != "step000000-unit000")
    waiting = asyncio.create_task(door.next_units(0))
    await _settle()
    episodes.end("step000000")
    await _settle()
    assert not waiting.done()
    episodes.end("step000001-unit000")
    assert ids(await waiting) == ["step000000-unit001", "step000001-unit000"]
    assert door.rejected == 1


async def test_a_resume_samples_what_was_not_taken_with_the_same_seeds() -> None:
    episodes = ByHand()
    door = rollouts(episodes, max_staleness=1)
    waiting = asyncio.create_task(door.next_units(0))
    await _settle()
    begun = {id: spec for id, (spec, _) in episodes.live.items()}
    for unit in ("step000000-unit001", "step000001-unit000"):
        episodes.end(unit)
    await waiting
    again = ByHand()
    resumed = rollouts(again, max_staleness=1, version=1, state=door.state)
    waiting = asyncio.create_task(resumed.next_units(1))
    await _settle()
    units = sorted({spec.unit_id for spec, _ in again.live.values()})
    assert units == ["step000000-unit000", "step000001-unit001", "step000002-unit000", "step000002-unit001"]
    assert all(begun[id] == spec for id, (spec, _) in again.live.items() if id in begun)
    again.end("step")
    await waiting
    await door.close()
    await resumed.close()


async def test_a_bug_in_an_episode_is_raised_by_the_step_that_waits_for_it(tmp_path: Path) -> None:
    episodes = ByHand()
    door = rollouts(episodes)
    waiting = asyncio.create_task(door.next_units(0))
    await _settle()
    next(iter(episodes.live.values()))[1].set_exception(TypeError("a bug"))
    with pytest.raises(TypeError, match="a bug"):
        await waiting
    await door.close()
    assert all(future.done() for _, future in episodes.live.values())
