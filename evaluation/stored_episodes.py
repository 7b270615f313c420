"""Episodes that are written down as they end, and not played again when an evaluation goes on after a kill.

A door in front of whatever plays episodes: one whose trajectory is stored is answered from the store, every other is
played and appended the moment it ends, so that a kill loses what was in flight and nothing else. What an outage ended
is not stored: it is asked again. A store of the evaluation itself is what `waymark view` and comparisons read.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.trajectory import Trajectory
from envs.episode import EpisodeSpec
from envs.units import Episodes, is_lost
from evaluation.trajectory_store import DATA_FILE, TrajectoryWriter, read_trajectories

Describe = Callable[[Trajectory], Mapping[str, Any]]
"""What is stored beside a trajectory: its figures."""


class StoredEpisodes:
    """Plays episodes through `inner`, and keeps them in `folder`. Use from one event loop, and `close` it.

    Args:
        inner: plays what is not stored.
        folder: of the store; what it holds already is not played again.
        describe: figures that are stored beside a trajectory.

    Attributes:
        num_stored: trajectories that were found in the folder.
        num_corrupt: records in it that could not be read, and are played again.
        beside: what was stored beside the trajectories found, by id.
    """

    def __init__(self, inner: Episodes, folder: Path, *, describe: Describe = lambda trajectory: {}) -> None:
        self._inner = inner
        self._describe = describe
        self._places: dict[str, int] = {}  # where in the store: trajectories are read again as they are asked for
        self.beside: dict[str, Mapping[str, Any]] = {}
        self.num_corrupt = 0
        if (folder / DATA_FILE).is_file():
            self._store = read_trajectories(folder)
            for place, entry in enumerate(self._store.entries):
                try:
                    self.beside[entry.id] = self._store.read(place).extra
                except ValueError:
                    self.num_corrupt += 1
                else:
                    self._places[entry.id] = place
            self.num_corrupt += self._store.num_corrupt
        self.num_stored = len(self._places)
        self._kept = set(self._places)
        self._writer = TrajectoryWriter(folder)

    def submit(self, specs: Sequence[EpisodeSpec]) -> list[asyncio.Future[Trajectory]]:
        """Start what is not stored; one future each, in order."""
        waiting = [spec for spec in specs if spec.id not in self._places]
        started = dict(zip((spec.id for spec in waiting), self._inner.submit(waiting) if waiting else (), strict=True))
        futures: list[asyncio.Future[Trajectory]] = []
        for spec in specs:
            future: asyncio.Future[Trajectory]
            if spec.id in started:
                future = asyncio.ensure_future(self._played(started[spec.id]))
            else:
                future = asyncio.get_running_loop().create_future()
                future.set_result(self._store.read(self._places[spec.id]).trajectory)
            futures.append(future)
        return futures

    def count(self, specs: Sequence[EpisodeSpec]) -> int:
        """How many of these are stored."""
        return sum(spec.id in self._places for spec in specs)

    def keep(self, trajectories: Sequence[Trajectory]) -> None:
        """Store what will not be asked again; what is stored under its id already stays as it is."""
        new = [trajectory for trajectory in trajectories if trajectory.id not in self._kept]
        self._writer.append(0, new, [self._describe(trajectory) for trajectory in new])
        self._kept.update(trajectory.id for trajectory in new)

    def close(self) -> None:
        """Close the store."""
        self._writer.close()

    def __enter__(self) -> "StoredEpisodes":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _played(self, future: asyncio.Future[Trajectory]) -> Trajectory:
        trajectory = await future
        if not is_lost(trajectory):
            self.keep([trajectory])
        return trajectory
