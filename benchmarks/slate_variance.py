"""SLATE's claim, measured: how much less the advantage varies where candidates share a prefix and are scored at once.

    python -m benchmarks.slate_variance             # 1 to 4 hops, 120 questions each: the table in docs/credit.md
    python -m benchmarks.slate_variance --smoke     # seconds: that it runs, not what it measures

One policy (the scripted expert with faults, at a quality drawn for each question) and one set of rewards (1 for each
gold support that a turn shows first, 1 for the right answer). The advantages, none divided by a deviation: `full`, a
whole episode's return less its group's mean (credit outcome_mean, plain groups); `prefix`, the return from a turn on of
whole continuations of one prefix (credit branch); `truncated`, the turn's reward alone, of candidates of one prefix
(credit branch, SLATE's unit). `apart` is what `full` would be if the turns of an episode did not vary together.
"""

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from agent.protocols.registry import load_protocol
from agent.trajectory import Trajectory, Turn, Unit
from benchmarks.demonstrations import make_tokenizer
from envs.actor import ScriptedActor
from envs.branching import BranchSampler
from envs.datasets import read_questions
from envs.episode import EpisodeSpec
from envs.episode_pool import EpisodePool
from envs.policies.demonstrations import direct_search
from envs.policies.expert import ExpertPolicy
from envs.policies.noisy import NoiseRates, NoisyPolicy
from envs.question import Question
from envs.search_env import EpisodeLimits
from envs.units import Episodes, GroupSampler, UnitTask, play_round
from envs.world import WorldSettings, make_world
from retrieval.index import Index, build_index, open_index
from rewards.compose import Composition, RewardTerm, build_rewards
from rewards.reward import RewardContext
from train.credit import load_estimator
from train.credit.row import CreditEstimator

PROTOCOL = load_protocol("waymark")
WORST = {"wrong_query": 0.5, "repeated_query": 0.2, "early_answer": 0.15, "endless_search": 0.2, "wrong_answer": 0.6}
"""Fault rates of the worst policy; a question's policy has these times a quality drawn from [0, 1]."""
TERMS = {
    "hop_relevance": RewardTerm(weight=1.0, params={"value": 1.0}),
    "exact_match": RewardTerm(weight=1.0),
}
COMPARED = ("prefix", "truncated")


class MixedPolicy:
    """The noisy expert at a quality of its own for each question."""

    def __init__(self) -> None:
        self._expert = ExpertPolicy(PROTOCOL)

    def act(self, question: Question, view: int, turns: Sequence[Turn], rng: random.Random) -> str:
        """The expert's next action, or a faulty one."""
        worseness = random.Random(question.id).random()
        rates = NoiseRates(**{name: rate * worseness for name, rate in WORST.items()})
        return NoisyPolicy(self._expert, rates).act(question, view, turns, rng)


@dataclass(frozen=True, slots=True)
class Scoring:
    """Rewards and questions, and what an estimator makes of them. A scorer for the branch sampler too."""

    rewards: Composition
    questions: dict[str, Question]

    def per_trajectory(self, unit: Unit, estimator: CreditEstimator) -> NDArray[np.float64]:
        """The advantage of each trajectory's last sampled token: `[num_trajectories]`, NaN where it has no row."""
        rows = estimator(unit, self.rewards.score(unit, self.questions), self.rewards.weights)
        found = {row.trajectory_id: row.advantages[row.loss_mask == 1][-1] for row in rows}
        return np.array([found.get(trajectory.id, np.nan) for trajectory in unit.trajectories])

    async def advantages(self, unit: Unit) -> NDArray[np.float64]:
        """SLATE's, by which the winner is drawn."""
        return self.per_trajectory(unit, load_estimator("branch"))

    async def turn_scores(self, unit: Unit, component: str) -> list[NDArray[np.float64]]:
        """The scores of one reward."""
        return list(self.rewards.score(unit, self.questions)[component].turn)


def group_variance(advantages: NDArray[np.float64], trajectories: Sequence[Trajectory]) -> float:
    """Mean over groups of the unbiased variance of the centred advantages inside each."""
    groups = np.array([trajectory.group_id for trajectory in trajectories])
    return float(np.mean([advantages[groups == group].var(ddof=1) for group in np.unique(groups)]))


