"""Processor time by who used it: this process, Ray's own processes, and the actors of a crew."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from envs.ray_crew import RayCrew


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorTime:
    """Seconds of processor time since the processes began, by role; `rss_mb` is the resident memory now."""

    seconds: Mapping[str, float]
    rss_mb: Mapping[str, float]

    def since(self, earlier: "ProcessorTime") -> dict[str, float]:
        """Seconds by role between two readings."""
        return {role: used - earlier.seconds.get(role, 0.0) for role, used in self.seconds.items()}


def processor_time(pids: Mapping[str, Sequence[int]]) -> ProcessorTime:
    """Read this process (`driver`), the processes of named actors, and below it raylet, GCS and all others of Ray's.

    Args:
        pids: processes by role, such as `{"workers": [...], "engines": [...]}`.
    """
    roles = {pid: role for role, members in pids.items() for pid in members} | {os.getpid(): "driver"}
    seconds: dict[str, float] = {}
    memory: dict[str, float] = {}
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        try:
            name, used, rss = process.name(), process.cpu_times(), process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
        role = roles.get(process.pid) or {"raylet": "raylet", "gcs_server": "gcs"}.get(name, "rest of Ray")
        seconds[role] = seconds.get(role, 0.0) + used.user + used.system
        memory[role] = memory.get(role, 0.0) + rss / 1e6
    return ProcessorTime(seconds=seconds, rss_mb=memory)


async def actor_pids(crew: RayCrew) -> dict[str, list[int]]:
    """The processes of a crew's workers and engines."""
    members = {"workers": crew.workers, "engines": crew.engines}
    return {
        role: await asyncio.gather(*(actor.__ray_call__.remote(lambda self: os.getpid()) for actor in actors))
        for role, actors in members.items()
    }
