"""The Ray cluster that a run is started on: found, or refused in words, before anything is spent."""

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from train.config import TrainConfig
from train.config_file import ConfigError
from train.plan_placement import lacking_room
from train.runtime_config import RaySettings

_KNOCK_S = 10.0
_HOW = (
    "On a machine of the cluster --ray-address auto finds it; one that is not yet part of it joins with "
    "`ray start --address=HEAD:6379`, and from elsewhere `ray job submit` starts the run there (docs/cluster.md)"
)


def cluster_overrides(address: str | None) -> list[str]:
    """What `--ray-address` changes in a config: Ray at that address; the config's other runtime settings stay.

    Raises:
        ConfigError: an address of Ray's client.
    """
    if address is None:
        return []
    if address.startswith("ray://"):
        raise ConfigError(
            f"--ray-address {address} is of Ray's client protocol, over which a process shares no memory with the "
            f"cluster, as a learner must. {_HOW}"
        )
    return ["runtime.kind=ray", f"runtime.address={json.dumps(address)}"]


@contextmanager
def connected(config: TrainConfig, *, autoscaling: bool = False) -> Iterator[list[dict[str, float]] | None]:
    """Within the block this process is connected to the config's cluster, if it names one.

    Yields:
        The resources of each of its nodes; None for a local run, and for one that starts a Ray of its own.

    Raises:
        ConfigError: no cluster there, or one without room (unless it grows by itself: `autoscaling`).
    """
    runtime = config.runtime
    address = (runtime.address or os.environ.get("RAY_ADDRESS")) if isinstance(runtime, RaySettings) else None
    if address is None:
        yield None
        return
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"runtime: ray needs `pip install 'waymark[ray]'` ({error})") from error

    ours = not ray.is_initialized()
    try:
        if ours:
            _knock(address)
            ray.init(address=address, namespace="waymark", log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        first = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"there is no Ray cluster to join at {address!r} from this machine: {first} {_HOW}"
        ) from error
    try:
        nodes = _nodes()
        problem = lacking_room(config, nodes)
        if problem and not autoscaling:
            raise ConfigError(
                f"{problem}. Lower runtime.engines, runtime.workers, runtime.learners or their ..._cpus and ..._gpus, "
                "or start more nodes; for a cluster that grows when it is asked, say --autoscaling"
            )
        yield nodes
    finally:
        if ours:
            ray.shutdown()


def _knock(address: str) -> None:
    """Raises OSError where nobody listens at HOST:PORT: Ray itself asks for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S):
            pass


def _nodes() -> list[dict[str, float]]:
    import ray

    kinds = ("CPU", "GPU")
    return [{k: node["Resources"].get(k, 0.0) for k in kinds} for node in ray.nodes() if node["Alive"]]
