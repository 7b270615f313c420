"""Episodes that are given up leave their worker and their engine, and one that took too long is played again."""

import asyncio
import functools
from types import SimpleNamespace

import pytest
import ray

from envs.crew_settings import CrewSettings
from envs.episode import EpisodeSpec
from envs.ray_crew import RayCrew
from envs.ray_episodes import RayEpisodes
from tests.envs.ray_parts import SleepingEngine, sleeping_worker
from tests.envs.small_world import BRIDGE

SETTINGS = CrewSettings(engines=1, workers=1, engine_cpus=0.5, worker_cpus=0.5)


class HangsOnce(SleepingEngine):
    """The first request is never answered."""

    asked = 0

    async def generate(self, prompt_ids, params, *, key):
        self.asked += 1
        if self.asked == 1:
            await asyncio.sleep(3600)
        return await super().generate(prompt_ids, params, key=key)


def specs(count: int) -> list[EpisodeSpec]:
    return [
        EpisodeSpec(id=f"unit-sample{i:02d}", question=BRIDGE, unit_id="unit", group_id="unit", sample=i, seed=i)
        for i in range(count)
    ]


async def test_what_is_submitted_while_the_last_place_is_left_is_played():
    first = asyncio.get_running_loop().create_future()
    answers = [first, asyncio.sleep(0, "second")]
    worker = SimpleNamespace(play=SimpleNamespace(remote=lambda spec: answers.pop(0)))
    episodes = RayEpisodes([worker], max_concurrent=1)
    one, other = specs(2)
    episodes.submit([one])
    await asyncio.sleep(0)

    async def submit_when_it_ends():
        await first
        return episodes.submit([other])

    submitting = asyncio.create_task(submit_when_it_ends())
    await asyncio.sleep(0)
    first.set_result("first")
    [future] = await submitting
    assert await asyncio.wait_for(future, 10) == "second"
    await episodes.close()


@pytest.fixture(scope="module")
def cluster():
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, namespace="waymark-given-up")
    yield
    ray.shutdown()


def crew(name: str, open_engine) -> RayCrew:
    return RayCrew(open_engine=open_engine, make_worker=sleeping_worker, settings=SETTINGS, name=name)


async def until_at_work(hands: RayCrew, *, busy: bool) -> None:
    """Wait until worker and engine both have something to do, or both have nothing."""
    async with asyncio.timeout(120):
        while True:
            worker, engine = await asyncio.gather(hands.workers[0].health.remote(), hands.engines[0].health.remote())
            if (worker.live > 0, engine.running > 0) == (busy, busy):
                return
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_episodes_that_are_given_up_leave_worker_and_engine(cluster):
    async with crew("given-up", functools.partial(SleepingEngine, 3600.0)) as hands:
        episodes = RayEpisodes(hands.workers)
        futures = episodes.submit(specs(8))
        await until_at_work(hands, busy=True)
        await episodes.close()
        assert all(future.cancelled() for future in futures)
        await until_at_work(hands, busy=False)


@pytest.mark.slow
async def test_an_episode_that_took_too_long_is_played_again_by_the_only_worker(cluster):
    again: list[str] = []
    async with crew("too-long", HangsOnce) as hands:
        episodes = RayEpisodes(hands.workers, deadline_s=8, on_again=lambda spec, why: again.append(why))
        [future] = episodes.submit(specs(1))
        trajectory = await asyncio.wait_for(future, 120)
        assert trajectory.id == "unit-sample00" and trajectory.finish_reason in ("answered", "turn_limit")
        assert again and set(again) == {"no end within 8 s"}
        await episodes.close()
