"""How large a crew is, and when one of its actors counts as dead."""

import time
from dataclasses import dataclass
from typing import Literal

from ray.exceptions import RayActorError

from envs.engine_server import EngineHealth
from envs.episode_worker import WorkerHealth
from envs.retrieval_replicas import ReplicaHealth

_LEAST = {"CPU": 0.001}


@dataclass(frozen=True, slots=True, kw_only=True)
class CrewSettings:
    """How many actors there are, what each takes, and when one counts as dead.

    Without retrievers the workers search as `make_worker` says. `..._silence_s` is how long an actor may finish
    nothing of what it was asked before it counts as hanging. `strategy` is Ray's: PACK puts the actors on as few nodes
    as they fit on, SPREAD on as many as there are.
    """

    engines: int = 1
    workers: int = 2
    retrievers: int = 0
    engine_cpus: float = 1.0
    engine_gpus: float = 0.0
    worker_cpus: float = 0.5
    retriever_cpus: float = 1.0
    retriever_gpus: float = 0.0
    strategy: Literal["PACK", "SPREAD"] = "PACK"
    heartbeat_s: float = 2.0
    heartbeat_timeout_s: float = 30.0
    engine_silence_s: float = 300.0
    retriever_silence_s: float = 120.0
    start_timeout_s: float = 300.0
    close_timeout_s: float = 10.0

    def bundles(self) -> list[dict[str, float]]:
        """What a placement group reserves: for the engines, then the retrievers, then the workers. Every bundle has to
        hold something, also for an actor that takes no CPU.
        """
        bundles = [{"CPU": self.engine_cpus, "GPU": self.engine_gpus}] * self.engines
        bundles += [{"CPU": self.retriever_cpus, "GPU": self.retriever_gpus}] * self.retrievers
        bundles += [{"CPU": self.worker_cpus}] * self.workers
        return [{name: amount for name, amount in bundle.items() if amount} or _LEAST for bundle in bundles]

    def told(self) -> str:
        """The crew in words."""
        words = f"{self.engines} engines of {self.engine_cpus:g} CPUs and {self.engine_gpus:g} GPUs"
        if self.retrievers:
            words += f", {self.retrievers} retrievers of {self.retriever_cpus:g} CPUs and {self.retriever_gpus:g} GPUs"
        return f"{words}, and {self.workers} workers of {self.worker_cpus:g} CPUs"


@dataclass(frozen=True, slots=True, kw_only=True)
class CrewHealth:
    """What every actor is at: None where it did not answer in time, the error where its process is gone."""

    engines: tuple[EngineHealth | RayActorError | None, ...]
    retrievers: tuple[ReplicaHealth | RayActorError | None, ...]
    workers: tuple[WorkerHealth | RayActorError | None, ...]


class Growing:
    """How long actors have been away, told first after `first_s` and then each time it has doubled: whoever starts
    slowly is let start, and a person reads few lines.
    """

    def __init__(self, first_s: float) -> None:
        self._first_s = first_s
        self._since: dict[str, tuple[float, float]] = {}

    def told(self, name: str) -> float | None:
        """Seconds that one has been away, if it is time to tell so, else None."""
        since, due_s = self._since.setdefault(name, (time.monotonic(), self._first_s))
        away_s = time.monotonic() - since
        if away_s < due_s:
            return None
        self._since[name] = (since, 2 * away_s)
        return away_s

    def over(self, name: str) -> None:
        """It is back."""
        self._since.pop(name, None)
