"""What an evaluation costs over the bare rollouts that it is made of: the ratio of the two times, in one run.

Times are CPU seconds of this process, which a busy machine does not change; wall times stand beside them. The same
episodes, twice: played by `envs.episode_pool.run_episodes` and forgotten, and by the whole of `waymark evaluate`
without controls (questions read, supports checked, every trajectory stored as it ends, figures with intervals,
report). Both are given an opened index; what loading a model takes is in neither. The policy is a small Qwen2 with
random weights on the engine `transformers`, so that an episode costs what its tokens cost; `--scripted` takes a
program instead, whose actions cost nothing, which is the least favourable case there is. Repeated in turns, medians
compared.

    python -m benchmarks.evaluation_overhead --questions 256 --repeats 3
    python -m benchmarks.evaluation_overhead --smoke                     # seconds: that it runs, not what it measures
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from agent.engines.transformers import load_engine
from agent.hugging_face import load_tokenizer
from agent.protocols.registry import load_protocol
from agent.tiny import build_tiny_policy
from envs.actor import Actor, EngineActor, ScriptedActor
from envs.datasets import read_questions
from envs.episode_pool import run_episodes
from envs.policies.registry import load_policy
from envs.search_env import EpisodeLimits
from envs.world import WorldSettings, make_world
from evaluation.comparability import checkout_commit, hardware
from evaluation.job import EvaluationJob, run_job
from evaluation.run import evaluation_specs
from retrieval.batcher import MicroBatcher
from retrieval.index import build_index, open_index

TARGET = 0.05
BATCH = 64


def bare(
    model: Path, index_folder: Path, questions_file: Path, limit: int, limits: EpisodeLimits, scripted: bool
) -> tuple[float, float]:
    """Wall and CPU seconds of the episodes alone."""
    questions = read_questions(questions_file)[:limit]
    protocol, tokenizer = load_protocol("waymark"), load_tokenizer(str(model))

    async def play() -> tuple[float, float]:
        engine = None if scripted else load_engine(str(model), schedule="deterministic", max_batch=BATCH)
        with open_index(index_folder) as index:
            batcher = MicroBatcher(index)
            actor: Actor = (
                EngineActor(engine, temperature=0.0)
                if engine is not None
                else ScriptedActor(load_policy("expert", protocol), tokenizer)
            )
            began, cpu = time.perf_counter(), time.process_time()
            await run_episodes(
                evaluation_specs(questions),
                actor=actor,
                search=batcher.search,
                protocol=protocol,
                tokenizer=tokenizer,
                limits=limits,
                max_concurrent=BATCH,
            )
            seconds = (time.perf_counter() - began, time.process_time() - cpu)
            await batcher.close()
        if engine is not None:
            await engine.close()
        return seconds

    return asyncio.run(play())


def evaluated(job: EvaluationJob) -> tuple[float, float]:
    """Wall and CPU seconds of the whole evaluation, from the first episode to the last file."""
    began: list[float] = []

    def progress(stage: str, done: int, total: int) -> None:
        del stage, total
        if done == 0:
            began.extend((time.perf_counter(), time.process_time()))

    run_job(job, progress=progress)
    return time.perf_counter() - began[0], time.process_time() - began[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=100, help="new tokens a turn; an untrained policy uses them all")
    parser.add_argument("--scripted", action="store_true", help="a program instead of a model: nothing but overhead")
    parser.add_argument("--smoke", action="store_true", help="seconds, no claim")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    count, repeats, tokens = (8, 1, 8) if options.smoke else (options.questions, options.repeats, options.tokens)
    limits = EpisodeLimits(max_turns=4, max_new_tokens_per_turn=tokens, max_trajectory_tokens=900)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_world(WorldSettings.preset("tiny"), root / "world")
        build_index(root / "world" / "corpus.jsonl", root / "index")
        file = root / "world" / "questions.test.jsonl"
        texts = [question.text for question in read_questions(file)]
        model = build_tiny_policy(
            root / "model", texts, protocol=load_protocol("waymark"), hidden_size=256, num_layers=6, num_heads=4
        )
        times: dict[str, list[tuple[float, float]]] = {"bare": [], "evaluate": []}
        for repeat in range(repeats):
            times["bare"].append(bare(model, root / "index", file, count, limits, options.scripted))
            job = EvaluationJob(
                policy="scripted:expert" if options.scripted else str(model),
                index=root / "index",
                questions=file,
                out=root / f"out-{repeat}",
                limits=limits,
                limit=count,
                max_batch=BATCH,
            )
            times["evaluate"].append(evaluated(job))
    wall = {name: statistics.median(value[0] for value in values) for name, values in times.items()}
    cpu = {name: statistics.median(value[1] for value in values) for name, values in times.items()}
    overhead = cpu["evaluate"] / cpu["bare"] - 1
    print(f"{count} episodes: CPU {cpu['bare']:.2f} s bare, {cpu['evaluate']:.2f} s evaluated (wall {wall})")
    print(f"overhead {overhead:+.1%} of CPU time (target under {TARGET:.0%})")
    if options.json:
        result: dict[str, Any] = {"questions": count, "cpu_s": cpu, "wall_s": wall, "overhead": overhead}
        result |= {"target": TARGET, "hardware": hardware(), "commit": checkout_commit()}
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
