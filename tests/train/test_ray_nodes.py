"""A run on a cluster of three nodes that loses the one with its engines and workers, twice, is the run it would have
been: every step done, nothing lost, doubled or in the wrong group.
"""

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.train.ray_runs import ray_settings, whole
from train.config import check_config
from train.ledger import read_ledger
from train.progress import Progress
from train.ray_runtime import crew_name
from train.run import train
from train.testbed import Testbed

SEED, STEPS = 7, 30
ACTORS = ("engine-0", "engine-1", "worker-0", "worker-1")


@pytest.fixture
def three_nodes() -> Iterator[Cluster]:
    """A head for the driver, and two nodes that each have room for the whole crew; this process is connected."""
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 10}
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": quick}
    )
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=2)
        ray.init(address=cluster.address, log_to_driver=False, namespace="waymark")
        cluster.wait_for_nodes()
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


class LosesNodes(Progress):
    """Removes the node that the crew is on, abruptly and during a step, after each of some steps."""

    def __init__(self, cluster: Cluster, steps: list[int], rng: random.Random) -> None:
        self._cluster = cluster
        self._steps = steps
        self._rng = rng
        self._timer: threading.Timer | None = None
        self.lost: list[set[str]] = []
        """The actors that were on each node when it was removed."""

    def step(self, step: int, steps: int, values: dict[str, Any]) -> None:
        if step not in self._steps:
            return
        self.wait()
        if self.lost:
            self._cluster.add_node(num_cpus=2)
        delay_s = self._rng.uniform(0.0, 0.5)
        print(f"seed {SEED}: after step {step} and {delay_s:.2f} s a node is removed")
        self._timer = threading.Timer(delay_s, self._remove, [nodes_of(ACTORS)])
        self._timer.start()

    def wait(self) -> None:
        if self._timer is not None:
            self._timer.join()

    def _remove(self, where: dict[str, str]) -> None:
        lost = where["engine-0"]
        [node] = [node for node in self._cluster.worker_nodes if node.node_id == lost]
        self.lost.append({actor for actor, on in where.items() if on == lost})
        self._cluster.remove_node(node, allow_graceful=False)


def nodes_of(actors: tuple[str, ...]) -> dict[str, str]:
    handles = [ray.get_actor(f"{crew_name()}-{actor}", namespace="waymark") for actor in actors]
    told = ray.get([h.__ray_call__.remote(lambda self: ray.get_runtime_context().get_node_id()) for h in handles])
    return dict(zip(actors, told, strict=True))


@pytest.mark.slow
def test_a_run_survives_the_loss_of_nodes(
    three_nodes: Cluster, testbed: Testbed, searching: Path, tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    settings = ray_settings(
        testbed, searching, steps=STEPS, checkpoint_every=10, runtime={"engines": 2, "workers": 2, "heartbeat_s": 0.5}
    )
    progress = LosesNodes(three_nodes, [rng.randrange(3, 14), rng.randrange(15, 27)], rng)
    result = train(check_config(settings), tmp_path / "run", progress=progress)
    progress.wait()
    assert result.steps == STEPS
    assert whole(tmp_path / "run", settings) == []
    assert len(progress.lost) == 2
    assert all({"engine-0", "worker-0"} <= lost for lost in progress.lost), progress.lost
    again = [event for event in read_ledger(tmp_path / "run" / "ledger.jsonl") if event["event"] == "again"]
    assert again, "no node had an episode when it was lost: it tests nothing"
