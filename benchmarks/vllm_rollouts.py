"""Agent rollouts with vLLM: tokens generated a second, as a share of what the same engine does without an environment.

    python -m benchmarks.vllm_rollouts                              # untrained Qwen2 of 1 M and 30 M parameters
    python -m benchmarks.vllm_rollouts --model FOLDER --repeats 7
    python -m benchmarks.vllm_rollouts --smoke                      # that it runs, not what it measures

Three arms take turns in one process, with one engine and an empty prefix cache before each:

- `episodes`: whole episodes, many at once, as in training: sample, parse, search BM25 in this process through the
  micro-batcher, render and encode what came back, go on.
- `replay`: the same requests (ids, lengths, parameters, seeds), known beforehand. A turn is asked for when the one
  before it is there, as many episodes at once, and nothing else is done. The target is held against this arm.
- `at once`: the same requests, all asked for at the start. The engine runs as many together as in the other arms, but
  is never short of one: what waiting for one's own last turn costs shows here too.

An untrained policy writes no tags. So the engine samples as many tokens as the scripted expert's next action has, each
checked against a stop string that never comes, and the environment is given the expert's ids in their place: turns,
searches and observations are those of real episodes, and prompts and lengths are the same in all arms.
"""

import argparse
import asyncio
import copy
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

from agent.engine import Completion, Engine, SamplingParams
from agent.engines.loading import load_model
from agent.engines.opening import VLLMSpec, open_engine
from agent.trajectory import Trajectory
from benchmarks.demonstrations import LIMITS, PROTOCOL, make_tokenizer
from envs.actor import ActionRequest, ScriptedActor
from envs.datasets import read_questions
from envs.episode import EpisodeSpec
from envs.episode_pool import run_episodes
from envs.policies.demonstrations import demonstration_specs
from envs.policies.expert import ExpertPolicy, ExpertSettings
from envs.world import WorldSettings, make_world
from retrieval.batcher import MicroBatcher
from retrieval.index import Index, build_index, open_index

