"""An outage costs time: no optimiser step, no question, no trajectory; and the run says what it waits for."""

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest

from agent.trajectory import NOT_THE_POLICYS_FAULT, FinishReason, Unit
from retrieval.batcher import MicroBatcher
from retrieval.client import HttpRetriever
from retrieval.index import build_index
from retrieval.passage import Hit
from retrieval.retriever import RetrievalError
from tests.envs.small_world import PASSAGES
from tests.retrieval.server.served import served
from tests.train.fakes import unit_of
from tests.train.outages import SAMPLES, UNITS, Retriever, guarded, over, played, steps_of, undisturbed
from tests.train.test_retriever_by_config import free_port
from train.admission import AdmissionState
from train.ledger import Ledger, audit, read_ledger
from train.outage import OutageGuard, RolloutFailure, lost_all, lost_any, search_probe


def ended(*reasons: FinishReason) -> Unit:
    return unit_of([1] * len(reasons), finish=reasons)


async def fine() -> str | None:
    return None


@pytest.mark.parametrize(
    ("units", "max_share", "is_outage"),
    [
        ([ended("answered", "retrieval_outage")], 0.5, False),
        ([ended("answered", "retrieval_outage", "engine_failure")], 0.5, True),
        ([ended("answered", "answered"), ended("retrieval_outage", "retrieval_outage")], 0.4, True),
        ([ended("answered", "no_answer")], 0.0, False),
        ([ended("answered", "retrieval_outage")], 0.0, True),
    ],
)
def test_a_share_of_all_trajectories_of_the_step_decides(
    units: Sequence[Unit], max_share: float, is_outage: bool
) -> None:
    assert OutageGuard(max_share=max_share, probe=fine).is_outage(units) == is_outage


