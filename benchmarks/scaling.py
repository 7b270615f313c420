"""How rollouts scale with Ray workers on one machine, and what saturates first.

Engines and searches sleep for as long as real ones take (`benchmarks.simulation`), so that 64 workers fit on a machine
and what is measured is everything around them: driver, Ray, event loops, environments. Every worker is given the same
number of episodes at once. Each of these places plays the same few episodes whatever the number of workers, and the
rate is the number of places by the mean time of such an episode: no luck of the draw between two rows. Places begin one
after the other and go on with further episodes until the last has played its own, so that the load is the same from
first to last. All workers are started at once at the beginning; a row with fewer leaves the others idle.

    python -m benchmarks.scaling                         # 7 minutes on two cores
    python -m benchmarks.scaling --per-worker 32 --workers 1 2 4 8 16
    python -m benchmarks.scaling --smoke                 # seconds: that it runs, not what it measures

`of linear` is the rate over that of the first row times the ratio of workers. `late` is the time of a turn beyond what
engine and search sleep. Processor time is told by process: what uses all of its cores first is what saturates.
"""

import argparse
import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ray

from agent.trajectory import Trajectory
from benchmarks.simulation.processor_time import actor_pids, processor_time
from benchmarks.simulation.sleeping_crew import MakeEngine, MakeWorker, Pace, save_tokenizer, sleeping_spec
from envs.crew_settings import CrewSettings
from envs.episode import EpisodeSpec
from envs.episode_worker import LoopLag
from envs.ray_crew import RayCrew
from envs.ray_episodes import RayEpisodes

TARGET = 0.9
TARGET_WORKERS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One number of workers. `cores` are processor seconds a second by role; `late_ms` is by turn."""

    workers: int
    concurrent: int
    trajectories_per_s: float
    turns_per_s: float
    of_linear: float
    late_ms: float
    driver_lag_ms: float
    cores: Mapping[str, float]


@dataclass(slots=True, kw_only=True)
class Place:
    """Room for one episode at a time: its own episodes once they are played, and how long they took together."""

    own: list[Trajectory] = field(default_factory=list)
    seconds: float = 0.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--per-worker", type=int, default=8, help="episodes at once on each worker")
    parser.add_argument("--engines", type=int, default=4)
    parser.add_argument("--episodes", type=int, default=2, help="that each place plays of its own")
    parser.add_argument("--tokens", type=int, default=80, help="of a turn, in the median")
    parser.add_argument("--step-ms", type=float, default=25.0, help="of one decoding step")
    parser.add_argument("--search-ms", type=float, default=50.0, help="of one search")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--check", action="store_true", help=f"exit 1 below {TARGET} of linear to {TARGET_WORKERS}")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    if options.smoke:
        options.workers, options.per_worker, options.engines, options.step_ms = [1, 2], 4, 1, 2.0
    if min(options.workers) < 1 or min(options.per_worker, options.engines, options.episodes) < 1:
        parser.error("--workers, --per-worker, --engines and --episodes are at least 1")
    with tempfile.TemporaryDirectory() as scratch:
        folder = save_tokenizer(Path(scratch) / "tokenizer")
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        try:
            figures = asyncio.run(measure(folder, options))
        finally:
            ray.shutdown()
    if options.json:
        record = {**vars(options), "json": str(options.json), "cpus": os.cpu_count(), **figures}
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    missed = [row for row in figures["rows"] if row["workers"] <= TARGET_WORKERS and row["of_linear"] < TARGET]
    if options.check and missed:
        sys.exit(f"the target is missed with {missed[0]['workers']} workers")


async def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Start the crew, then measure and print row after row."""
    pace = Pace(step_s=options.step_ms / 1000, search_s=options.search_ms / 1000, tokens=options.tokens)
    most = max(options.workers)
    settings = CrewSettings(engines=options.engines, workers=most, engine_cpus=0.01, worker_cpus=0.01)
    started = time.perf_counter()
    async with RayCrew(
        open_engine=MakeEngine(folder=folder, pace=pace),
        make_worker=MakeWorker(folder=folder, pace=pace, max_concurrent=2 * options.per_worker),
        settings=settings,
        name="scaling",
    ) as crew:
        start_s = time.perf_counter() - started
        pids = await actor_pids(crew)
        memory = processor_time(pids).rss_mb
        print(
            f"{most} workers and {options.engines} engines are up after {start_s:.0f} s; "
            f"resident MB: {', '.join(f'{role} {mb:.0f}' for role, mb in sorted(memory.items()))}"
        )
        rows: list[Row] = []
        for workers in sorted(options.workers):
            rows.append(await one_row(crew, workers, pids, pace, options, rows[0] if rows else None))
            print_row(rows[-1])
    return {"start_s": start_s, "rss_mb": memory, "rows": [asdict(row) for row in rows]}


