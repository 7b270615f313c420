"""Episodes that wait for nobody, against lock-step batching: trajectories a second at equal concurrency.

Lock-step is what Search-R1's rollout loop does: the whole batch samples a turn, waits for its longest completion, the
whole batch searches, and so on until its last episode has ended; only then does the next batch begin. Here an episode
goes on as soon as its own completion and its own search are there, and the next episode takes its place at once.

Episodes, environment and index are real; the policy is a scripted one that errs at random, which gives the spread of
lengths and of turns (printed). Time is simulated: a decoding step takes --step-ms whatever is in the batch, a search
--search-ms more than it does, so that the schedule alone is compared.

Beside it stands a real engine on this machine, playing the same episodes over the same slowed index: an untrained model
samples as many tokens as the policy's actions have (`benchmarks.vllm_rollouts`). On a CPU a decoding step costs less
the fewer rows it has, so a batch that thins out wastes less there than on a GPU, and lock-step loses less.

    python -m benchmarks.lock_step
    python -m benchmarks.lock_step --concurrency 32 --episodes 512
    python -m benchmarks.lock_step --engine vllm         # the real engine; "none" leaves it out
    python -m benchmarks.lock_step --smoke               # seconds: that it runs, not what it measures
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from agent.engine import Completion
from agent.engines.loading import load_model
from agent.engines.opening import TransformersSpec, VLLMSpec, open_engine
from agent.trajectory import ToolCall, Trajectory
from benchmarks.demonstrations import LIMITS, PROTOCOL, make_tokenizer
from benchmarks.vllm_rollouts import SIZES, ForcedActor, make_model
from envs.actor import ActionRequest, Actor, ScriptedActor, stable_seed
from envs.datasets import read_questions
from envs.episode import EpisodeSpec, Search
from envs.episode_pool import run_episodes
from envs.policies.demonstrations import demonstration_specs, direct_search
from envs.policies.expert import ExpertPolicy
from envs.policies.noisy import NoiseRates, NoisyPolicy
from envs.search_env import Finished, SearchEnv
from envs.world import WorldSettings, make_world
from retrieval.index import build_index, open_index
from retrieval.passage import Hit

RATES = NoiseRates(wrong_query=0.4, repeated_query=0.1, early_answer=0.2, wrong_answer=0.5, endless_search=0.15)


class TimedActor:
    """An actor whose completions take so long as decoding them would, a constant time a token."""

    context_window = None

    def __init__(self, actor: Actor, step_s: float) -> None:
        self._actor = actor
        self._step_s = step_s

    def episode(self) -> AbstractContextManager[None]:
        """Nothing to announce."""
        return nullcontext()

    async def act(self, request: ActionRequest) -> Completion:
        """The other actor's action, after the time that its tokens take."""
        completion = await self._actor.act(request)
        await asyncio.sleep(len(completion.token_ids) * self._step_s)
        return completion


def slowed(search: Search, seconds: float) -> Search:
    """A search that takes so much longer."""

    async def slow(query: str, k: int) -> list[Hit]:
        await asyncio.sleep(seconds)
        return await search(query, k)

    return slow


async def in_lock_step(
    specs: Sequence[EpisodeSpec], actor: Actor, search: Search, tokenizer: PreTrainedTokenizerBase, concurrency: int
) -> list[tuple[str, int]]:
    """Play batch after batch, turn after turn; tells each episode's id and number of turns."""
    ended = []
    envs = [SearchEnv(PROTOCOL, tokenizer, LIMITS) for _ in range(min(concurrency, len(specs)))]
    for first in range(0, len(specs), concurrency):
        batch = list(zip(specs[first : first + concurrency], envs, strict=False))
        for spec, env in batch:
            env.reset(spec.question.wording(spec.view))
        live = batch
        while live:
            completions = await asyncio.gather(*(actor.act(_request(spec, env)) for spec, env in live))
            steps = [env.act(completion) for (_, env), completion in zip(live, completions, strict=True)]
            calls = [() if isinstance(step, Finished) else step.calls for step in steps]
            found = await asyncio.gather(*(_searched(search, [call.argument for call in one]) for one in calls))
            for (_, env), step, results in zip(live, steps, found, strict=True):
                if not isinstance(step, Finished):
                    env.observe(results)
            live = [(spec, env) for spec, env in live if env.finish_reason is None]
        ended += [(spec.id, len(env.turns)) for spec, env in batch]
    return ended


def _request(spec: EpisodeSpec, env: SearchEnv) -> ActionRequest:
    return ActionRequest(
        key=f"{spec.id}/{len(env.turns):04d}",
        token_ids=env.token_ids,
        question=spec.question,
        view=spec.view,
        turns=env.turns,
        max_new_tokens=env.max_new_tokens,
        stop=env.protocol.stop,
        seed=stable_seed(spec.seed, len(env.turns)),
    )


async def _searched(search: Search, queries: Sequence[str]) -> list[ToolCall]:
    hits = await asyncio.gather(*(search(query, LIMITS.top_k) for query in queries))
    return [
        ToolCall(tool="search", argument=query, hits=tuple(one), status="ok" if one else "empty", latency_s=0.0)
        for query, one in zip(queries, hits, strict=True)
    ]


