"""Whether a run fits the GPUs that it names: what each holds against what it has."""

import importlib.util
from collections import defaultdict
from dataclasses import dataclass

import torch

from agent.engines.opening import VLLMSpec
from agent.engines.served_model import CPU_HEAD_SIZES
from train.config import TrainConfig
from train.plan_memory import FRAMEWORK_BYTES, GIB, engine_memory, learner_memory, num_learners, row_tokens, shards
from train.plan_model import ModelShape
from train.plan_placement import processes
from train.runtime_config import LocalSettings, RaySettings

ASSUMED_GIB = 79.0
"""What a GPU sold with 80 GB has: taken for the plan where neither config nor machine says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Memory of the GPU under the engine and under the learner in GiB (None: a CPU), and what does not fit."""

    engine_gpu_gib: float | None
    learner_gpu_gib: float | None
    warnings: tuple[str, ...]
    problems: tuple[str, ...]


def fit_of(config: TrainConfig, shape: ModelShape | None, *, gpu_gib: float | None = None) -> Fit:
    """Hold what every GPU has to hold against its memory: that of the config, of this machine, or an assumed 80 GB."""
    here = _memory_here() if gpu_gib is None else gpu_gib
    runtime = config.runtime
    on_gpu_here = here is not None and config.learner.device == "auto"
    if not isinstance(runtime, RaySettings):
        known = here if on_gpu_here else None
        return _checked(config, shape, engine=here, learner=known, stated=True)
    stated = runtime.gpu_memory_gb or here
    size = stated or ASSUMED_GIB
    learner = size if runtime.learner_gpus or (runtime.learners == 1 and on_gpu_here) else None
    return _checked(
        config, shape, engine=size if runtime.engine_gpus else None, learner=learner, stated=stated is not None
    )


def _memory_here() -> float | None:
    if not torch.cuda.is_available():
        return None
    return float(torch.cuda.get_device_properties(0).total_memory) / GIB


def _checked(
    config: TrainConfig, shape: ModelShape | None, *, engine: float | None, learner: float | None, stated: bool
) -> Fit:
    warnings, problems = list(_settings_warnings(config)), list(_settings_problems(config))
    if shape is not None:
        problems += _unservable(config, shape, on_cpu=engine is None)
        for device, holds in _held(config, shape, engine, learner).items():
            size = engine if engine is not None else learner
            assert size is not None
            needed = sum(holds.values()) / GIB
            if needed <= size:
                continue
            told = " + ".join(f"{name} {held / GIB:.1f}" for name, held in holds.items())
            cure = _cure(config, holds)
            line = f"GPU {device} would hold {needed:.1f} GiB ({told}) and has {size:g}: {cure}"
            (problems if stated else warnings).append(line)
        if engine is not None or isinstance(config.engine, VLLMSpec):
            tokens = engine_memory(config, shape, engine).cache_tokens
            longest = row_tokens(config, shape)
            if tokens is not None and tokens < longest:
                problems.append(
                    f"the engine has room for the keys and values of {tokens:,} tokens, and one trajectory may have "
                    f"{longest:,}: raise engine.gpu_memory_fraction (GPU), engine.kv_cache_gb or "
                    "engine.tensor_parallel, or lower limits.max_trajectory_tokens and engine.max_model_len"
                )
    if not stated and (engine is not None or learner is not None):
        warnings.append(f"a GPU is assumed to have {ASSUMED_GIB:g} GiB; say so with runtime.gpu_memory_gb")
    return Fit(engine_gpu_gib=engine, learner_gpu_gib=learner, warnings=tuple(warnings), problems=tuple(problems))


def _held(
    config: TrainConfig, shape: ModelShape, engine: float | None, learner: float | None
) -> dict[int, dict[str, int]]:
    """What each GPU holds at its fullest, in bytes by name; a process with several has its share on each."""
    held: dict[int, dict[str, int]] = defaultdict(dict)
    engine_bytes = learner_bytes = 0
    if engine is not None:
        engine_bytes = engine_memory(config, shape, engine).total + FRAMEWORK_BYTES
    if learner is not None:
        learner_bytes = learner_memory(config, shape).total + FRAMEWORK_BYTES
    if not isinstance(config.runtime, RaySettings):
        for name, size in (("engine", engine_bytes), ("learner", learner_bytes)):
            if size:
                held[0][name] = size
        return _taking_turns(config, shape, held) if config.engine_sleeps and learner is not None else held
    for group in processes(config):
        size = {"engine": engine_bytes, "learner": learner_bytes}.get(group.role, 0)
        for i, devices in enumerate(group.devices):
            for device in devices:
                if size:
                    held[device][f"{group.role} {i}"] = size
    if config.engine_sleeps and learner is not None:
        return _taking_turns(config, shape, held)
    return held


