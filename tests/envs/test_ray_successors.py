"""An engine that is started again may not be able to open at once, and what it is asked meanwhile goes elsewhere."""

import asyncio
import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from envs.episode_worker import WorkerHealth
from envs.ray_actors import engine_of
from envs.ray_episodes import RayEpisodes
from tests.envs.ray_parts import FailsToReopen, HangsToReopen
from tests.envs.test_ray_crew import PATIENCE_S, SETTINGS, crew, in_this_process, pid, specs, told_of


@pytest.fixture(scope="module")
def cluster():
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, namespace="waymark-successors")
    yield
    ray.shutdown()


def test_units_spread_evenly_over_engines_and_leave_a_lost_one_for_a_living_one():
    keys = [
        f"step000003-unit{unit:03d}-sample{sample:02d}/{turn}"
        for unit in range(12)
        for sample, turn in [(0, 0), (3, 2)]
    ]
    engines = [engine_of(key, 6) for key in keys]
    assert engines[::2] == engines[1::2], "the episodes and turns of a unit share an engine"
    assert all(engines[::2].count(i) == 2 for i in range(6))
    moved = [engine_of(key, 6, {1, 2}) for key in keys]
    assert not {1, 2} & set(moved) and all(a == b for a, b in zip(engines, moved, strict=True) if a not in (1, 2))
    assert engine_of(keys[0], 2, {0, 1}) == engine_of(keys[0], 2), "where none lives, it waits for its own"
    asked = {engine_of(f"eval-q{question}-0/{turn}", 6) for question in range(60) for turn in range(1)}
    assert asked == set(range(6))
    assert len({engine_of(f"eval-q7-0/{turn}", 6) for turn in range(5)}) == 1, "an episode stays with its engine"


async def test_the_largest_lag_of_a_step_is_kept_over_the_heartbeats():
    lags = iter([0.1, 0.7, 0.2, 0.3])

    async def health() -> WorkerHealth:
        return WorkerHealth(live=0, finished=0, loop_lag_s=next(lags), waits=())

    hands = crew("lag")
    hands.workers = [SimpleNamespace(health=SimpleNamespace(remote=health))]
    for _ in range(3):
        await hands.health()
    assert hands.take_loop_lag_s() == 0.7
    await hands.health()
    assert (hands.take_loop_lag_s(), hands.take_loop_lag_s()) == (0.3, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("how", [FailsToReopen, HangsToReopen])
async def test_an_engine_whose_successor_cannot_be_opened_is_tried_again(cluster, how: type, tmp_path: Path):
    """The memory of who died may not be free yet."""
    file = tmp_path / "openings"
    settings = replace(SETTINGS, engines=1, retrievers=0, start_timeout_s=20)
    told: list[str] = []
    async with crew(how.__name__, open_engine=partial(how, str(file)), settings=settings, tell=told.append) as hands:
        episodes = RayEpisodes(hands.workers)
        os.kill(await pid(hands.engines[0]), signal.SIGKILL)
        wanted = specs(8)
        played = await asyncio.wait_for(asyncio.gather(*episodes.submit(wanted)), PATIENCE_S)
        assert [told_of(trajectory) for trajectory in played] == await in_this_process(wanted)
        assert file.read_text().count("opened") >= 3
        assert not [line for line in told if "cannot be started again" in line]
        await episodes.close()
