"""What giving an engine new weights costs: as a share of the quickstart's step, and against a copy of the same bytes.

    python -m benchmarks.weight_update                    # the quickstart's model, and one of 30 M parameters
    python -m benchmarks.weight_update --smoke            # that it runs, not what it measures

The step is a real one: the training loop runs a few steps of the quickstart's own recipe (its world, its limits, 96
trajectories a step, without the cold start), and the metrics' seconds tell the median `step` and its `sync`. An
untrained policy writes until it is cut off, so its steps may be longer than a trained one's and the shares smaller.

Then each way is timed on the same weights, in turns with a plain copy of as many bytes (memcpy, through numpy):

- `embedded`: `TransformersEngine.update_weights`, copied in place in this process.
- `vllm thread`: vLLM's own reload in this process.
- `vllm process`: through shared memory into vLLM's process. It has its own core for it.
- `ray`: packed, put into Ray's object store, told to the board, and taken by an engine's actor
  (`RayCrew.update_weights`); the engine there is the embedded one.

vLLM's CPU kernels take no head of 16: for it the quickstart's model is built with 4 heads in place of 8, which has as
many weights. Nothing is sampled meanwhile: what an update waits for under `on_update: finish` is not its own cost.
"""

import argparse
import asyncio
import importlib.util
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from agent.engine import Engine
from agent.engines.loading import load_model
from agent.engines.opening import TransformersSpec, VLLMSpec, open_engine
from agent.hugging_face import load_tokenizer
from benchmarks.vllm_rollouts import make_model
from train.config import check_config
from train.quickstart import default_study_path
from train.run import train
from train.study import Study, load_study
from train.testbed import prepare_testbed
from train.tracking import METRICS_FILE, read_metrics

TARGET = 0.02
Named = Sequence[tuple[str, torch.Tensor]]


def step_seconds(folder: Path, steps: int, questions: int) -> dict[str, float]:
    """Median seconds of the phases of the quickstart's steps; the first, which warms up, is left out."""
    study = Study(load_study(default_study_path()), folder)
    prepare_testbed(study.config.testbed, study.testbed.folder)
    data = study.base_config().model_dump(mode="json", exclude_unset=True)
    data |= {"steps": steps, "cold_start": None, "evaluate_every": 0, "checkpoint_every": 0, "save_trajectories": False}
    data["rollout"]["questions_per_step"] = questions
    train(check_config(data, source="weight_update"), folder / "run")
    rows = [row for row in read_metrics(folder / "run" / METRICS_FILE) if "seconds/step" in row][1:]
    names = ("rollout", "score", "credit", "update", "sync", "step")
    return {name: statistics.median(row[f"seconds/{name}"] for row in rows) for name in names}


def with_wide_heads(policy: Path, folder: Path) -> Path:
    """A policy with as many weights whose heads vLLM's CPU kernels take."""
    config = AutoConfig.from_pretrained(policy)
    config.head_dim = 32
    config.num_attention_heads = config.num_key_value_heads = config.hidden_size // config.head_dim
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    load_tokenizer(policy).save_pretrained(folder)
    return folder


@asynccontextmanager
async def opened(spec: TransformersSpec | VLLMSpec, folder: Path) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """An engine of this process, as what gives it new weights."""
    engine: Engine = open_engine(spec, folder)

    async def update(named: Named, version: int) -> None:
        engine.update_weights(named, version)

    try:
        yield update
    finally:
        await engine.close()