def test_a_unit_lost_some_or_all() -> None:
    units = [ended("answered"), ended("answered", "engine_failure"), ended("retrieval_outage", "engine_failure")]
    assert [(lost_any(unit), lost_all(unit)) for unit in units] == [(False, False), (True, False), (True, True)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_share": 1.0}, "max_share is 1.0; a share of the trajectories is from 0 to below 1"),
        ({"poll_s": 0}, "poll_s is 0 and patience_s .*; both must be more than 0 seconds"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        guarded(fine, [], **fields)


async def test_a_probe_searches_once_and_tells_errors_in_words() -> None:
    async def hangs(query: str, k: int) -> list:
        await asyncio.sleep(60)
        return []

    async def refuses(query: str, k: int) -> list:
        raise RetrievalError("connection refused")

    retriever = Retriever()
    assert await search_probe(retriever.search, question="q")() is None and retriever.searches == 1
    assert await search_probe(refuses, question="q")() == "connection refused"
    assert await search_probe(hangs, question="q", timeout_s=0.01)() == "no answer within 0.01 s"


@pytest.mark.parametrize("max_staleness", [0, 2])
async def test_a_retriever_that_is_down_for_a_while_costs_no_step_and_changes_no_trajectory(
    tmp_path: Path, max_staleness: int
) -> None:
    retriever, told = Retriever(), []

    def before(step: int) -> None:
        if step in (3, 7):
            retriever.is_down = True
            asyncio.get_running_loop().call_later(0.5, setattr, retriever, "is_down", False)

    guard = guarded(retriever.probe, told)
    fields = {"guard": guard, "max_staleness": max_staleness}
    steps = await steps_of(retriever.search, tmp_path, 10, before=before, **fields)
    trajectories = [t for units in steps for unit in units for t in unit.trajectories]
    lost = [t for t in trajectories if t.finish_reason in NOT_THE_POLICYS_FAULT]
    assert len(trajectories) == 10 * UNITS * SAMPLES and len(lost) <= 0.3 * UNITS * SAMPLES * 2
    assert guard.pauses >= 1 and len(told) == 2 * guard.pauses
    assert told[0].startswith("paused: ") and "trajectories had no answer from the retriever; step" in told[0]
    assert told[1].startswith("goes on after ")
    if max_staleness == 0:
        assert played(steps) == await asyncio.to_thread(undisturbed, 10), "the outage changed what is learnt from"


@pytest.mark.parametrize(("max_staleness", "seed"), [(0, 1), (1, 2), (3, 3), (3, 4)])
async def test_in_any_weather_every_step_takes_whole_groups_and_the_ledger_is_clean(
    tmp_path: Path, max_staleness: int, seed: int
) -> None:
    rng, told = random.Random(seed), []
    retriever = Retriever()
    asked, changes_at = 0, 50

    def weather() -> None:
        """It changes with what is asked, not with the time, which says nothing about how much is asked in it."""
        nonlocal asked, changes_at
        asked += 1
        if asked == changes_at:
            retriever.is_down = not retriever.is_down
            changes_at += rng.randint(1, 15) if retriever.is_down else rng.randint(20, 200)

    async def flaky(query: str, k: int) -> list[Hit]:
        weather()
        if rng.random() < 0.05:
            raise RetrievalError("one of many replicas is slow")
        return await retriever.search(query, k)

    async def probe() -> str | None:
        weather()
        return await retriever.probe()

    steps = await steps_of(flaky, tmp_path, 30, guard=guarded(probe, told), max_staleness=max_staleness)
    assert told, "the weather was fine: it tests nothing"
    for units in steps:
        lost = [t.finish_reason in NOT_THE_POLICYS_FAULT for unit in units for t in unit.trajectories]
        assert len(lost) == UNITS * SAMPLES and sum(lost) <= 0.3 * len(lost)


@pytest.mark.parametrize("max_staleness", [0, 3])
async def test_nothing_is_begun_while_the_run_is_paused(tmp_path: Path, max_staleness: int) -> None:
    retriever, told = Retriever(), []
    retriever.is_down = True
    door, pool, ledger = over(
        retriever.search, tmp_path, guard=guarded(retriever.probe, told), max_staleness=max_staleness
    )
    waiting = asyncio.create_task(door.next_units(0))
    async with asyncio.timeout(30):
        while not told or pool._places:  # what ran ahead ends in the outage too
            await asyncio.sleep(0.01)
    searches = retriever.searches
    begun = [event["unit"] for event in read_ledger(tmp_path / "ledger.jsonl") if event["event"] == "started"]
    assert len(begun) == (1 + max_staleness) * UNITS
    await asyncio.sleep(0.3)
    assert retriever.searches == searches and not waiting.done()
    retriever.is_down = False
    units = await asyncio.wait_for(waiting, 30)
    assert len(units) == UNITS and all(unit.id.endswith("-again1") for unit in units)
    assert len(told) == 2, "what ran ahead into the outage must not pause the run again"
    assert door.readings()["groups/sampled_again"] == len(begun)
    await door.close()
    await pool.close()
    ledger.close()


async def test_below_the_share_trajectories_leave_their_group_and_training_goes_on(tmp_path: Path) -> None:
    retriever, told = Retriever(), []
    searched = 0

    async def one_in_nine(query: str, k: int):
        nonlocal searched
        searched += 1
        if searched % 9 == 0:
            raise RetrievalError("no answer in time")
        return await retriever.search(query, k)

    steps = await steps_of(one_in_nine, tmp_path, 4, guard=guarded(retriever.probe, told, max_share=0.9))
    reasons = [t.finish_reason for units in steps for unit in units for t in unit.trajectories]
    assert 0 < reasons.count("retrieval_outage") < len(reasons) and told == []


async def test_an_outage_without_end_ends_the_run_and_says_what_to_do(tmp_path: Path) -> None:
    retriever, told = Retriever(), []
    retriever.is_down = True
    with pytest.raises(
        RolloutFailure,
        match=r"step 0: \d of 8 trajectories had no answer from the retriever, and for .* s there has been no answer; "
        r"the last error: connection refused. Start the retriever .* go on with --resume",
    ):
        await steps_of(retriever.search, tmp_path, 1, guard=guarded(retriever.probe, told, patience_s=0.2))
    assert len(told) == 1


async def test_a_probe_that_is_answered_while_episodes_are_not_does_not_sample_for_ever(tmp_path: Path) -> None:
    retriever, told = Retriever(), []
    retriever.is_down = True
    with pytest.raises(RolloutFailure, match="the probe is answered, and what the episodes ask is not"):
        await steps_of(retriever.search, tmp_path, 1, guard=guarded(fine, told, patience_s=0.5, poll_s=0.1))
    assert 2 <= len([line for line in told if line.startswith("paused")]) <= 6, told


@pytest.mark.parametrize(
    ("reasons", "engine", "retriever"),
    [
        (("answered", "retrieval_outage"), False, True),
        (("answered", "engine_failure"), True, False),
        (("retrieval_outage", "engine_failure"), True, True),
    ],
)
async def test_what_to_do_fits_what_had_no_answer(reasons: tuple[str, ...], engine: bool, retriever: bool) -> None:
    async def down() -> str:
        return "down"

    guard = guarded(down, [], patience_s=0.05)
    with pytest.raises(RolloutFailure, match="go on with --resume") as failure:
        await guard.wait(3, [ended(*reasons)])
    said = str(failure.value)
    assert ("engine's log" in said, "Start the retriever" in said) == (engine, retriever), said


async def test_a_probe_that_hangs_is_no_answer(tmp_path: Path) -> None:
    async def hangs() -> str | None:
        await asyncio.sleep(60)
        return None

    with pytest.raises(RolloutFailure, match="the last error: it did not answer"):
        await guarded(hangs, [], patience_s=0.1).wait(3, [ended("retrieval_outage")])


async def test_a_pause_names_the_engine_where_it_was_the_engine() -> None:
    told: list[str] = []
    units = [ended("answered", "engine_failure", "retrieval_outage", "retrieval_outage")]
    await guarded(fine, told).wait(3, units)
    assert told[0].startswith(
        "paused: 3 of 4 trajectories had no answer from the engine or the retriever (1 from the engine, 2 from the "
        "retriever); step 3 is not learnt from"
    )


async def test_a_group_without_an_answer_is_not_refused_for_having_no_spread(tmp_path: Path) -> None:
    retriever, told, asked = Retriever(), [], []

    def keep(unit: Unit) -> bool:
        asked.append(unit)
        return True

    retriever.is_down = True
    asyncio.get_running_loop().call_later(0.3, setattr, retriever, "is_down", False)
    await steps_of(retriever.search, tmp_path, 2, guard=guarded(retriever.probe, told), keep=keep)
    assert len(asked) == 2 * UNITS and not any(lost_any(unit) for unit in asked)


@pytest.mark.parametrize("max_staleness", [0, 2])
async def test_a_run_that_is_killed_while_it_is_paused_goes_on_from_its_checkpoint(
    tmp_path: Path, max_staleness: int
) -> None:
    retriever, told = Retriever(), []
    guard = guarded(retriever.probe, told)
    fields = {"guard": guard, "max_staleness": max_staleness}
    door, pool, ledger = over(retriever.search, tmp_path, **fields)
    for step in range(3):
        await door.next_units(step)
        door.set_version(step + 1)
    state = asdict(door.state)
    retriever.is_down = True
    for step in range(3, 4 + max_staleness):  # what ran ahead before the outage is learnt from
        killed = asyncio.create_task(door.next_units(step))
        async with asyncio.timeout(30):
            while not told and not killed.done():
                await asyncio.sleep(0.01)
        if told:
            break
        door.set_version(step + 1)
    assert told and not killed.done()
    killed.cancel()
    await asyncio.gather(killed, return_exceptions=True)
    await door.close()
    await pool.close()
    ledger.close()
    retriever.is_down = False
    Ledger(tmp_path / "ledger.jsonl").write("resumed", step=3)
    door, pool, ledger = over(retriever.search, tmp_path, version=3, state=AdmissionState(**state), **fields)
    for step in range(3, 6):
        await door.next_units(step)
        door.set_version(step + 1)
    await door.close()
    await pool.close()
    ledger.close()
    path = tmp_path / "ledger.jsonl"
    assert audit(path, steps=6, units_per_step=UNITS, samples=SAMPLES, max_staleness=max_staleness) == []


@pytest.mark.slow
async def test_a_served_index_that_hangs_and_one_that_is_killed_for_20_seconds_cost_none_of_30_steps(
    tmp_path: Path,
) -> None:
    (tmp_path / "corpus.jsonl").write_text(
        "".join(json.dumps({"id": p.id, "title": p.title, "text": p.text}) + "\n" for p in PASSAGES)
    )
    build_index(tmp_path / "corpus.jsonl", tmp_path / "index")
    port, told, loop = free_port(), [], asyncio.get_running_loop()
    command = ("-m", "scripts.serve_index", str(tmp_path / "index"), "--port", str(port))
    down: list[float] = []
    with ExitStack() as servers:
        server = servers.enter_context(served(*command))

        def before(step: int) -> None:
            if step == 6:
                os.kill(server.process.pid, signal.SIGSTOP)
                down.append(time.monotonic())
                loop.call_later(20, os.kill, server.process.pid, signal.SIGCONT)
            if step == 18:
                server.end(signal.SIGKILL)
                down.append(time.monotonic())
                loop.call_later(20, lambda: restarted.append(loop.run_in_executor(None, serve_again)))

        def serve_again() -> None:
            servers.enter_context(served(*command))

        restarted: list[asyncio.Future[None]] = []
        retriever = servers.enter_context(
            HttpRetriever(f"http://127.0.0.1:{port}", timeout_s=4, attempt_timeout_s=2, retries=1, breaker_pause_s=1)
        )
        batcher = MicroBatcher(retriever, timeout_s=3, retries=1)
        probe = search_probe(batcher.search, question="Who founded Velmora?", timeout_s=5)
        guard = guarded(probe, told, poll_s=0.5, patience_s=300)
        steps = await steps_of(batcher.search, tmp_path, 30, before=before, guard=guard)
        await asyncio.gather(*restarted)
        await batcher.close()
    assert len(restarted) == 1 and guard.pauses >= 2
    found = [
        call for units in steps for unit in units for t in unit.trajectories for turn in t.turns for call in turn.calls
    ]
    assert found and all(call.status == "ok" for call in found)
    assert played(steps) == await asyncio.to_thread(undisturbed, 30), "an outage changed what is learnt from"