def spread(trajectories: Sequence[Trajectory]) -> dict[str, object]:
    """Turns of the episodes, and quantiles of the tokens of a turn."""
    turns = [trajectory.num_turns for trajectory in trajectories]
    tokens = sorted(len(turn.action_ids) for trajectory in trajectories for turn in trajectory.turns)
    return {
        "turns": {n: turns.count(n) for n in sorted(set(turns))},
        "tokens a turn, min median max": (tokens[0], tokens[len(tokens) // 2], tokens[-1]),
    }


Rates = dict[str, list[float]]


def compare(
    specs: Sequence[EpisodeSpec],
    actor: Actor,
    search: Search,
    tokenizer: PreTrainedTokenizerBase,
    *,
    concurrency: int,
    rounds: int,
    before: Callable[[], None] = lambda: None,
) -> tuple[Rates, list[Trajectory]]:
    """Trajectories a second of both arms, in turns; `before` each arm the engine forgets what it has read."""
    rates: Rates = {"own pace": [], "lock step": []}
    trajectories: list[Trajectory] = []
    for _ in range(rounds):
        before()
        started = time.perf_counter()
        trajectories = asyncio.run(
            run_episodes(
                specs,
                actor=actor,
                search=search,
                protocol=PROTOCOL,
                tokenizer=tokenizer,
                limits=LIMITS,
                max_concurrent=concurrency,
            )
        )
        rates["own pace"].append(len(specs) / (time.perf_counter() - started))
        before()
        started = time.perf_counter()
        stepped = asyncio.run(in_lock_step(specs, actor, search, tokenizer, concurrency))
        rates["lock step"].append(len(specs) / (time.perf_counter() - started))
        assert stepped == [(t.id, t.num_turns) for t in trajectories], "the two arms play other episodes"
    return rates, trajectories


def tell(name: str, rates: Rates) -> dict[str, object]:
    """Print both arms' rates and their ratio."""
    ratios = sorted(own / stepped for own, stepped in zip(rates["own pace"], rates["lock step"], strict=True))
    print(name)
    for arm, found in rates.items():
        print(f"   {arm:12}{statistics.median(found):10.1f} trajectories/s")
    print(f"   own pace / lock step {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    return {"rates": rates, "ratio": statistics.median(ratios)}


def on_a_real_engine(
    specs: Sequence[EpisodeSpec],
    script: ScriptedActor,
    search: Search,
    tokenizer: PreTrainedTokenizerBase,
    options: argparse.Namespace,
    folder: Path,
) -> Rates:
    """Both arms on an engine of this process that serves an untrained model."""
    make_model(folder, tokenizer, options.size)
    kinds: dict[str, Callable[[], TransformersSpec | VLLMSpec]] = {
        "transformers": TransformersSpec,
        "vllm": partial(VLLMSpec, max_num_seqs=options.concurrency),
    }
    engine = open_engine(kinds[options.engine](), folder)
    weights = [(name, weight.detach()) for name, weight in load_model(folder).named_parameters()]
    try:
        rates, _ = compare(
            specs,
            ForcedActor(engine, script),
            search,
            tokenizer,
            concurrency=options.concurrency,
            rounds=options.rounds,
            before=lambda: engine.update_weights(weights, engine.version + 1),
        )
    finally:
        asyncio.run(engine.close())
    return rates


def main() -> None:
    """Measure both arms in turns and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=512)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--step-ms", type=float, default=10.0, help="of one decoding step")
    parser.add_argument("--search-ms", type=float, default=50.0, help="of one search")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", choices=("transformers", "vllm", "none"), default="transformers")
    parser.add_argument("--engine-episodes", type=int, default=192, help="that the real engine plays")
    parser.add_argument("--size", choices=tuple(SIZES), default="1m", help="of the real engine's model")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.smoke:
        options.episodes, options.concurrency, options.rounds, options.step_ms = 32, 8, 1, 1.0
        options.engine_episodes = 8
    settings = WorldSettings.preset("tiny").model_dump() | {
        "hops": (2, 3),
        "train_questions": min(options.episodes, 400),
        "dev_questions": 0,
        "test_questions": 0,
    }
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as scratch:
        world = Path(scratch) / "world"
        make_world(WorldSettings(**settings), world)
        build_index(world / "corpus.jsonl", Path(scratch) / "index")
        questions = read_questions(world / "questions.train.jsonl")
        tokenizer = make_tokenizer(world, questions)
        script = ScriptedActor(NoisyPolicy(ExpertPolicy(PROTOCOL), RATES), tokenizer)
        specs = demonstration_specs(questions, count=options.episodes)
        with open_index(Path(scratch) / "index") as index:
            search = slowed(direct_search(index), options.search_ms / 1000)
            simulated = TimedActor(script, options.step_ms / 1000)
            rates, trajectories = compare(
                specs, simulated, search, tokenizer, concurrency=options.concurrency, rounds=options.rounds
            )
            lengths = spread(trajectories)
            print(
                f"{options.episodes} episodes, {options.concurrency} at once; "
                + ", ".join(f"{k} {v}" for k, v in lengths.items())
            )
            figures["simulated"] = tell(f"simulated engine, {options.step_ms:g} ms a step", rates)
            if options.engine != "none":
                few = specs[: options.engine_episodes]
                rates = on_a_real_engine(few, script, search, tokenizer, options, Path(scratch) / "model")
                name = f"{options.engine}, model {options.size}, {torch.get_num_threads()} threads, {len(few)} episodes"
                figures[options.engine] = tell(name, rates)
    if options.json:
        record = {**vars(options), "json": str(options.json), "figures": figures, "lengths": lengths}
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