@asynccontextmanager
async def on_ray(folder: Path) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """A crew with one engine, as what gives it new weights."""
    import ray

    from envs.crew_settings import CrewSettings
    from envs.ray_crew import RayCrew

    path = os.pathsep.join([str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    runtime = {"env_vars": {"PYTHONPATH": path}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, runtime_env=runtime)
    try:
        crew = RayCrew(
            open_engine=partial(open_engine, TransformersSpec(), str(folder)),
            make_worker=lambda ask, replicas: None,  # type: ignore[arg-type, return-value]
            settings=CrewSettings(engines=1, workers=0),
            name="weight-update",
        )
        async with crew:
            yield crew.update_weights
    finally:
        ray.shutdown()


async def timed(update: Callable[..., Awaitable[None]], named: Named, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of each update, and of the copy after it; the first two of each warm up."""
    source = np.concatenate([tensor.detach().numpy().ravel() for _, tensor in named])
    target = np.empty_like(source)
    updates, copies = [], []
    for repeat in range(repeats + 2):
        started = time.perf_counter()
        await update(named, repeat + 1)
        between = time.perf_counter()
        np.copyto(target, source)
        updates.append(between - started)
        copies.append(time.perf_counter() - between)
    return updates[2:], copies[2:]


def measure(folder: Path, wide: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The figures of each way for one model: `folder`'s, and for vLLM that with wide heads."""
    ways: dict[str, tuple[Path, Callable[[Path], object]]] = {
        "embedded": (folder, partial(opened, TransformersSpec())),
        "vllm thread": (wide, partial(opened, VLLMSpec(driver="thread", kv_cache_gb=0.25))),
        "vllm process": (wide, partial(opened, VLLMSpec(driver="process", kv_cache_gb=0.25))),
        "ray": (folder, on_ray),
    }
    for name in options.ways:
        model, way = ways[name]
        loaded = load_model(model)
        named = [(weight, tensor.detach().clone()) for weight, tensor in loaded.named_parameters()]
        size = sum(tensor.numel() * tensor.element_size() for _, tensor in named)

        async def run(named: Named = named, model: Path = model, way: Callable = way) -> tuple[list[float], ...]:
            async with way(model) as update:
                return await timed(update, named, options.repeats)

        updates, copies = asyncio.run(run())
        yield {
            "way": name,
            "megabytes": size / 1e6,
            "milliseconds": {
                "median": 1e3 * statistics.median(updates),
                "least": 1e3 * min(updates),
                "greatest": 1e3 * max(updates),
            },
            "gigabytes_per_s": size / statistics.median(updates) / 1e9,
            "memcpy_gigabytes_per_s": size / statistics.median(copies) / 1e9,
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = ["embedded", "vllm thread", "vllm process", "ray"]
    parser.add_argument("--ways", nargs="+", choices=every, default=every)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--check", action="store_true", help="exit 1 where the target is missed")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    questions = 12
    if options.smoke:
        options.steps, options.repeats, options.ways, questions = 2, 2, ["embedded", "vllm thread"], 2
        if importlib.util.find_spec("vllm") is None:
            options.ways.remove("vllm thread")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        step = step_seconds(folder / "study", options.steps, questions)
        told = ", ".join(f"{name} {seconds:.3f}" for name, seconds in step.items())
        print(f"seconds of a step: {told}; sync is {step['sync'] / step['step']:.2%} of it", flush=True)
        policy = folder / "study" / "testbed" / "policy"
        models = {"quickstart": (policy, with_wide_heads(policy, folder / "wide"))}
        if not options.smoke:
            large = make_model(folder / "30m", load_tokenizer(policy), "30m")
            models["30m"] = (large, large)
        for name, (narrow, wide) in models.items():
            for row in measure(narrow, wide, options):
                rows.append({"model": name, **row})
                milliseconds = row["milliseconds"]
                share = milliseconds["median"] / 1e3 / step["step"]
                print(
                    f"{name:12}{row['way']:14}{row['megabytes']:7.1f} MB {milliseconds['median']:8.2f} ms "
                    f"({milliseconds['least']:.2f} to {milliseconds['greatest']:.2f})"
                    + (f", {share:6.2%} of the step" if name == "quickstart" else "")
                    + f", {row['gigabytes_per_s']:.2f} GB/s beside memcpy's {row['memcpy_gigabytes_per_s']:.2f}",
                    flush=True,
                )
    shares = {
        row["way"]: row["milliseconds"]["median"] / 1e3 / step["step"] for row in rows if row["model"] == "quickstart"
    }
    shares["the loop's own sync"] = step["sync"] / step["step"]
    if options.json:
        record = {**vars(options), "json": str(options.json), "step": step, "shares": shares, "ways": rows}
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    missed = [name for name, share in shares.items() if share >= TARGET]
    if options.check and missed:
        sys.exit(f"an update takes {TARGET:.0%} of a step or more: {', '.join(missed)}")


if __name__ == "__main__":
    main()