async def one_row(
    crew: RayCrew,
    workers: int,
    pids: Mapping[str, Sequence[int]],
    pace: Pace,
    options: argparse.Namespace,
    first: Row | None,
) -> Row:
    """Every place of so many workers plays its episodes."""
    concurrent = workers * options.per_worker
    episodes = RayEpisodes(crew.workers[:workers], max_concurrent=concurrent)
    lag = LoopLag()
    lag.start()
    used: dict[str, float] = {}
    seconds = [0.0, 0.0]  # when it began; how long it took

    def all_done() -> None:
        seconds[1] = time.perf_counter() - seconds[0]
        used.update(processor_time(pids).since(before))

    before, seconds[0] = processor_time(pids), time.perf_counter()
    places = await play_places(
        episodes,
        [specs_of_place(place, options.per_worker, prefix=f"workers{workers}") for place in range(concurrent)],
        own=options.episodes,
        spread_s=pace.turn_s,
        on_done=all_done,
    )
    lag.stop()
    own = [trajectory for place in places for trajectory in place.own]
    turns = sum(trajectory.num_turns for trajectory in own)
    rate = rate_of(places)
    late_s = sum(place.seconds for place in places) - sum(asleep(trajectory, pace) for trajectory in own)
    return Row(
        workers=workers,
        concurrent=concurrent,
        trajectories_per_s=rate,
        turns_per_s=rate * turns / len(own),
        of_linear=1.0 if first is None else of_linear(rate, workers, first),
        late_ms=1000 * late_s / turns,
        driver_lag_ms=1000 * lag.take(),
        cores={role: spent / seconds[1] for role, spent in used.items()},
    )


def specs_of_place(place: int, per_worker: int, *, prefix: str) -> Iterator[EpisodeSpec]:
    """A place's episodes, without an end: places `per_worker` apart play equal ones under other names."""
    copy, number = divmod(place, per_worker)
    for i in itertools.count():
        yield sleeping_spec(number + i * per_worker, prefix=f"{prefix}-copy{copy:03d}")


async def play_places(
    episodes: Any,
    specs_of: Sequence[Iterator[EpisodeSpec]],
    *,
    own: int,
    spread_s: float,
    on_done: Callable[[], None],
) -> list[Place]:
    """Play at each place, the beginnings spread over `spread_s`, until every place has played its first `own`.

    `on_done` is called at that moment; what still runs is then played to its end.
    """
    places = [Place() for _ in specs_of]
    missing = len(places)
    clock = asyncio.get_running_loop().time

    async def play(place: Place, specs: Iterator[EpisodeSpec], delay_s: float) -> None:
        nonlocal missing
        await asyncio.sleep(delay_s)
        started = clock()
        while missing:
            [future] = episodes.submit([next(specs)])
            trajectory = await future
            if len(place.own) == own:
                continue
            place.own.append(trajectory)
            if len(place.own) == own:
                place.seconds = clock() - started
                missing -= 1
                if not missing:
                    on_done()

    async with asyncio.TaskGroup() as group:
        for i, (place, specs) in enumerate(zip(places, specs_of, strict=True)):
            group.create_task(play(place, specs, spread_s * i / len(places)))
    return places


def asleep(trajectory: Trajectory, pace: Pace) -> float:
    """Seconds that engine and search slept for an episode."""
    tokens = sum(len(turn.action_ids) for turn in trajectory.turns)
    return tokens * pace.step_s + sum(bool(turn.calls) for turn in trajectory.turns) * pace.search_s


def rate_of(places: Sequence[Place]) -> float:
    """Trajectories a second: what so many places deliver when an episode takes as long as their own did in the mean."""
    return len(places) * sum(len(place.own) for place in places) / sum(place.seconds for place in places)


def of_linear(rate: float, workers: int, first: Row) -> float:
    """The rate over that of the first row times the ratio of workers."""
    return rate / (first.trajectories_per_s * workers / first.workers)


def print_row(row: Row) -> None:
    """One line."""
    cores = ", ".join(f"{role} {used:.2f}" for role, used in sorted(row.cores.items()))
    print(
        f"{row.workers:3d} workers {row.concurrent:5d} at once {row.trajectories_per_s:8.2f} trajectories/s "
        f"{row.of_linear:5.2f} of linear {row.turns_per_s:7.1f} turns/s, {row.late_ms:6.1f} ms late, "
        f"driver's loop {row.driver_lag_ms:.0f} ms; cores {sum(row.cores.values()):.2f}: {cores}",
        flush=True,
    )


if __name__ == "__main__":
    main()
