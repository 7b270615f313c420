"""What a bound on staleness costs in TRL's asynchronous GRPO, which discards, beside admission, which waits.

    python -m benchmarks.async_grpo                      # 400 steps at several bounds, seconds of work
    python -m benchmarks.async_grpo --smoke

Both are given the same episodes on one simulated clock: an engine and searches with room for all that each lets run at
once, and a learner whose step takes a constant time. An episode has 1 to 6 turns (each as likely), and a turn takes
a time drawn from a log-normal distribution: the spread of search agents, whose slowest episode takes many times the
median's time. TRL's side runs TRL's own code: `RolloutQueueDataset` decides which sample is too old, groups are tagged
with the version at which their first generation starts, and as many run at once as `max_inflight_tasks` allows by
TRL's own rule. Waymark's side runs `train.admission.Admission`.

What is counted: trajectories sampled and not learned from (thrown away for their age), how long the groups that are
learned from took beside all that were sampled (below 1, long searches are thrown away more often), seconds a step.
"""

import argparse
import heapq
import json
import os
import queue
import random
import warnings
from collections import defaultdict
from collections.abc import Iterator
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Counts of one run.

    `length` is the mean seconds of the groups learned from over that of all that ended; `seconds_a_step` are simulated.
    """

    sampled: int
    discarded: int
    length: float
    seconds_a_step: float
    staleness: float

    @property
    def share(self) -> float:
        """Share of the sampled trajectories that was thrown away."""
        return self.discarded / self.sampled


def durations(seed: int) -> Iterator[float]:
    """Seconds that groups take: the longest of their episodes."""
    draw = random.Random(seed)
    while True:
        yield max(
            sum(TURN_MEDIAN_S * draw.lognormvariate(0.0, TURN_SIGMA) for _ in range(draw.randint(1, MAX_TURNS)))
            for _ in range(GROUP)
        )


class _Clock:
    """Running groups by when they end, and the policy's version."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.version = 0
        self.sampled = 0
        self._durations = durations(seed)
        self.took: dict[int, float] = {}
        self._running: list[tuple[float, int, int]] = []

    def start(self, number: int) -> None:
        """A group begins with the version of now."""
        self.sampled += GROUP
        self.took[number] = next(self._durations)
        heapq.heappush(self._running, (self.now + self.took[number], number, self.version))

    @property
    def running(self) -> int:
        """Groups that run."""
        return len(self._running)

    def until(self, moment: float) -> Iterator[tuple[int, int]]:
        """Number and version of the groups that end before a moment, with the clock at each."""
        while self._running and self._running[0][0] <= moment:
            self.now, number, version = heapq.heappop(self._running)
            yield number, version
        self.now = max(self.now, moment)

    def next_end(self) -> float:
        """When the next group ends."""
        return self._running[0][0]


def discarding(max_staleness: int, steps: int, seed: int) -> Outcome:
    """TRL's queue: groups run all the time, and what comes out too old is dropped."""
    from accelerate import PartialState
    from trl.experimental.async_grpo.async_grpo_trainer import RolloutQueueDataset

    PartialState()  # TRL's logger asks for it
    clock, numbers = _Clock(seed), iter(range(1 << 30))
    inflight = max(max_staleness, 1) * GROUPS_A_STEP  # TRL's rule for max_inflight_tasks, in groups
    waiting: queue.Queue[Any] = queue.Queue()
    metrics: dict[str, list[float]] = defaultdict(list)
    ended: list[float] = []
    learned: list[float] = []

    class Simulated:
        """The queue as TRL's dataset asks it: getting from an empty one lets the clock run to the next group."""

        def get(self, timeout: float) -> Any:
            while waiting.empty():
                run_to(clock.next_end())
            number, sample = waiting.get()
            ended.append(clock.took[number])
            if clock.version - sample.model_version <= max_staleness:
                learned.append(clock.took[number])
            return sample

        def qsize(self) -> int:
            return waiting.qsize()

    def run_to(moment: float) -> None:
        for number, version in clock.until(moment):
            for _ in range(GROUP):
                waiting.put((number, _sample(version)))
            clock.start(next(numbers))

    dataset = RolloutQueueDataset(
        rollout_queue=Simulated(),
        model_version_fn=lambda: clock.version,
        check_health_fn=lambda stale_after_s: None,
        stale_after_s=1e9,
        metrics=metrics,
        max_staleness=max_staleness,
    )
    for _ in range(inflight):
        clock.start(next(numbers))
    samples = iter(dataset)
    for _ in range(steps):
        for _ in range(GROUPS_A_STEP * GROUP):
            next(samples)
        run_to(clock.now + LEARNER_STEP_S)
        clock.version += 1
    return Outcome(
        sampled=clock.sampled - (clock.running * GROUP) - waiting.qsize(),
        discarded=len(metrics["sample/dropped_stale_total"]),
        length=float(np.mean(learned) / np.mean(ended)),
        seconds_a_step=clock.now / steps,
        staleness=float(np.mean(metrics["sample/staleness_mean"])),
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


def admitting(max_staleness: int, steps: int, seed: int) -> Outcome:
    """Waymark's admission: a group starts when it cannot be too old, and every one is learned from."""
    clock = _Clock(seed)
    admission = Admission(units_per_step=GROUPS_A_STEP, max_staleness=max_staleness, total_steps=steps)
    begun: dict[int, int] = {}
    ages: list[int] = []

    def admit() -> None:
        for number in admission.admit(clock.version):
            begun[number] = clock.version
            clock.start(number)

    def run_to(moment: float) -> None:
        for number, _ in clock.until(moment):
            admission.finish(number)

    admit()
    for step in range(steps):
        while (taken := admission.take(step)) is None:
            run_to(clock.next_end())
        ages += [step - begun.pop(number) for number in taken]
        run_to(clock.now + LEARNER_STEP_S)
        clock.version += 1
        admit()
    learned = steps * GROUPS_A_STEP * GROUP
    return Outcome(
        sampled=clock.sampled,
        discarded=clock.sampled - learned,
        length=1.0,
        seconds_a_step=clock.now / steps,
        staleness=float(np.mean(ages)),
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
    rows = []
    print("staleness | TRL: discarded, length of learned, s/step, mean age | admission: the same")
    for bound in (1, 2, 4):
        row: dict[str, Any] = {"max_staleness": bound}
        for name, play in (("trl", discarding), ("admission", admitting)):
            runs = [play(bound, steps, seed) for seed in range(seeds)]
            row[name] = {
                "discarded_share": float(np.mean([run.share for run in runs])),
                "length_of_learned": float(np.mean([run.length for run in runs])),
                "seconds_a_step": float(np.mean([run.seconds_a_step for run in runs])),
                "mean_staleness": float(np.mean([run.staleness for run in runs])),
            }
        rows.append(row)
        told = " | ".join(
            f"{side['discarded_share']:6.1%}, {side['length_of_learned']:4.2f}, {side['seconds_a_step']:5.2f}"
            f", {side['mean_staleness']:4.2f}"
            for side in (row["trl"], row["admission"])
        )
        print(f"{bound:9} | {told}")
    assert all(row["admission"]["discarded_share"] == 0 for row in rows), "admission discards nothing"
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
