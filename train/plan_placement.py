"""Which process of a run uses which device, as the config asks for it, and whether a cluster has room.

GPUs are numbered over the whole run, in the order in which processes are listed; on a cluster Ray chooses the real
ones, and gives a process those that nobody else of the run has (but for a colocated layout, where engine and learner
share).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from train.config import TrainConfig
from train.runtime_config import RaySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessGroup:
    """Equal processes of a run.

    Attributes:
        role: engine, learner, worker or retriever; `run` is the process that is started, `all` if it is the only one.
        count: how many.
        cpus, gpus: what each reserves.
        devices: the numbers of the GPUs of each, empty on a CPU.
    """

    role: str
    count: int
    cpus: float
    gpus: float
    devices: tuple[tuple[int, ...], ...]


class _Devices:
    """Deals GPUs: whole ones in order, shares of one until it is full."""

    def __init__(self) -> None:
        self._next = 0
        self._free = 0.0

    def deal(self, count: int, gpus: float) -> tuple[tuple[int, ...], ...]:
        """The devices of `count` processes that take `gpus` each."""
        return tuple(self._one(gpus) for _ in range(count)) if gpus else ()

    def _one(self, gpus: float) -> tuple[int, ...]:
        if gpus < 1:
            if self._free + 1e-9 < gpus:
                self._next, self._free = self._next + 1, 1.0
            self._free -= gpus
            return (self._next - 1,)
        first, self._next, self._free = self._next, self._next + int(gpus), 0.0
        return tuple(range(first, self._next))


def processes(config: TrainConfig) -> list[ProcessGroup]:
    """Every process of a run on Ray; of a local run the one."""
    runtime = config.runtime
    if not isinstance(runtime, RaySettings):
        return [ProcessGroup(role="all", count=1, cpus=0, gpus=0, devices=())]
    devices = _Devices()
    engines = devices.deal(runtime.engines, runtime.engine_gpus)
    shared = _Devices() if runtime.layout == "colocated" else devices
    learners = shared.deal(runtime.learners, runtime.learner_gpus)
    found = [ProcessGroup(role="run", count=1, cpus=0, gpus=0, devices=())]
    found.append(
        ProcessGroup(
            role="engine",
            count=runtime.engines,
            cpus=runtime.engine_cpus,
            gpus=runtime.engine_gpus,
            devices=engines,
        )
    )
    if runtime.learners > 1:
        found.append(
            ProcessGroup(
                role="learner",
                count=runtime.learners,
                cpus=runtime.learner_cpus,
                gpus=runtime.learner_gpus,
                devices=learners,
            )
        )
    if runtime.retrievers:
        found.append(
            ProcessGroup(
                role="retriever",
                count=runtime.retrievers,
                cpus=runtime.retriever_cpus,
                gpus=runtime.retriever_gpus,
                devices=devices.deal(runtime.retrievers, runtime.retriever_gpus),
            )
        )
    found.append(ProcessGroup(role="worker", count=runtime.workers, cpus=runtime.worker_cpus, gpus=0, devices=()))
    return found


def bundles(config: TrainConfig) -> list[dict[str, float]]:
    """What the run reserves on Ray, a process each, the largest first."""
    asked = [
        {name: amount for name, amount in (("GPU", group.gpus), ("CPU", group.cpus)) if amount}
        for group in processes(config)
        for _ in range(group.count)
    ]
    return sorted(filter(None, asked), key=lambda b: (-b.get("GPU", 0.0), -b.get("CPU", 0.0)))


def told_room(config: TrainConfig) -> str:
    """What the run asks of a cluster, in words."""
    parts = [
        f"{group.count} {group.role}{'s' if group.count > 1 else ''} of {told_share(group)}"
        for group in processes(config)
        if group.cpus or group.gpus
    ]
    return ", ".join(parts)


def told_share(group: ProcessGroup) -> str:
    """CPUs and GPUs of one process, in words."""
    words = [f"{amount:g} {unit}" for unit, amount in (("CPU", group.cpus), ("GPU", group.gpus)) if amount]
    return " and ".join(words) or "nothing reserved"


def lacking_room(config: TrainConfig, nodes: Sequence[Mapping[str, float]]) -> str | None:
    """Why nodes with these resources cannot hold the run, in words; None where they can.

    The largest processes are placed first, each on the first node that still has room.
    """
    free = [dict(node) for node in nodes]
    for bundle in bundles(config):
        place = next((node for node in free if all(node.get(k, 0.0) + 1e-9 >= v for k, v in bundle.items())), None)
        if place is None:
            break
        for kind, amount in bundle.items():
            place[kind] -= amount
    else:
        return None
    asked = {kind: sum(bundle.get(kind, 0.0) for bundle in bundles(config)) for kind in ("CPU", "GPU")}
    there = "; ".join(
        f"{i + 1}: {node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for i, node in enumerate(nodes)
    )
    return (
        f"the run asks for {asked['CPU']:g} CPU and {asked['GPU']:g} GPU ({told_room(config)}), but the cluster has "
        f"{sum(node.get('CPU', 0.0) for node in nodes):g} CPU and {sum(node.get('GPU', 0.0) for node in nodes):g} GPU "
        f"(nodes {there})"
    )
