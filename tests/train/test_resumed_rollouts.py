"""What a resume makes of the rollouts of the run before it."""

import asyncio
from pathlib import Path

import pytest

from tests.train.test_rollouts import ByHand, _settle, ids, rollouts
from train.checkpoint import CheckpointState, admission_of
from train.ledger import Ledger, audit, read_ledger


async def test_a_checkpoint_that_does_not_know_of_admission_goes_on_with_its_step() -> None:
    episodes = ByHand()
    state = admission_of(CheckpointState(step=10, trajectories=60), 2)
    door = rollouts(episodes, version=10, state=state)
    waiting = asyncio.create_task(door.next_units(10))
    await _settle()
    assert sorted({name.rsplit("-", 1)[0] for name in episodes.live}) == ["step000010-unit000", "step000010-unit001"]
    episodes.end("step000010")
    assert ids(await waiting) == ["step000010-unit000", "step000010-unit001"]


async def test_who_waits_for_units_is_given_up_with_them() -> None:
    door = rollouts(ByHand())
    waiting = asyncio.create_task(door.next_units(0))
    await _settle()
    await asyncio.wait_for(door.close(), 5)
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_run_killed_before_its_first_checkpoint_begins_anew_in_the_same_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for attempt in range(2):
        ledger = Ledger(path)
        ledger.resume(0)
        episodes = ByHand()
        door = rollouts(episodes, ledger=ledger)
        for step in range(1 + attempt):
            waiting = asyncio.create_task(door.next_units(step))
            await _settle()
            episodes.end(f"step{step:06d}")
            await waiting
            door.set_version(step + 1)
        await door.close()
        ledger.close()
    assert audit(path, steps=2, units_per_step=2, samples=3) == []
    assert [event["step"] for event in read_ledger(path) if event["event"] == "resumed"] == [0]


def test_a_torn_line_is_cut_however_long_the_ledger_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    whole = '{"event":"taken","unit":"u","step":0}\n' * 5000
    for torn in ("", '{"event":"tak', "x" * 200_000):
        path.write_text(whole + torn, encoding="utf-8")
        Ledger(path).close()
        assert path.read_text(encoding="utf-8") == whole
    path.write_text("x" * 200_000, encoding="utf-8")
    Ledger(path).close()
    assert path.read_text(encoding="utf-8") == ""
