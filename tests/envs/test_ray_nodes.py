"""A node of a cluster dies with a worker, an engine and a replica on it: no episode is lost, doubled or changed."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import ray
import torch
from ray.cluster_utils import Cluster
from ray.exceptions import RayActorError

from envs.engine_server import EngineHealth
from envs.episode import EpisodeSpec
from envs.ray_episodes import RayEpisodes
from tests.envs.test_ray_crew import PATIENCE_S, SETTINGS, crew, in_this_process, specs, told_of

pytestmark = pytest.mark.slow
SPREAD = replace(SETTINGS, strategy="SPREAD")


@pytest.fixture
def three_nodes() -> Iterator[Cluster]:
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 6}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": quick}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=2)
        ray.init(address=cluster.address, log_to_driver=False, namespace="waymark-tests")
        cluster.wait_for_nodes()
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


async def node_of(actor) -> str:
    return await actor.__ray_call__.remote(lambda self: ray.get_runtime_context().get_node_id())


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_node_that_dies_costs_no_episode(three_nodes: Cluster, seed: int) -> None:
    rng = random.Random(seed)
    wanted, again = specs(160), []
    async with crew(f"node-{seed}", settings=SPREAD) as hands:
        kinds = (hands.engines, hands.retrievers, hands.workers)
        where = [await asyncio.gather(*map(node_of, actors)) for actors in kinds]
        lost = where[0][rng.randrange(2)]
        assert all(lost in nodes and len(set(nodes)) == 2 for nodes in where), "one of each is on every node"
        head = ray.get_runtime_context().get_node_id()
        assert await node_of(hands._board) == head not in where[0]
        await hands.update_weights([("w", torch.ones(3))], 4)

        episodes = RayEpisodes(hands.workers, max_concurrent=32, on_again=lambda spec, why: again.append(spec.id))
        futures = episodes.submit(wanted)
        await asyncio.wait(futures[: rng.randrange(8, 64)], return_when=asyncio.FIRST_COMPLETED)
        [node] = [node for node in three_nodes.worker_nodes if node.node_id == lost]
        await asyncio.to_thread(three_nodes.remove_node, node, allow_graceful=False)
        played = await asyncio.wait_for(asyncio.gather(*futures), PATIENCE_S)
        assert [told_of(trajectory) for trajectory in played] == await in_this_process(wanted)
        assert {v for t in played for turn in t.turns for v in turn.action_versions} == {4}
        assert again, "the node had no episode: it tests nothing"

        async with asyncio.timeout(PATIENCE_S):  # and what was on it lives on the node that is left
            while {*await asyncio.gather(*(_node_or_none(a) for actors in kinds for a in actors))} & {lost, None}:
                await asyncio.sleep(0.2)
        await hands.update_weights([("w", torch.ones(3))], 5)
        states = (await hands.health()).engines
        assert [state.version for state in states if isinstance(state, EngineHealth)] == [5, 5]
        await episodes.close()


async def _node_or_none(actor) -> str | None:
    try:
        return await node_of(actor)
    except RayActorError:
        return None


@ray.remote(num_cpus=1, max_restarts=-1)
class Wordy:
    """A worker whose trajectories are too large to travel with the answer: its node holds them until they are read."""

    async def play(self, spec: EpisodeSpec) -> bytes:
        return bytes(200_000) + spec.id.encode()

    async def health(self) -> None:
        return None


async def test_an_episode_whose_trajectory_is_lost_with_its_node_before_it_is_read_is_played_again(
    three_nodes: Cluster,
):
    worker = Wordy.remote()
    lost = await node_of(worker)
    [node] = [node for node in three_nodes.worker_nodes if node.node_id == lost]
    played: list[str] = []

    def play(spec: EpisodeSpec) -> ray.ObjectRef:
        reference = worker.play.remote(spec)
        played.append(spec.id)
        if len(played) == 1:
            ray.wait([reference], fetch_local=False)
            three_nodes.remove_node(node, allow_graceful=False)
        return reference

    again: list[str] = []
    handle = SimpleNamespace(play=SimpleNamespace(remote=play), health=worker.health)
    episodes = RayEpisodes([handle], on_again=lambda spec, why: again.append(spec.id))
    [wanted] = specs(1)
    [future] = episodes.submit([wanted])
    assert await asyncio.wait_for(future, PATIENCE_S) == bytes(200_000) + wanted.id.encode()
    assert again and set(again) == {wanted.id}
    await episodes.close()
