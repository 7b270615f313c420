"""A Ray to work on: the cluster at an address, or one of this machine that ends with the block."""

import contextlib
import math
import os
from collections.abc import Iterator
from typing import Any

import ray

LOCAL = "local"
"""The address of a Ray of this machine's own."""


@contextlib.contextmanager
def ray_session(address: str | None, *, cpus: float) -> Iterator[None]:
    """Connect to the cluster at `address`, or start a Ray on this machine that ends with the block (None, `local`);
    nothing where one is connected.

    A Ray of this machine gets `cpus` and one more, where the machine has fewer: they are shares.

    Raises:
        ConnectionError: there is no cluster at the address.
    """
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "waymark"}
    if address and address != LOCAL:
        ray.init(address=address, **quiet)
    else:
        # Without "local" it would join a cluster that somebody else has started on this machine.
        count = max(os.cpu_count() or 1, math.ceil(cpus) + 1)
        ray.init(address=LOCAL, num_cpus=count, include_dashboard=False, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def crew_name() -> str:
    """Begins the names of this process's actors: drivers in containers may have the same process id, never one job."""
    return f"waymark-{ray.get_runtime_context().get_job_id()}"
