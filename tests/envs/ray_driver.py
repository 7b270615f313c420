"""A program that drives a crew on a Ray of its own, for tests that end it: `python -m tests.envs.ray_driver MODE`.

It prints the process ids of its actors and of Ray's own processes on one line, then plays episodes until it is ended;
with `MODE` bug one of its actors raises what no episode may raise.
"""

import asyncio
import os
import sys

import psutil
import ray

from envs.episode import EpisodeSpec
from envs.episode_worker import EpisodeWorker
from envs.ray_crew import CrewSettings, RayCrew
from envs.ray_episodes import RayEpisodes
from envs.retrieval_replicas import ReplicaClient
from tests.envs.ray_parts import SleepingEngine, sleeping_worker
from tests.envs.small_world import BRIDGE, OverlapRetriever

SETTINGS = CrewSettings(
    engines=2, workers=2, retrievers=1, engine_cpus=0.3, worker_cpus=0.3, retriever_cpus=0.3, heartbeat_s=0.5
)


def worker_with_a_bug(call, replicas: ReplicaClient | None) -> EpisodeWorker:
    worker = sleeping_worker(call, replicas)
    searches = 0

    async def search(query: str, k: int):
        nonlocal searches
        searches += 1
        if searches == 40:
            raise TypeError("a bug in a worker")
        assert replicas is not None
        return await replicas.search(query, k)

    worker.search = search
    return worker


async def drive(mode: str) -> None:
    makes = worker_with_a_bug if mode == "bug" else sleeping_worker
    async with RayCrew(
        open_engine=SleepingEngine,
        make_worker=makes,
        open_retriever=OverlapRetriever,
        settings=SETTINGS,
        name="driven",
    ) as crew:
        actors = (*crew.workers, *crew.retrievers, *crew.engines)
        pids = await asyncio.gather(*(a.__ray_call__.remote(lambda self: os.getpid()) for a in actors))
        own = [child.pid for child in psutil.Process().children(recursive=True)]
        print(*sorted({*pids, *own}), flush=True)
        episodes = RayEpisodes(crew.workers, max_concurrent=32)
        number = 0
        while True:
            number += 1
            specs = [
                EpisodeSpec(id=f"{number}-{i}", question=BRIDGE, unit_id=f"{number}", group_id="g", sample=i, seed=i)
                for i in range(32)
            ]
            await asyncio.gather(*episodes.submit(specs))


if __name__ == "__main__":
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        asyncio.run(drive(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        ray.shutdown()