def variance_apart(unit: Unit, scoring: Scoring) -> float:
    """The sum over turns of the variance of the turn's reward in a group; an episode that has ended earns 0."""
    rewards = np.zeros((len(unit.trajectories), max(trajectory.num_turns for trajectory in unit.trajectories)))
    for name, scores in scoring.rewards.score(unit, scoring.questions).items():
        for row, (turns, outcome) in enumerate(zip(scores.turn, scores.outcome, strict=True)):
            rewards[row, : len(turns)] += scoring.rewards.weights[name] * np.nan_to_num(turns)
            rewards[row, len(turns) - 1] += scoring.rewards.weights[name] * np.nan_to_num(outcome)
    return float(rewards.var(axis=0, ddof=1).sum())


async def measure_question(task: UnitTask, episodes: Episodes, scoring: Scoring, k: int) -> dict[str, float]:
    """Variances of the three advantages on one question, and how many turns and steps there were."""
    plain = GroupSampler(samples=k)
    whole = await plain.complete(task, await play_round(episodes, plain.opening(task)), episodes)
    steps = replace(task, id=f"{task.id}-steps")
    sampler = BranchSampler(candidates=k, eta=0.7, retrieve="all", scorer=scoring)
    branch = await sampler.complete(steps, await play_round(episodes, sampler.opening(steps)), episodes)
    continued = Unit(kind="branch_tree", trajectories=tuple(await play_round(episodes, _continuations(task, branch))))
    unscaled = load_estimator("branch", scale=False)
    return {
        "full": group_variance(scoring.per_trajectory(whole, load_estimator("outcome_mean")), whole.trajectories),
        "apart": variance_apart(whole, scoring),
        "prefix": group_variance(scoring.per_trajectory(continued, unscaled), continued.trajectories),
        "truncated": group_variance(scoring.per_trajectory(branch, unscaled), branch.trajectories),
        "turns": float(np.mean([trajectory.num_turns for trajectory in whole.trajectories])),
        "steps": float(len({trajectory.group_id for trajectory in branch.trajectories})),
    }


def _continuations(task: UnitTask, branch: Unit) -> list[EpisodeSpec]:
    """Whole episodes from every prefix of the branch unit's path, as many as it had candidates there."""
    unit_id = f"{task.id}-continued"
    return [
        EpisodeSpec(
            id=f"{unit_id}-{candidate.id}",
            question=task.question,
            unit_id=unit_id,
            group_id=f"{unit_id}-turn{candidate.fork_turn}",
            parent_id=candidate.parent_id,
            fork_turn=candidate.fork_turn,
            sample=candidate.sample,
            seed=task.seed("continuation", candidate.sample),
            prefix_turns=candidate.turns[: candidate.fork_turn],
        )
        for candidate in branch.trajectories
    ]


async def measure(
    questions: Sequence[Question], index: Index, tokenizer: PreTrainedTokenizerBase, *, k: int, hops: int
) -> list[dict[str, float]]:
    """One record a question."""
    limits = EpisodeLimits(
        max_turns=2 * hops + 2,
        top_k=2,
        max_new_tokens_per_turn=64,
        max_trajectory_tokens=4000,
        max_observation_tokens=200,
    )
    context = RewardContext(passage=index.get, corpus=lambda: index.corpus)
    scoring = Scoring(build_rewards(TERMS, context), {question.id: question for question in questions})
    pool = EpisodePool(
        actor=ScriptedActor(MixedPolicy(), tokenizer),
        search=direct_search(index),
        protocol=PROTOCOL,
        tokenizer=tokenizer,
        limits=limits,
    )
    try:
        tasks = [UnitTask(id=question.id, question=question, key=(0, question.id)) for question in questions]
        return [await measure_question(task, pool, scoring, k) for task in tasks]
    finally:
        await pool.close()


