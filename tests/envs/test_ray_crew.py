"""Episodes on Ray are the episodes of one process, and stay so while workers and engines are killed."""

import asyncio
import os
import random
import signal
import threading
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from ray.exceptions import RayActorError

from agent.engine import EngineError
from envs.actor import EngineActor, stable_seed
from envs.engine_server import EngineGone, EngineHealth, EngineServer, RemoteActor
from envs.episode import EpisodeSpec
from envs.episode_pool import run_episodes
from envs.episode_worker import WorkerHealth
from envs.packed_weights import pack, unpack
from envs.ray_crew import CrewSettings, RayCrew
from envs.ray_episodes import RayEpisodes
from tests.envs.ray_parts import (
    LIMITS,
    HangingEngine,
    SleepingEngine,
    broken_engine,
    closing_limit_s,
    load_protocol,
    loaded_models,
    search,
    sleeping_worker,
    slow_engine,
)
from tests.envs.small_world import BRIDGE, OverlapRetriever, byte_tokenizer
from tests.retrieval.server.served import all_ended

SETTINGS = CrewSettings(
    engines=2,
    workers=2,
    retrievers=2,
    engine_cpus=0.3,
    worker_cpus=0.3,
    retriever_cpus=0.3,
    heartbeat_s=0.5,
    heartbeat_timeout_s=10,
    engine_silence_s=5,
)

PATIENCE_S = 400
"""For what takes seconds on a machine that has nothing else to do."""


def specs(count: int, *, prefix: str = "step000000") -> list[EpisodeSpec]:
    return [
        EpisodeSpec(
            id=f"{prefix}-unit{i // 4:03d}-sample{i % 4:02d}",
            question=BRIDGE,
            unit_id=f"{prefix}-unit{i // 4:03d}",
            group_id=f"{prefix}-unit{i // 4:03d}",
            sample=i % 4,
            seed=stable_seed(7, i),
        )
        for i in range(count)
    ]


def told_of(trajectory) -> tuple:
    return (
        trajectory.id,
        trajectory.finish_reason,
        tuple((turn.action_ids, turn.observation_ids) for turn in trajectory.turns),
    )


async def in_this_process(wanted: list[EpisodeSpec]) -> list[tuple]:
    trajectories = await run_episodes(
        wanted,
        actor=EngineActor(SleepingEngine(0)),
        search=search,
        protocol=load_protocol("waymark"),
        tokenizer=byte_tokenizer(),
        limits=LIMITS,
    )
    return [told_of(trajectory) for trajectory in trajectories]


def test_weights_travel_as_arrays_in_every_precision():
    named = [("a", torch.randn(3, 4)), ("b", torch.randn(5).to(torch.bfloat16)), ("c", torch.tensor(2.0))]
    packed = pack(named)
    assert packed.num_bytes == 3 * 4 * 4 + 5 * 2 + 4
    for (name, tensor), (other_name, other) in zip(named, unpack(packed), strict=True):
        assert (name, tensor.dtype, tensor.shape) == (other_name, other.dtype, other.shape)
        assert torch.equal(tensor, other)


async def test_a_server_that_starts_again_serves_the_newest_weights():
    server = EngineServer(lambda: SleepingEngine(0), lambda: ([("w", np.ones(3))], 5))
    assert (await server.health()).version == 5
    assert await server.update_weights([("w", np.ones(3))], 4) == 5, "an older version must not come back"


async def test_an_update_of_the_weights_that_hangs_counts_as_silence():
    """Otherwise an engine that is deadlocked in an update, with nothing to sample, is never replaced."""
    release = threading.Event()

    class Hangs(SleepingEngine):
        def update_weights(self, named, version):
            release.wait(60)

    server = EngineServer(Hangs)
    assert (await server.health()).silent_s == 0
    updating = asyncio.create_task(server.update_weights([], 1))
    async with asyncio.timeout(60):
        while (await server.health()).silent_s == 0:
            await asyncio.sleep(0.01)
    release.set()
    await updating
    assert (await server.health()).silent_s == 0


async def test_an_action_is_asked_again_of_the_successor_until_the_deadline():
    failures = 2

    async def call(key, prompt_ids, params):
        nonlocal failures
        if failures:
            failures -= 1
            raise EngineGone("it died")
        return await SleepingEngine(0).generate(prompt_ids, params, key=key)

    async def dead(key, prompt_ids, params):
        raise EngineGone("it died")

    options = {"context_window": 8000, "pause_s": 0.01}
    wanted = specs(1)
    common = {
        "search": search,
        "protocol": load_protocol("waymark"),
        "tokenizer": byte_tokenizer(),
        "limits": LIMITS,
    }
    [trajectory] = await run_episodes(wanted, actor=RemoteActor(call, **options), **common)
    assert [told_of(trajectory)] == await in_this_process(wanted)
    [lost] = await run_episodes(wanted, actor=RemoteActor(dead, timeout_s=0.05, **options), **common)
    assert lost.finish_reason == "engine_failure"
    assert issubclass(EngineError, RuntimeError)


