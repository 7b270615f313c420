"""A worker's episodes, in this process: what they may do, and what a health check sees of them."""

import asyncio

import pytest

from agent.protocols.registry import load_protocol
from envs.actor import EngineActor
from envs.episode_worker import EpisodeWorker, Stalls, Wait, WorkerHealth
from tests.envs.fake_engine import ANSWER, LIMITS, TOKENIZER, FakeEngine, document, found, spec

OPENS = load_protocol("waymark_open")


def worker(documents) -> EpisodeWorker:
    engine = FakeEngine(lambda episode, turn: "<open>Velmora</open>" if turn == 0 else ANSWER)
    return EpisodeWorker(
        actor=EngineActor(engine),
        search=found,
        protocol=OPENS,
        tokenizer=TOKENIZER,
        limits=LIMITS,
        documents=documents,
    )


async def test_a_worker_opens_documents_and_says_who_waits_for_one():
    release = asyncio.Event()

    async def slow(name):
        await release.wait()
        return await document(name)

    made = worker(slow)
    playing = asyncio.create_task(made.play(spec()))
    async with asyncio.timeout(10):
        while not (await made.health()).waits:
            await asyncio.sleep(0.01)
        (line,) = Stalls(-1).lines([("worker 0", await made.health())])
        assert line.startswith("Velmora on worker 0 has waited") and line.endswith("for the documents")
        release.set()
        trajectory = await playing
    assert trajectory.finish_reason == "answered" and trajectory.num_opens == 1
    assert (await made.health()).waits == ()
    await made.close()


async def test_a_worker_without_documents_refuses_a_protocol_that_opens_them():
    with pytest.raises(ValueError, match="give documents="):
        worker(None)


async def test_a_play_that_is_given_up_ends_and_the_episode_may_be_played_again():
    asked = 0
    held = asyncio.Event()

    async def slow(name):
        nonlocal asked
        asked += 1
        if asked == 1:
            await held.wait()
        return await document(name)

    made = worker(slow)
    playing = asyncio.create_task(made.play(spec()))
    async with asyncio.timeout(10):
        while not (await made.health()).waits:
            await asyncio.sleep(0.01)
        playing.cancel()
        await asyncio.wait([playing])
        while True:  # until it has ended, the episode's id is taken
            try:
                trajectory = await made.play(spec())
                break
            except ValueError:
                await asyncio.sleep(0.01)
    assert playing.cancelled() and trajectory.finish_reason == "answered" and asked == 2
    await made.close()


def test_a_wait_is_told_once_it_is_too_long_and_whenever_it_has_doubled():
    stalls = Stalls(10)

    def told(*seconds: float) -> list[str]:
        waits = tuple(Wait(episode=f"e{i}", whom="engine", seconds=s) for i, s in enumerate(seconds))
        return stalls.lines([("worker 0", WorkerHealth(live=2, finished=0, loop_lag_s=0, waits=waits))])

    assert told(9, 9) == []
    assert told(12, 9) == ["e0 on worker 0 has waited 12 s for the engine"]
    assert told(14, 12) == ["e1 on worker 0 has waited 12 s for the engine"]
    assert told(23, 23.9) == []
    assert told(24, 24) == [f"e{i} on worker 0 has waited 24 s for the engine" for i in range(2)]
    assert told(11) == ["e0 on worker 0 has waited 11 s for the engine"], "one that began anew"
    assert told() == [] and told(13) == ["e0 on worker 0 has waited 13 s for the engine"]