def _taking_turns(config: TrainConfig, shape: ModelShape, held: dict[int, dict[str, int]]) -> dict[int, dict[str, int]]:
    """While the engine runs the learner keeps its state; while it sleeps the learner has what its framework leaves."""
    memory = learner_memory(config, shape)
    kept = memory.weights + memory.buckets + memory.optimiser + memory.reference + FRAMEWORK_BYTES
    stepping = memory.total + FRAMEWORK_BYTES
    fullest = {}
    for device, holds in held.items():
        engines = {name: size for name, size in holds.items() if name.startswith("engine")}
        learners = [name for name in holds if name.startswith("learner")]
        sampling = engines | {f"state of {name}": kept for name in learners}
        asleep = {f"sleeping {name}": FRAMEWORK_BYTES for name in engines if learners}
        stepping_now = dict.fromkeys(learners, stepping) | asleep
        fullest[device] = max((sampling, stepping_now), key=lambda each: sum(each.values()))
    return fullest


def _cure(config: TrainConfig, holds: dict[str, int]) -> str:
    cures = []
    if any("engine" in name for name in holds) and len(holds) > 1:
        cures.append("lower engine.gpu_memory_fraction")
    if any("learner" in name for name in holds):
        if shards(config) < num_learners(config):
            cures.append("divide the learner's state with learner.trl: {fsdp: true}")
        elif shards(config) > 1:
            cures.append("raise runtime.learners")
        elif isinstance(config.runtime, RaySettings):
            cures.append("raise runtime.learners and set learner.trl: {fsdp: true}")
        if not config.learner.gradient_checkpointing:
            cures.append("set learner.gradient_checkpointing: true")
        cures.append("lower learner.max_tokens_per_micro_batch, or train adapters with learner.peft")
    return ", ".join(cures) or "raise engine.tensor_parallel"


def _unservable(config: TrainConfig, shape: ModelShape, *, on_cpu: bool) -> list[str]:
    """What vLLM could not serve on the engine's device."""
    engine, found = config.engine, []
    if not isinstance(engine, VLLMSpec):
        return []
    if on_cpu and shape.head_dim not in CPU_HEAD_SIZES:
        found.append(
            f"the attention heads of {config.policy.model} are {shape.head_dim} wide; on a CPU vLLM serves heads of "
            f"{', '.join(map(str, CPU_HEAD_SIZES))}: use engine: transformers, or a policy with such heads"
        )
    if engine.max_model_len is not None and engine.max_model_len > shape.window:
        found.append(
            f"engine.max_model_len is {engine.max_model_len:,}, but the model's window has {shape.window:,} tokens: "
            "give at most that, or leave it out"
        )
    if isinstance(config.runtime, LocalSettings) and importlib.util.find_spec("vllm") is None:
        found.append("engine is vllm, which is not installed: docs/install.md says how, or use engine: transformers")
    return found


def _settings_warnings(config: TrainConfig) -> list[str]:
    runtime, found = config.runtime, []
    if config.learner.trl.get("fsdp") and num_learners(config) == 1:
        found.append("learner.trl.fsdp divides nothing with one learner: set runtime.learners, or remove it")
    if isinstance(runtime, RaySettings):
        capacity = runtime.workers * runtime.episodes_per_worker
        if capacity < config.trajectories_per_step:
            found.append(
                f"{runtime.workers} workers of {runtime.episodes_per_worker} episodes play {capacity} of a step's "
                f"{config.trajectories_per_step} trajectories at once: raise runtime.workers or episodes_per_worker"
            )
        if runtime.learners == 1 and runtime.engine_gpus and runtime.layout == "disaggregated":
            found.append(
                "with one learner this process learns on the first GPU that it sees, which Ray may give to an engine "
                "too: set CUDA_VISIBLE_DEVICES for it, or runtime.learners to 2 or more with learner_gpus: 1"
            )
    return found


def _settings_problems(config: TrainConfig) -> list[str]:
    runtime, engine = config.runtime, config.engine
    found = []
    if (
        isinstance(runtime, RaySettings)
        and isinstance(engine, VLLMSpec)
        and runtime.engine_gpus
        and max(1.0, runtime.engine_gpus) != engine.tensor_parallel
    ):
        found.append(
            f"runtime.engine_gpus is {runtime.engine_gpus:g} and engine.tensor_parallel {engine.tensor_parallel}: "
            "an engine uses as many GPUs as it divides its layers among; make them equal"
        )
    if isinstance(runtime, RaySettings) and runtime.learners > config.rollout.questions_per_step:
        found.append(
            f"runtime.learners is {runtime.learners} and rollout.questions_per_step "
            f"{config.rollout.questions_per_step}: groups stay whole, so some learners would have nothing; make the "
            "second at least as large"
        )
    return found
