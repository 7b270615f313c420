"""What scoring costs: microseconds per trajectory for every built-in reward, on a corpus and trajectories made here.

    python -m benchmarks.scoring_cost
    python -m benchmarks.scoring_cost --num-passages 100000 --words 100 --json scoring_cost.json
    python -m benchmarks.scoring_cost --smoke

The first unit is timed apart ("first unit"): it holds what is done once, above all fitting the IDF. "warm" is the
median of the repeats, with caches as they are inside a run; "cold" is the rate over units whose passages were never
seen before.
"""

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from agent.action import Action, ToolRequest
from agent.trajectory import Shown, ToolCall, Trajectory, Turn, Unit
from envs.question import Question
from retrieval.passage import Hit, Passage
from rewards.registry import REWARDS
from rewards.reward import RewardContext


def make_corpus(num_passages: int, num_words: int, rng: random.Random) -> list[Passage]:
    """Passages of `num_words` words from a vocabulary with a long tail."""
    vocabulary = [f"{rng.choice('bdfgklmnprstv')}{rng.choice('aeiou')}{i}" for i in range(max(2000, num_passages // 4))]
    return [
        Passage(
            id=str(i),
            title=f"Entity {i}",
            text=" ".join(vocabulary[min(int(rng.paretovariate(0.6)), len(vocabulary)) - 1] for _ in range(num_words)),
        )
        for i in range(num_passages)
    ]


def make_unit(index: int, corpus: Sequence[Passage], size: int, num_turns: int, k: int, rng: random.Random) -> Unit:
    """A group of episodes that search `num_turns` times over a pool of passages that its question has in common."""
    pool = rng.sample(corpus, min(len(corpus), 3 * num_turns * k))
    trajectories = []
    for sample in range(size):
        numbers: dict[str, int] = {}
        turns = []
        for _ in range(num_turns):
            passages = rng.sample(pool, k)
            hits = tuple(Hit(passage=p, score=1.0, rank=r) for r, p in enumerate(passages, start=1))
            call = ToolCall(tool="search", argument="query", hits=hits, status="ok", latency_s=0.0)
            shown = tuple(Shown(number=numbers.setdefault(p.id, len(numbers) + 1), passage_id=p.id) for p in passages)
            action = Action(kind="call", requests=(ToolRequest(tool="search", argument="query"),))
            turns.append(_turn(action, calls=(call,), shown=shown))
        turns.append(_turn(Action(kind="answer", answer=f"the Entity {sample}", citations=(1, 2, 2, 99))))
        trajectories.append(
            Trajectory(
                id=f"{index}-{sample}",
                question_id=str(index),
                unit_id=str(index),
                group_id=str(index),
                sample=sample,
                prompt_ids=(1,),
                turns=tuple(turns),
                finish_reason="answered",
            )
        )
    return Unit(kind="group", trajectories=tuple(trajectories))


def _turn(action: Action, calls: tuple[ToolCall, ...] = (), shown: tuple[Shown, ...] = ()) -> Turn:
    return Turn(action_ids=(1,), action_logprobs=(0.0,), action_versions=(0,), action=action, calls=calls, shown=shown)


def main() -> None:
    """Time every reward and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-passages", type=int, default=20_000)
    parser.add_argument("--words", type=int, default=60, help="words per passage")
    parser.add_argument("--units", type=int, default=100)
    parser.add_argument("--samples", type=int, default=8, help="trajectories per unit")
    parser.add_argument("--turns", type=int, default=4, help="searches per trajectory")
    parser.add_argument("--k", type=int, default=3, help="passages shown per search")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="seconds on a small corpus: does it run at all")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    if args.smoke:
        args.num_passages, args.units, args.repeats = 500, 5, 2

    rng = random.Random(args.seed)
    corpus = make_corpus(args.num_passages, args.words, rng)
    by_id = {passage.id: passage for passage in corpus}
    context = RewardContext(passage=by_id.__getitem__, corpus=lambda: corpus)
    units = [make_unit(i, corpus, args.samples, args.turns, args.k, rng) for i in range(args.units + 1)]
    questions = {}
    for unit in units:
        shown = [s.passage_id for t in unit.trajectories for turn in t.turns for s in turn.shown]
        questions[unit.id] = Question(
            id=unit.id, text="?", golden_answers=("Entity 1", "entity one"), supporting_ids=tuple(rng.sample(shown, 2))
        )

    num_trajectories = args.units * args.samples
    rewards: dict[str, dict[str, float]] = {}
    print(f"{'reward':<20}{'first unit ms':>15}{'cold us/traj':>15}{'warm us/traj':>15}")
    for name, factory in REWARDS.items():
        reward = factory(context)
        start = time.perf_counter()
        reward(units[0], questions)
        first_unit_ms = 1e3 * (time.perf_counter() - start)
        passes = []
        for _ in range(args.repeats + 1):
            start = time.perf_counter()
            for unit in units[1:]:
                reward(unit, questions)
            passes.append(1e6 * (time.perf_counter() - start) / num_trajectories)
        row = {"first_unit_ms": first_unit_ms, "cold_us": passes[0], "warm_us": statistics.median(passes[1:])}
        rewards[name] = row
        print(f"{name:<20}{row['first_unit_ms']:>15.1f}{row['cold_us']:>15.1f}{row['warm_us']:>15.1f}")
    total = {key: sum(row[key] for row in rewards.values()) for key in ("first_unit_ms", "cold_us", "warm_us")}
    print(f"{'all together':<20}{total['first_unit_ms']:>15.1f}{total['cold_us']:>15.1f}{total['warm_us']:>15.1f}")

    if args.json:
        settings = {key: value for key, value in vars(args).items() if key not in ("json", "smoke")}
        figures = {
            "settings": settings,
            "python": platform.python_version(),
            "processor": platform.machine(),
            "rewards": rewards,
            "total": total,
        }
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
