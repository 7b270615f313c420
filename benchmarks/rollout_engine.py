"""Rollout speed: tokens per second of the embedded engine with its searches, as a share of bare `model.generate`.

    python -m benchmarks.rollout_engine [--model FOLDER] [--smoke] [--json FILE]

Our side plays whole episodes: every row samples a turn, searches a BM25 index through the micro-batcher, renders what
came back, and goes on from there, with logprobs recorded. The other side gets for free what our side found: it calls
`model.generate` once a turn on the same prompts, all rows at once, for the same number of tokens, without a search, a
stop string or a logprob. Lengths are forced (no end token), so both sample equally many tokens. The sides take turns,
so that a noisy machine hurts both; the figure is the ratio of medians.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from agent.engine import SamplingParams
from agent.engines.loading import load_model
from agent.engines.transformers import TransformersEngine
from agent.hugging_face import load_tokenizer
from agent.observation import render_observation
from agent.protocols.registry import load_protocol
from agent.tiny import build_tiny_policy
from retrieval.batcher import MicroBatcher
from retrieval.index import Index, build_index, open_index

TARGET = 0.8
# Ends no completion, yet every token is checked against it, as a rollout's stop strings are.
NEVER = "\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What both sides do. `prompts` are the first turn's; `queries[row][turn]` is what the row asks after a turn."""

    prompts: list[list[int]]
    queries: list[list[str]]
    new_tokens: int
    top_k: int


@dataclass(slots=True)
class Played:
    """One pass of our side: its prompts by turn (for the other side), its tokens and its time."""

    prompts_by_turn: list[list[list[int]]] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    searches: int = 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model folder; default: an untrained 0.86 M policy")
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--new-tokens", type=int, default=24, help="tokens sampled in each turn")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--schedule", choices=("eager", "deterministic"), default="eager")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--smoke", action="store_true", help="a few rows, once: does it run?")
    parser.add_argument("--check", action="store_true", help="exit 1 where the target is missed")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    if options.smoke:
        options.rows, options.turns, options.new_tokens, options.repeats = 4, 2, 4, 1
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(Path(scratch), options)
    print(
        f"{figures['rows']} rows x {figures['turns']} turns x {figures['new_tokens']} tokens, {figures['dtype']}, "
        f"{torch.get_num_threads()} threads\n"
        f"ours, {figures['schedule']}, {figures['searches']} searches: {figures['tokens_per_s']:8.0f} tokens/s\n"
        f"model.generate, no search:        {figures['generate_tokens_per_s']:8.0f} tokens/s\n"
        f"ratio {figures['ratio']:.2f} (target: at least {TARGET})"
    )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    if options.check and float(figures["ratio"]) < TARGET:
        sys.exit("the target is missed")


def measure(scratch: Path, options: argparse.Namespace) -> dict[str, float | int | str]:
    """The figures of one machine, ratio included."""
    rng = random.Random(0)
    words = [a + b for a in ("ka", "lo", "mi", "ter", "van", "zu") for b in ("rin", "do", "sel", "pa", "quor", "ne")]
    corpus = scratch / "corpus.jsonl"
    passages = [" ".join(rng.choices(words, k=40)) for _ in range(2000)]
    corpus.write_text(
        "".join(
            json.dumps({"id": str(i), "title": f"Page {i}", "text": text}) + "\n" for i, text in enumerate(passages)
        )
    )
    build_index(corpus, scratch / "index")
    folder = options.model or build_tiny_policy(
        scratch / "policy",
        [*passages, *(f"{a}{b} {b}{a}" for a in words for b in words[:18])],
        protocol=load_protocol("waymark"),
        vocab_size=1536,
    )
    tokenizer, model = load_tokenizer(folder), load_model(folder).eval()
    work = Workload(
        prompts=[
            [rng.randrange(300, len(tokenizer) - 16) for _ in range(rng.randint(28, 40))] for _ in range(options.rows)
        ],
        queries=[[" ".join(rng.choices(words, k=4)) for _ in range(options.turns)] for _ in range(options.rows)],
        new_tokens=options.new_tokens,
        top_k=2,
    )
    index = open_index(scratch / "index")
    engine = TransformersEngine(
        model,
        tokenizer,
        schedule=options.schedule,
        max_batch=options.rows,
        dtype=options.dtype,
        eos_token_ids=(),
    )
    ours, theirs = [], []
    played = Played()
    for _ in range(options.repeats + 1):
        played = asyncio.run(play(engine, tokenizer, index, work, options.turns))
        ours.append(played.tokens / played.seconds)
        theirs.append(
            played.tokens / generate(model, tokenizer, played.prompts_by_turn, work.new_tokens, options.dtype)
        )
    asyncio.run(engine.close())
    ours, theirs = (ours[1:] or ours), (theirs[1:] or theirs)  # the first pass warms both sides up
    return {
        "rows": options.rows,
        "turns": options.turns,
        "new_tokens": options.new_tokens,
        "searches": played.searches,
        "schedule": options.schedule,
        "dtype": options.dtype,
        "threads": torch.get_num_threads(),
        "parameters": model.num_parameters(),
        "tokens_per_s": statistics.median(ours),
        "generate_tokens_per_s": statistics.median(theirs),
        "ratio": statistics.median(ours) / statistics.median(theirs),
    }


async def play(
    engine: TransformersEngine, tokenizer: PreTrainedTokenizerBase, index: Index, work: Workload, turns: int
) -> Played:
    """Every row's episode on one event loop."""
    protocol = load_protocol("waymark")
    batcher = MicroBatcher(index)
    played = Played(prompts_by_turn=[[[] for _ in work.prompts] for _ in range(turns)])

    async def episode(row: int) -> None:
        ids, numbers = list(work.prompts[row]), dict[str, int]()
        with engine.episode():
            for turn in range(turns):
                played.prompts_by_turn[turn][row] = list(ids)
                params = SamplingParams(max_new_tokens=work.new_tokens, stop=(NEVER,), seed=row * turns + turn)
                completion = await engine.generate(ids, params, key=f"{row:05d}/{turn}")
                hits = await batcher.search(work.queries[row][turn], work.top_k)
                observation = render_observation(protocol, tokenizer, [hits], numbers=numbers, max_tokens=150)
                ids += [*completion.token_ids, *observation.ids]
                played.tokens += len(completion.token_ids)
                played.searches += 1

    start = time.perf_counter()
    await asyncio.gather(*(episode(row) for row in range(len(work.prompts))))
    played.seconds = time.perf_counter() - start
    await batcher.close()
    return played


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts_by_turn: list[list[list[int]]],
    new_tokens: int,
    dtype: str,
) -> float:
    """Seconds that `model.generate` takes for the same prompts and numbers of tokens."""
    config = GenerationConfig(
        max_new_tokens=new_tokens,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.generation_config.eos_token_id = None
    start = time.perf_counter()
    for prompts in prompts_by_turn:
        width = max(map(len, prompts))
        ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"), torch.no_grad():
            out = model.generate(ids, attention_mask=mask, generation_config=config)
        if out.shape[1] != width + new_tokens:
            raise RuntimeError(f"generate stopped after {out.shape[1] - width} of {new_tokens} tokens")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
