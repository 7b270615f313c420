"""What Ray costs: the same episodes in this process and on a crew of Ray's actors, in turns.

The engine sleeps for the time that its tokens take to decode and the search for its own (`benchmarks.simulation`), so
that both sides wait alike and what is compared is the work between: in one process the episodes share an event loop
with the engine; on Ray they are played by two workers, which ask an engine in a third process, and their trajectories
come back to this one. Environment, protocol, tokenizer and crew are those of a run.

    python -m benchmarks.ray_overhead                    # 4 minutes on two cores
    python -m benchmarks.ray_overhead --step-ms 5        # one pace alone
    python -m benchmarks.ray_overhead --smoke            # seconds: that it runs, not what it measures

The paces: 5 ms a step is a turn of .3 s, faster than any engine of this project's sizes serves 64 episodes at once
(docs/scaling.md); 2 and 1 ms show where the overhead comes from. `overhead` is the ratio of times less 1, by repeat.
"""

import argparse
import asyncio
import json
import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray

from agent.engine import SamplingParams
from agent.trajectory import Trajectory
from benchmarks.simulation.processor_time import actor_pids, processor_time
from benchmarks.simulation.sleeping_crew import (
    LIMITS,
    PROTOCOL,
    MakeEngine,
    MakeWorker,
    Pace,
    SleepingEngine,
    SleepingSearch,
    load_tokenizer,
    save_tokenizer,
    sleeping_spec,
    told,
)
from envs.actor import EngineActor
from envs.crew_settings import CrewSettings
from envs.episode import EpisodeSpec
from envs.episode_pool import run_episodes
from envs.ray_crew import RayCrew
from envs.ray_episodes import RayEpisodes

TARGET = 0.1


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=384)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--step-ms", type=float, nargs="+", default=[5.0, 2.0, 1.0], help="of one decoding step")
    parser.add_argument("--search-ms", type=float, default=35.0, help="of one search")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--check", action="store_true", help="exit 1 where the target is missed at the first pace")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    if options.smoke:
        options.episodes, options.concurrency, options.repeats, options.step_ms = 32, 16, 1, [1.0]
    paces = [Pace(step_s=step / 1000, search_s=options.search_ms / 1000) for step in options.step_ms]
    with tempfile.TemporaryDirectory() as scratch:
        folder = save_tokenizer(Path(scratch) / "tokenizer")
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        try:
            figures = [asyncio.run(measure(folder, pace, options)) for pace in paces]
        finally:
            ray.shutdown()
    for pace_figures in figures:
        print_figures(pace_figures)
    if options.json:
        record = {**vars(options), "json": str(options.json), "figures": figures}
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if options.check and figures[0]["overhead"] > TARGET:
        sys.exit("the target is missed")