@pytest.fixture(scope="module")
def cluster():
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, namespace="waymark-tests")
    yield
    ray.shutdown()


def crew(name: str, **fields) -> RayCrew:
    made = {
        "open_engine": SleepingEngine,
        "make_worker": sleeping_worker,
        "open_retriever": OverlapRetriever,
        "settings": SETTINGS,
        **fields,
    }
    return RayCrew(name=name, **made)


async def pid(actor) -> int:
    """Of an actor's process, or of its successor where it is just being started again."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(RayActorError):
                return await actor.__ray_call__.remote(lambda self: os.getpid())
            await asyncio.sleep(0.1)


@pytest.mark.slow
async def test_a_crew_plays_the_same_episodes_and_its_workers_hold_no_model(cluster):
    wanted = specs(24)
    async with crew("same") as hands:
        episodes = RayEpisodes(hands.workers)
        played = await asyncio.gather(*episodes.submit(wanted))
        assert [told_of(trajectory) for trajectory in played] == await in_this_process(wanted)
        models = await asyncio.gather(*(w.__ray_call__.remote(lambda self: loaded_models()) for w in hands.workers))
        assert models == [[], []]
        asked = hands.replica_client()
        assert asked is not None
        assert [await asked.search("Who founded Velmora?", 2)] == OverlapRetriever().search(["Who founded Velmora?"], 2)
        await asked.close()
        await hands.update_weights([("w", torch.ones(3))], 1)
        [after] = await asyncio.gather(*episodes.submit(specs(1, prefix="step000001")))
        assert {v for turn in after.turns for v in turn.action_versions} == {1}
        await episodes.close()


@pytest.mark.slow
async def test_killed_workers_engines_and_replicas_cost_no_episode_and_come_back_with_the_newest_weights(cluster):
    again: list[str] = []
    wanted = specs(160)
    rng = random.Random(3)
    async with crew("killed") as hands:
        await hands.update_weights([("w", torch.ones(3))], 4)
        pids = [await pid(rng.choice(actors)) for actors in (hands.workers, hands.engines, hands.retrievers)]
        episodes = RayEpisodes(hands.workers, max_concurrent=32, on_again=lambda spec, why: again.append(spec.id))
        futures = episodes.submit(wanted)
        await asyncio.wait(futures[:8], return_when=asyncio.FIRST_COMPLETED)
        for one in pids:
            os.kill(one, signal.SIGKILL)
            await asyncio.sleep(rng.uniform(0, 0.3))
        played = await asyncio.wait_for(asyncio.gather(*futures), PATIENCE_S)
        assert [told_of(trajectory) for trajectory in played] == await in_this_process(wanted)
        assert {v for t in played for turn in t.turns for v in turn.action_versions} == {4}
        assert again, "the kill hit no episode: it tests nothing"
        await episodes.close()


@pytest.mark.slow
async def test_episodes_wait_for_a_worker_where_all_have_died(cluster):
    again: list[str] = []
    wanted = specs(32)
    async with crew("orphans") as hands:
        episodes = RayEpisodes(hands.workers, max_attempts=3, on_again=lambda spec, why: again.append(spec.id))
        futures = episodes.submit(wanted)
        for _ in range(2):
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
            for one in await asyncio.gather(*map(pid, hands.workers)):
                os.kill(one, signal.SIGKILL)
            await asyncio.sleep(1)
            async with asyncio.timeout(PATIENCE_S):
                while not all(isinstance(state, WorkerHealth) for state in (await hands.health()).workers):
                    await asyncio.sleep(0.1)
        played = await asyncio.wait_for(asyncio.gather(*futures), PATIENCE_S)
        assert [told_of(trajectory) for trajectory in played] == await in_this_process(wanted)
        assert again
        await episodes.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["is silent", "does not answer"])
async def test_an_engine_that_hangs_without_dying_is_replaced(cluster, how: str, tmp_path: Path):
    told: list[str] = []
    wanted = specs(24)
    file = tmp_path / "hang"
    async with crew(how.replace(" ", "-"), open_engine=partial(HangingEngine, str(file)), tell=told.append) as hands:
        before = await asyncio.gather(*map(pid, hands.engines))
        if how == "is silent":
            file.touch()
        else:
            os.kill(before[0], signal.SIGSTOP)
        episodes = RayEpisodes(hands.workers)
        played = await asyncio.wait_for(asyncio.gather(*episodes.submit(wanted)), PATIENCE_S)
        assert [told_of(trajectory) for trajectory in played] == await in_this_process(wanted)
        after = await asyncio.gather(*map(pid, hands.engines))
        assert hands.replaced >= 1 and after != before
        assert [line for line in told if line.endswith("it is started again")], told
        await episodes.close()


@pytest.mark.slow
async def test_an_engine_that_takes_longer_to_start_than_a_heartbeat_may_is_let_start(cluster):
    told: list[str] = []
    settings = replace(SETTINGS, engines=1, heartbeat_timeout_s=8)
    async with crew("slow", open_engine=slow_engine, settings=settings, tell=told.append) as hands:
        before = await pid(hands.engines[0])
        os.kill(before, signal.SIGKILL)
        episodes = RayEpisodes(hands.workers)
        wanted = specs(4)
        played = await asyncio.wait_for(asyncio.gather(*episodes.submit(wanted)), PATIENCE_S)
        assert [told_of(trajectory) for trajectory in played] == await in_this_process(wanted)
        assert await pid(hands.engines[0]) != before
        assert not [line for line in told if line.startswith("engine 0 did not answer")]
        await episodes.close()


@pytest.mark.slow
async def test_replicas_that_hang_or_die_all_at_once_cost_no_episode(cluster):
    told: list[str] = []
    wanted = specs(48)
    async with crew("replicas", tell=told.append) as hands:
        episodes = RayEpisodes(hands.workers, max_concurrent=16)
        futures = episodes.submit(wanted)
        await asyncio.wait(futures[:8], return_when=asyncio.FIRST_COMPLETED)
        hanging, dying = await asyncio.gather(*map(pid, hands.retrievers))
        os.kill(hanging, signal.SIGSTOP)
        os.kill(dying, signal.SIGKILL)
        played = await asyncio.wait_for(asyncio.gather(*futures), PATIENCE_S)
        assert [told_of(trajectory) for trajectory in played] == await in_this_process(wanted)
        assert any(line.startswith("retriever 0 did not answer") for line in told) and hands.replaced >= 1
        await episodes.close()
    assert all_ended({hanging, dying})


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_board_that_is_lost_is_told_again_and_serves_no_engine_before(cluster, how: signal.Signals):
    async with crew(f"board-{how.name}") as hands:
        await hands.update_weights([("w", torch.ones(3))], 7)
        board, engine = await pid(hands._board), await pid(hands.engines[0])
        os.kill(board, how)
        os.kill(engine, signal.SIGKILL)
        versions: list[int] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(versions) < 3:
                state = (await hands.health()).engines[0]
                versions += [state.version] if isinstance(state, EngineHealth) else []
                await asyncio.sleep(0.1)
        assert versions == [7, 7, 7]
        await hands.update_weights([("w", torch.ones(3))], 8)
        versions = [state.version for state in (await hands.health()).engines if isinstance(state, EngineHealth)]
        assert versions and set(versions) == {8}


@pytest.mark.slow
async def test_an_actor_that_cannot_be_made_ends_the_start_with_its_error(cluster):
    with pytest.raises(RayActorError, match="there is no such model"):
        async with crew("broken", open_engine=broken_engine):
            raise AssertionError("it started")
    with pytest.raises(ValueError, match="give open_retriever= too"):
        crew("half", open_retriever=None)


@pytest.mark.slow
async def test_a_cluster_without_room_is_told_in_numbers(cluster):
    settings = replace(SETTINGS, engines=9, engine_cpus=1, start_timeout_s=2)
    with pytest.raises(TimeoutError, match=r"no room for 9 engines of 1 CPUs and 0 GPUs, 2 retrievers .* within 2 s"):
        async with crew("large", settings=settings):
            raise AssertionError("it started")


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [False, True])
async def test_a_crew_ends_within_its_time_and_leaves_no_process_also_where_one_hangs(cluster, stopped: bool):
    rng = random.Random(5)
    async with crew(f"ends-{stopped}") as hands:
        pids = await asyncio.gather(*map(pid, (*hands.workers, *hands.retrievers, *hands.engines, hands._board)))
        if stopped:
            os.kill(rng.choice(pids), signal.SIGSTOP)
        started = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - started < closing_limit_s()
    assert all_ended(set(pids))