def independent(num_steps: int, num_questions: int, k: int) -> list[dict[str, float]]:
    """The control, where the claim is exact: every step pays 0 or 1 by a coin, whatever came before it."""
    rng = np.random.default_rng(num_steps)
    records = []
    for _ in range(num_questions):
        whole = rng.integers(0, 2, size=(k, num_steps))
        steps = rng.integers(0, 2, size=(k, num_steps))
        to_go = [rng.integers(0, 2, size=(k, num_steps - t)).sum(axis=1).var(ddof=1) for t in range(num_steps)]
        variances = {
            "full": whole.sum(axis=1).var(ddof=1),
            "apart": whole.var(axis=0, ddof=1).sum(),
            "prefix": np.mean(to_go),
            "truncated": steps.var(axis=0, ddof=1).mean(),
        }
        records.append({**{name: float(v) for name, v in variances.items()}, "turns": num_steps, "steps": num_steps})
    return records


def summary(records: Sequence[dict[str, float]], *, num_resamples: int = 2000) -> dict[str, Any]:
    """Mean variances, and full / other with a 95 % percentile bootstrap that draws questions."""
    values = {name: np.array([record[name] for record in records]) for name in records[0]}
    drawn = np.random.default_rng(0).integers(0, len(records), size=(num_resamples, len(records)))
    figures: dict[str, Any] = {"questions": len(records), **{name: float(v.mean()) for name, v in values.items()}}
    for name in COMPARED:
        ratios = values["full"][drawn].mean(axis=1) / values[name][drawn].mean(axis=1)
        low, high = np.quantile(ratios, [0.025, 0.975])
        ratio = float(values["full"].mean() / values[name].mean())
        figures[f"full/{name}"] = {"ratio": ratio, "low": float(low), "high": float(high)}
    return figures


def first_hop(question: Question) -> Question:
    """The question's first hop as a question of its own."""
    hop = question.hops[0]
    supports = (hop.supporting_id,) if hop.supporting_id else ()
    return replace(
        question,
        id=f"{question.id}-hop1",
        text=hop.question,
        golden_answers=hop.answers,
        supporting_ids=supports,
        hops=(hop,),
        paraphrases=(),
    )


def as_text(figures: dict[str, Any]) -> str:
    """The table as a person reads it."""
    head = f"{'':<14}{'turns':>7}{'steps':>7}{'full':>8}{'apart':>8}{'prefix':>8}{'truncated':>11}"
    lines = [f"{head}{'full/prefix [95 %]':>24}{'full/truncated [95 %]':>25}"]
    for name, row in figures.items():
        ratios = [row[f"full/{kind}"] for kind in COMPARED]
        prefix, truncated = (f"{r['ratio']:.2f} [{r['low']:.2f}, {r['high']:.2f}]" for r in ratios)
        lines.append(
            f"{name:<14}{row['turns']:>7.2f}{row['steps']:>7.2f}{row['full']:>8.3f}{row['apart']:>8.3f}{row['prefix']:>8.3f}"
            f"{row['truncated']:>11.3f}{prefix:>24}{truncated:>25}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print; returns the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=120, help="questions for each number of hops")
    parser.add_argument("--candidates", type=int, default=5, help="k: group size, and candidates of each step")
    parser.add_argument("--smoke", action="store_true", help="a tiny version of everything, to see that it runs")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(arguments)
    count = 6 if options.smoke else options.questions
    started = time.perf_counter()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        world = Path(scratch) / "world"
        sizes = {"train_questions": count, "dev_questions": 0, "test_questions": 0}
        make_world(WorldSettings.preset("tiny", hops=(2, 3, 4), **sizes), world)
        build_index(world / "corpus.jsonl", Path(scratch) / "index")
        made = read_questions(world / "questions.train.jsonl")
        by_hops = {hops: [q for q in made if len(q.hops) == hops] for hops in (2, 3, 4)}
        by_hops = {1: [first_hop(q) for q in by_hops[2]], **by_hops}
        tokenizer = make_tokenizer(world, [q for questions in by_hops.values() for q in questions])
        with open_index(Path(scratch) / "index") as index:
            for hops, questions in by_hops.items():
                records = asyncio.run(measure(questions, index, tokenizer, k=options.candidates, hops=hops))
                figures[f"{hops} hop{'s' * (hops > 1)}"] = summary(records)
    for num_steps in (1, 2, 3, 4):
        figures[f"coin, T = {num_steps}"] = summary(independent(num_steps, 10 * count, options.candidates))
    print(as_text(figures))
    print(f"{time.perf_counter() - started:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return figures


if __name__ == "__main__":
    main()