async def measure(folder: Path, pace: Pace, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one pace. The first round warms both sides up and does not count."""
    settings = CrewSettings(workers=options.workers, engine_cpus=0.5, worker_cpus=1 / options.workers)
    make_worker = MakeWorker(folder=folder, pace=pace, max_concurrent=options.concurrency)
    sides: dict[str, list[tuple[float, dict[str, float]]]] = {"one process": [], "Ray": []}
    played: dict[str, list[Trajectory]] = {}
    async with RayCrew(
        open_engine=MakeEngine(folder=folder, pace=pace), make_worker=make_worker, settings=settings, name="overhead"
    ) as crew:
        pids = await actor_pids(crew)
        arms: dict[str, Callable[[Sequence[EpisodeSpec]], Any]] = {
            "one process": lambda specs: in_one_process(specs, folder, pace, options.concurrency),
            "Ray": lambda specs: on_ray(specs, crew, options.concurrency),
        }
        for repeat in range(options.repeats + 1):
            for name in list(arms) if repeat % 2 else list(arms)[::-1]:
                specs = specs_of_round(options.episodes, f"round{repeat}")
                before, started = processor_time(pids), time.perf_counter()
                played[name] = await arms[name](specs)
                seconds, after = time.perf_counter() - started, processor_time(pids)
                sides[name].append((seconds, after.since(before)))
            assert [told(t) for t in played["one process"]] == [told(t) for t in played["Ray"]], "not the same episodes"
    counted = {name: rounds[1:] for name, rounds in sides.items()}
    pairs = zip(counted["Ray"], counted["one process"], strict=True)
    overheads = sorted(on_ray / alone - 1 for (on_ray, _), (alone, _) in pairs)
    trajectories = played["Ray"]
    turns = sum(t.num_turns for t in trajectories)
    tokens = sorted(len(turn.action_ids) for t in trajectories for turn in t.turns)
    return {
        "step_ms": pace.step_s * 1000,
        "median_turn_ms": pace.step_s * 1000 * tokens[len(tokens) // 2],
        "turns_an_episode": turns / len(trajectories),
        "tokens_an_episode": sum(len(t.token_ids) for t in trajectories) / len(trajectories),
        "overhead": statistics.median(overheads),
        "overheads": overheads,
        "episodes_per_s": {n: options.episodes / statistics.median(s for s, _ in r) for n, r in counted.items()},
        "turns_per_s": {n: turns / statistics.median(s for s, _ in r) for n, r in counted.items()},
        "cpu_ms_an_episode": {
            name: {
                role: 1000 * statistics.median(used.get(role, 0.0) for _, used in rounds) / options.episodes
                for role in rounds[0][1]
            }
            for name, rounds in counted.items()
        },
        "pickling": pickling(trajectories, specs),
    }


def specs_of_round(count: int, name: str) -> list[EpisodeSpec]:
    """The same episodes in every round, under names of its own."""
    return [sleeping_spec(number, prefix=name) for number in range(count)]


async def in_one_process(specs: Sequence[EpisodeSpec], folder: Path, pace: Pace, concurrency: int) -> list[Trajectory]:
    """Episodes and engine on this event loop."""
    return await run_episodes(
        specs,
        actor=EngineActor(SleepingEngine(folder, pace)),
        search=SleepingSearch(pace.search_s),
        protocol=PROTOCOL,
        tokenizer=load_tokenizer(folder),
        limits=LIMITS,
        max_concurrent=concurrency,
    )


async def on_ray(specs: Sequence[EpisodeSpec], crew: RayCrew, concurrency: int) -> list[Trajectory]:
    """Episodes on the crew's workers."""
    episodes = RayEpisodes(crew.workers, max_concurrent=concurrency)
    try:
        return await asyncio.gather(*episodes.submit(specs))
    finally:
        await episodes.close()


def pickling(trajectories: Sequence[Trajectory], specs: Sequence[EpisodeSpec]) -> dict[str, dict[str, float]]:
    """What an episode's messages weigh, and the time of packing and unpacking them: of the episode of median length."""
    by_size = sorted(trajectories, key=lambda t: len(t.token_ids))
    middle = by_size[len(by_size) // 2]
    params = SamplingParams(max_new_tokens=LIMITS.max_new_tokens_per_turn, stop=PROTOCOL.stop, seed=1)
    request = (tuple(middle.token_ids.tolist()), params, middle.id)
    found = {}
    for name, message in (("spec", specs[0]), ("request of a turn", request), ("trajectory", middle)):
        packed = pickle.dumps(message, protocol=5)
        found[name] = {
            "bytes": len(packed),
            "pack_us": _microseconds(partial(pickle.dumps, message, protocol=5)),
            "unpack_us": _microseconds(partial(pickle.loads, packed)),
        }
    return found


def _microseconds(call: Callable[[], object], times: int = 50) -> float:
    call()
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times * 1e6


def print_figures(figures: dict[str, Any]) -> None:
    """One pace."""
    low, high = figures["overheads"][0], figures["overheads"][-1]
    print(
        f"\n{figures['step_ms']:g} ms a step, a turn of {figures['median_turn_ms']:.0f} ms in the median, "
        f"{figures['turns_an_episode']:.1f} turns and {figures['tokens_an_episode']:.0f} tokens an episode\n"
        f"overhead {figures['overhead']:+.1%} (repeats {low:+.1%} to {high:+.1%}; target: below {TARGET:.0%})"
    )
    for name, used in figures["cpu_ms_an_episode"].items():
        parts = ", ".join(f"{role} {value:.2f}" for role, value in used.items() if value >= 0.005)
        print(
            f"{name:12}{figures['episodes_per_s'][name]:7.1f} episodes/s {figures['turns_per_s'][name]:7.1f} turns/s; "
            f"CPU {sum(used.values()):.1f} ms an episode: {parts}"
        )
    for name, cost in figures["pickling"].items():
        print(f"{name}: {cost['bytes']} bytes, {cost['pack_us']:.0f} + {cost['unpack_us']:.0f} us to pack and unpack")


if __name__ == "__main__":
    main()