TARGET = 0.85
NEVER = "\x00 never written \x00"
"""Ends no completion, yet every token is checked against it, as a rollout's stop strings are."""
SIZES = {
    "1m": {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2},
    "30m": {"hidden_size": 512, "num_hidden_layers": 10, "num_attention_heads": 8, "num_key_value_heads": 2},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the engine is asked for: one turn."""

    key: str
    prompt_ids: tuple[int, ...]
    params: SamplingParams


class ForcedActor:
    """Has the engine sample as many tokens as the script's action has, and gives the action's ids in their place."""

    def __init__(self, engine: Engine, script: ScriptedActor) -> None:
        self._engine = engine
        self._script = script
        self.requests: list[Request] = []
        """What the engine was asked for, in order."""

    @property
    def context_window(self) -> int | None:
        """The engine's."""
        return self._engine.context_window

    def episode(self) -> AbstractContextManager[None]:
        """The engine's own announcement."""
        return self._engine.episode()

    async def act(self, request: ActionRequest) -> Completion:
        """The script's action, after the time that the engine takes for it."""
        wanted = await self._script.act(request)
        params = SamplingParams(max_new_tokens=len(wanted.token_ids), stop=(NEVER,), seed=request.seed)
        self.requests.append(Request(key=request.key, prompt_ids=request.token_ids, params=params))
        sampled = await self._engine.generate(request.token_ids, params, key=request.key)
        _check_length(sampled, params)
        return replace(wanted, logprobs=sampled.logprobs, versions=sampled.versions)


def _check_length(sampled: Completion, params: SamplingParams) -> None:
    if len(sampled.token_ids) != params.max_new_tokens:
        raise RuntimeError(f"{len(sampled.token_ids)} tokens came back, {params.max_new_tokens} were to be sampled")


async def replay(engine: Engine, episodes: Sequence[Sequence[Request]], concurrency: int) -> None:
    """Ask for every turn when the one before it is there, so many episodes at once."""
    waiting = iter(episodes)

    async def place() -> None:
        for requests in waiting:
            for request in requests:
                await _sample(engine, request)

    await asyncio.gather(*(place() for _ in range(concurrency)))


async def at_once(engine: Engine, episodes: Sequence[Sequence[Request]]) -> None:
    """Ask for everything at the start, first turns first."""
    turns = max(map(len, episodes))
    requests = [requests[turn] for turn in range(turns) for requests in episodes if turn < len(requests)]
    await asyncio.gather(*(_sample(engine, request) for request in requests))


async def _sample(engine: Engine, request: Request) -> None:
    _check_length(await engine.generate(request.prompt_ids, request.params, key=request.key), request.params)


def make_model(folder: Path, tokenizer: PreTrainedTokenizerBase, size: str, seed: int = 0) -> Path:
    """An untrained Qwen2 without an end token, so that lengths can be forced."""
    shape = SIZES[size]
    config = Qwen2Config(
        **shape,
        vocab_size=len(tokenizer),
        intermediate_size=3 * shape["hidden_size"],
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
    model.generation_config = GenerationConfig()
    model.save_pretrained(folder)
    endless = copy.deepcopy(tokenizer)
    endless.add_special_tokens({"eos_token": "<|beyond the model's vocabulary|>"})
    endless.save_pretrained(folder)
    return folder


def measure(
    folder: Path,
    options: argparse.Namespace,
    index: Index,
    specs: Sequence[EpisodeSpec],
    tokenizer: PreTrainedTokenizerBase,
) -> dict[str, Any]:
    """The figures of one model."""
    model = load_model(folder)
    weights = [(name, weight.detach()) for name, weight in model.named_parameters()]
    settings = VLLMSpec(driver=options.driver, max_num_seqs=options.concurrency, dtype=options.dtype)
    engine = open_engine(settings, folder)
    actor = ForcedActor(engine, ScriptedActor(ExpertPolicy(PROTOCOL, ExpertSettings(thought="full")), tokenizer))
    trajectories: list[Trajectory] = []

    async def episodes() -> None:
        actor.requests.clear()
        async with MicroBatcher(index) as batcher:
            trajectories[:] = await run_episodes(
                specs,
                actor=actor,
                search=batcher.search,
                protocol=PROTOCOL,
                tokenizer=tokenizer,
                limits=LIMITS,
                max_concurrent=options.concurrency,
            )

    try:
        seconds_of(engine, weights, episodes)
        known = by_episode(actor.requests)
        tokens = sum(request.params.max_new_tokens for requests in known for request in requests)
        arms: dict[str, Callable[[], Awaitable[None]]] = {
            "episodes": episodes,
            "replay": lambda: replay(engine, known, options.concurrency),
            "at once": lambda: at_once(engine, known),
        }
        rates: dict[str, list[float]] = {name: [] for name in arms}
        processor: dict[str, list[float]] = {name: [] for name in arms}
        for repeat in range(options.repeats):
            names = list(arms) if repeat % 2 == 0 else list(arms)[::-1]
            for name in names:
                wall_s, processor_s = seconds_of(engine, weights, arms[name])
                rates[name].append(tokens / wall_s)
                processor[name].append(processor_s)
    finally:
        asyncio.run(engine.close())
    prompts = [len(request.prompt_ids) for requests in known for request in requests]
    return {
        "parameters": model.num_parameters(),
        "turns": len(prompts),
        "searches": sum(t.num_searches for t in trajectories),
        "tokens a turn": tokens / len(prompts),
        "prompt of a turn": statistics.mean(prompts),
        "tokens_per_s": rates,
        "processor_s": processor,
        "episodes / replay": ratio(rates["episodes"], rates["replay"]),
        "episodes / at once": ratio(rates["episodes"], rates["at once"]),
    }


def seconds_of(
    engine: Engine, weights: Sequence[tuple[str, torch.Tensor]], arm: Callable[[], Awaitable[None]]
) -> tuple[float, float]:
    """Seconds, and this process's seconds of processor, that an arm takes on an empty prefix cache, which an update of
    the weights leaves.
    """

    async def run() -> tuple[float, float]:
        started, worked = time.perf_counter(), time.process_time()
        await arm()
        return time.perf_counter() - started, time.process_time() - worked

    engine.update_weights(weights, version=engine.version + 1)
    return asyncio.run(run())


def by_episode(requests: Sequence[Request]) -> list[list[Request]]:
    """The requests of each episode in order, episodes in the order in which they began."""
    found: dict[str, list[Request]] = {}
    for request in requests:
        found.setdefault(request.key.rsplit("/", 1)[0], []).append(request)
    return list(found.values())


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Median of the ratios of passes that followed each other, with the least and the greatest."""
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    return {"median": statistics.median(ratios), "least": ratios[0], "greatest": ratios[-1]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=tuple(SIZES), default=list(SIZES))
    parser.add_argument("--driver", choices=("auto", "thread", "process"), default="auto")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--episodes", type=int, default=96)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--check", action="store_true", help="exit 1 where the target is missed")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.smoke:
        options.sizes, options.episodes, options.concurrency, options.repeats = ["1m"], 8, 4, 1
        if importlib.util.find_spec("vllm") is None:
            print("vLLM is not installed here (docs/install.md): there is nothing to run")
            return
    settings = WorldSettings.preset("tiny").model_dump() | {
        "hops": (2, 3),
        "train_questions": min(options.episodes, 400),
        "dev_questions": 0,
        "test_questions": 0,
    }
    record: dict[str, Any] = {"processor": platform.processor(), "cores": os.cpu_count(), "sizes": {}}
    missed = []
    with tempfile.TemporaryDirectory() as scratch:
        world = Path(scratch) / "world"
        make_world(WorldSettings(**settings), world)
        build_index(world / "corpus.jsonl", Path(scratch) / "index")
        questions = read_questions(world / "questions.train.jsonl")
        tokenizer = make_tokenizer(world, questions)
        specs = demonstration_specs(questions, count=options.episodes)
        with open_index(Path(scratch) / "index") as index:
            index.search(["compile the kernels first"], LIMITS.top_k)
            for size in options.sizes:
                folder = make_model(Path(scratch) / size, tokenizer, size)
                figures = measure(folder, options, index, specs, tokenizer)
                record["sizes"][size] = figures
                tell(size, figures, options)
                if figures["episodes / replay"]["median"] < TARGET:
                    missed.append(size)
    if options.json:
        named = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
        options.json.write_text(json.dumps({**named, **record}, indent=2) + "\n", encoding="utf-8")
    if options.check and missed:
        sys.exit(f"the target of {TARGET} is missed: {', '.join(missed)}")


def tell(size: str, figures: dict[str, Any], options: argparse.Namespace) -> None:
    """Print one model's figures."""
    print(
        f"{size}: {figures['parameters'] / 1e6:.1f} M parameters, driver {options.driver}, {options.dtype}; "
        f"{options.episodes} episodes, {options.concurrency} at once, {figures['turns']} turns of "
        f"{figures['tokens a turn']:.0f} tokens after {figures['prompt of a turn']:.0f}, {figures['searches']} searches"
    )
    for name, found in figures["tokens_per_s"].items():
        worked = statistics.median(figures["processor_s"][name])
        print(
            f"   {name:10}{statistics.median(found):9.0f} tokens/s   ({min(found):.0f} to {max(found):.0f}), "
            f"{worked:.2f} s of processor"
        )
    for name in ("episodes / replay", "episodes / at once"):
        found = figures[name]
        print(f"   {name:20} {found['median']:.3f}   ({found['least']:.3f} to {found['greatest']:.3f})")


if __name__ == "__main__":
    main()
