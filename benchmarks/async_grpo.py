"""What a bound on staleness costs in TRL's asynchronous GRPO, which discards, beside admission, which waits.

    python -m benchmarks.async_grpo                      # 400 steps at several bounds, minutes of work
    python -m benchmarks.async_grpo --smoke

Both are given the same episodes on one simulated clock: an engine whose throughput is shared by the episodes that run
(`ROOM` of them at full pace, more at a slower one), which makes about as many groups as the learner takes, and a
learner whose step takes a constant time. An episode has 1 to 6 turns (each as likely), and a turn takes a time drawn
from a log-normal distribution: the spread of search agents, whose slowest episode takes many times the median's time.
TRL's side runs TRL's own code: `RolloutQueueDataset` decides which sample is too old, groups are tagged with the
version at which their first generation starts, and a free slot of `max_inflight_tasks`, by TRL's own rule, takes the
next generation. Waymark's side runs `train.admission.Admission`.

What is counted: trajectories sampled and not learned from (thrown away for their age), how long the groups that are
learned from are beside all that were sampled (below 1, long searches are thrown away more often), seconds a step, mean
age, and what waits in the queue at the end: where an engine makes more than is taken, any queue grows old. Both sides
are played with as many episodes at once as the side's own rule starts, and with `ROOM` (`max_inflight_tasks` there,
`rollout.max_concurrent_episodes` here). As a control TRL's side plays episodes that are all about equally long.
"""

import argparse
import functools
import heapq
import itertools
import json
import math
import os
import queue
import random
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train.admission import Admission

GROUP = 8
GROUPS_A_STEP = 16
LEARNER_STEP_S = 6.0
TURN_MEDIAN_S = 1.0
TURN_SIGMA = 0.8
MAX_TURNS = 6
MEAN_S = TURN_MEDIAN_S * math.exp(TURN_SIGMA**2 / 2) * (MAX_TURNS + 1) / 2
ROOM = GROUPS_A_STEP * GROUP * MEAN_S / LEARNER_STEP_S
"""Episodes at full pace: with so many the engine makes a step's groups in the time of a learner's step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Counts of one run.

    `length` is the mean length of the groups learned from over that of all that ended; `seconds_a_step` are simulated;
    `left` are the trajectories that wait at the end.
    """

    sampled: int
    discarded: int
    length: float
    seconds_a_step: float
    staleness: float
    left: int

    @property
    def share(self) -> float:
        """Share of the sampled trajectories that was thrown away."""
        return self.discarded / self.sampled


def durations(seed: int, *, equal: bool = False) -> Iterator[list[float]]:
    """Seconds at full pace of each episode of a group."""
    draw = random.Random(seed)
    while True:
        yield [
            MEAN_S * draw.uniform(0.9, 1.1)
            if equal
            else sum(TURN_MEDIAN_S * draw.lognormvariate(0.0, TURN_SIGMA) for _ in range(draw.randint(1, MAX_TURNS)))
            for _ in range(GROUP)
        ]


class _Engine:
    """Episodes that run, each at the same pace, and the policy's version."""

    def __init__(self, seed: int, *, equal: bool = False) -> None:
        self.now = 0.0
        self.version = 0
        self.length: dict[int, float] = {}
        """Seconds at full pace of the longest episode, by group."""
        self._durations = durations(seed, equal=equal)
        self._unstarted: dict[int, list[float]] = {}
        self._left: dict[int, int] = {}
        self._had = 0.0  # seconds at full pace that an episode has had which runs since the beginning
        self._running: list[tuple[float, int]] = []

    def start(self, group: int) -> None:
        """The next episode of a group begins."""
        if group not in self.length:
            drawn = next(self._durations)
            self.length[group], self._unstarted[group], self._left[group] = max(drawn), drawn, GROUP
        heapq.heappush(self._running, (self._had + self._unstarted[group].pop(), group))

    def until(self, moment: float) -> Iterator[int | None]:
        """The group that is complete, or None, for each episode that ends before a moment, with the clock at each."""
        while self._running and (end := self.next_end()) <= moment:
            self.now = end
            self._had, group = heapq.heappop(self._running)
            self._left[group] -= 1
            yield None if self._left[group] else group
        self._had += max(0.0, moment - self.now) * self._pace
        self.now = max(self.now, moment)

    def next_end(self) -> float:
        """When the next episode ends, if none begins before."""
        return self.now + (self._running[0][0] - self._had) / self._pace

    @property
    def running(self) -> int:
        """Episodes that run."""
        return len(self._running)

    @property
    def _pace(self) -> float:
        return min(1.0, ROOM / max(1, len(self._running)))


def discarding(
    max_staleness: int, steps: int, seed: int, *, equal: bool = False, inflight: int | None = None
) -> Outcome:
    """TRL's queue: episodes run all the time, and what comes out too old is dropped.

    `inflight` is TRL's `max_inflight_tasks`; None follows TRL's rule.
    """
    from accelerate import PartialState
    from trl.experimental.async_grpo.async_grpo_trainer import RolloutQueueDataset

    PartialState()  # TRL's logger asks for it
    engine = _Engine(seed, equal=equal)
    inflight = inflight or max(max_staleness, 1) * GROUPS_A_STEP * GROUP
    waiting: queue.Queue[Any] = queue.Queue()
    metrics: dict[str, list[float]] = defaultdict(list)
    begun: dict[int, int] = {}
    groups = (group for group in itertools.count() for _ in range(GROUP))
    ended: list[float] = []
    learned: list[float] = []

    class Simulated:
        """The queue as TRL's dataset asks it: getting from an empty one lets the clock run to the next group."""

        def get(self, timeout: float) -> Any:
            while waiting.empty():
                run_to(engine.next_end())
            group, sample = waiting.get()
            ended.append(engine.length[group])
            if engine.version - sample.model_version <= max_staleness:
                learned.append(engine.length[group])
            return sample

        def qsize(self) -> int:
            return waiting.qsize()

    def start() -> None:
        group = next(groups)
        begun.setdefault(group, engine.version)
        engine.start(group)

    def run_to(moment: float) -> None:
        for group in engine.until(moment):
            if group is not None:
                for _ in range(GROUP):
                    waiting.put((group, _sample(begun[group])))
            start()

    dataset = RolloutQueueDataset(
        rollout_queue=Simulated(),
        model_version_fn=lambda: engine.version,
        check_health_fn=lambda stale_after_s: None,
        stale_after_s=1e9,
        metrics=metrics,
        max_staleness=max_staleness,
    )
    for _ in range(inflight):
        start()
    samples = iter(dataset)
    for _ in range(steps):
        for _ in range(GROUPS_A_STEP * GROUP):
            next(samples)
        run_to(engine.now + LEARNER_STEP_S)
        engine.version += 1
    return Outcome(
        sampled=len(ended),
        discarded=len(metrics["sample/dropped_stale_total"]),
        length=float(np.mean(learned) / np.mean(ended)),
        seconds_a_step=engine.now / steps,
        staleness=float(np.mean(metrics["sample/staleness_mean"])),
        left=waiting.qsize(),
    )


def _sample(version: int) -> Any:
    from trl.experimental.async_grpo.async_rollout_worker import RolloutSample

    nothing = np.zeros(1)
    return RolloutSample(
        prompt=[],
        completion=[],
        input_ids=nothing,
        completion_mask=nothing,
        old_log_probs=nothing,
        advantage=0.0,
        model_version=version,
        group_id=0,
        metrics={},
    )


def admitting(max_staleness: int, steps: int, seed: int, *, inflight: int | None = None) -> Outcome:
    """Waymark's admission: a group starts when it cannot be too old, and every one is learned from.

    Of the groups that may start, `inflight` episodes run at once (None: all of them), and the others wait.
    """
    engine = _Engine(seed)
    admission = Admission(units_per_step=GROUPS_A_STEP, max_staleness=max_staleness, total_steps=steps)
    begun: dict[int, int] = {}
    ages: list[int] = []
    complete: set[int] = set()
    unstarted: deque[int] = deque()

    def start() -> None:
        while unstarted and (inflight is None or engine.running < inflight):
            engine.start(unstarted.popleft())

    def admit() -> None:
        for number in admission.admit(engine.version):
            begun[number] = engine.version
            unstarted.extend([number] * GROUP)
        start()

    def run_to(moment: float) -> None:
        for number in engine.until(moment):
            start()
            if number is not None:
                admission.finish(number)
                complete.add(number)

    admit()
    learned: list[int] = []
    for step in range(steps):
        while (taken := admission.take(step)) is None:
            run_to(engine.next_end())
        learned += taken
        ages += [step - begun[number] for number in taken]
        run_to(engine.now + LEARNER_STEP_S)
        engine.version += 1
        admit()
    return Outcome(
        sampled=len(begun) * GROUP,
        discarded=(len(begun) - len(set(learned))) * GROUP,
        length=float(np.mean([engine.length[n] for n in learned]) / np.mean([engine.length[n] for n in begun])),
        seconds_a_step=engine.now / steps,
        staleness=float(np.mean(ages)),
        left=len(complete - set(learned)) * GROUP,
    )


def main() -> None:
    """Print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="a few steps: does it run")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    steps, seeds = (20, 1) if arguments.smoke else (arguments.steps, arguments.seeds)
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    warnings.filterwarnings("ignore", message="TRL currently supports vLLM")
    room = round(ROOM)
    sides: dict[str, Callable[[int, int, int], Outcome]] = {
        "trl": discarding,
        "admission": admitting,
        "trl, room": functools.partial(discarding, inflight=room),
        "admission, room": functools.partial(admitting, inflight=room),
        "trl, equal lengths": functools.partial(discarding, equal=True),
        "trl, room, equal lengths": functools.partial(discarding, equal=True, inflight=room),
    }
    rows = []
    print("staleness | thrown away, length of learned, s/step, mean age, left at the end: " + " | ".join(sides))
    for bound in (1, 2, 4):
        row: dict[str, Any] = {"max_staleness": bound}
        for name, play in sides.items():
            runs = [play(bound, steps, seed) for seed in range(seeds)]
            row[name] = {
                "discarded_share": float(np.mean([run.share for run in runs])),
                "length_of_learned": float(np.mean([run.length for run in runs])),
                "seconds_a_step": float(np.mean([run.seconds_a_step for run in runs])),
                "mean_staleness": float(np.mean([run.staleness for run in runs])),
                "left_at_the_end": float(np.mean([run.left for run in runs])),
            }
        rows.append(row)
        told = " | ".join(
            f"{side['discarded_share']:6.1%}, {side['length_of_learned']:4.2f}, {side['seconds_a_step']:5.2f}"
            f", {side['mean_staleness']:4.2f}, {side['left_at_the_end']:4.0f}"
            for side in (row[name] for name in sides)
        )
        print(f"{bound:9} | {told}")
    ours = (name for name in sides if name.startswith("admission"))
    assert all(row[name]["discarded_share"] == 0 for name in ours for row in rows), "admission discards nothing"
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
