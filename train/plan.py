"""What a run will do, in words and numbers, before it does anything: who runs where, what fits, what a step holds.

    policy       ...                       batch        questions x samples, rows a rank, micro-batches
    processes    engine 0 on GPU 0, ...    budget       prompt + turns x (action + observation) against the limits
    memory       learner, engines, host    rollouts     in flight, at what age

A plan is made of the config and of `PlanInputs` alone, so one of a recipe can be read on a machine that lacks its
model, data and GPUs. `problems` are what no start can cure: the run is refused. `warnings` are told and pass.
"""

import math
import os
from dataclasses import dataclass

from agent.engines.opening import VLLMSpec
from train.assembly import Parts
from train.config import TrainConfig
from train.config_file import ConfigError
from train.plan_fit import Fit, fit_of
from train.plan_inputs import PlanInputs, inputs_of
from train.plan_memory import (
    GIB,
    WORKER_BYTES,
    broadcast_bytes,
    engine_memory,
    in_flight,
    learner_memory,
    micro_batch_tokens,
    num_learners,
    playing,
    row_tokens,
    shards,
)
from train.plan_placement import processes, told_share
from train.plan_rewards import budget_words, reward_lines
from train.runtime_config import RaySettings

_UNKNOWN = "not known here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The plan's lines, what should be known, what forbids a start, and which inputs are not on this machine."""

    lines: tuple[str, ...]
    warnings: tuple[str, ...]
    problems: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def text(self) -> str:
        """Everything, a line each."""
        more = (("warning", self.warnings), ("problem", self.problems), ("missing", self.missing))
        return "\n".join([*self.lines, *(_line(kind, each) for kind, of_kind in more for each in of_kind)])

    def check(self) -> None:
        """Raises ConfigError where the run cannot go as planned."""
        if self.problems:
            raise ConfigError("this run does not fit:\n  " + "\n  ".join(self.problems))


def plan_of(config: TrainConfig, parts: Parts) -> str:
    """The plan of a run whose parts are all here, as text."""
    return make_plan(config, inputs_of(config, parts)).text


def make_plan(config: TrainConfig, inputs: PlanInputs, *, gpu_gib: float | None = None) -> Plan:
    """The plan; `gpu_gib` is the memory of this machine's GPU, where the config states none (None: torch is asked)."""
    fit = fit_of(config, inputs.shape, gpu_gib=gpu_gib)
    lines = [
        *_what_is_trained(config, inputs),
        *_batch(config, inputs),
        *_budget(config, inputs),
        *_rollouts(config, inputs, fit),
        *(_line(name, text) for name, text in reward_lines(config)),
        *_processes(config),
        *_memory(config, inputs, fit),
        _line("threads", _threads(config)),
    ]
    return Plan(
        lines=tuple(lines),
        warnings=(*inputs.warnings, *_token_warnings(config, inputs), *fit.warnings),
        problems=fit.problems,
        missing=inputs.missing,
    )


def _line(name: str, text: str) -> str:
    return f"{name:<12} {text}"


def _what_is_trained(config: TrainConfig, inputs: PlanInputs) -> list[str]:
    shape, data = inputs.shape, config.data
    size = f"{shape.parameters / 1e6:,.1f} M parameters, window {shape.window:,} tokens" if shape else _UNKNOWN
    passages = f"{inputs.num_passages:,} passages" if inputs.num_passages is not None else _UNKNOWN
    questions = _UNKNOWN
    if inputs.num_train:
        epochs = config.steps * config.rollout.questions_per_step / inputs.num_train
        questions = f"{inputs.num_train:,} to train on ({epochs:.2f} epochs)"
    dev = _UNKNOWN if inputs.num_dev is None else f"{inputs.num_dev:,}"
    learner = config.learner
    how = "all weights" if learner.peft is None else f"LoRA of rank {learner.peft.rank}"
    return [
        _line("policy", f"{config.policy.model}: {size}; {how}, {learner.precision}"),
        _line("index", f"{data.index}: {passages}, top {config.limits.top_k}"),
        _line("questions", f"{questions}, {dev} dev"),
        _line("cold start", _cold_start(config)),
    ]


def _batch(config: TrainConfig, inputs: PlanInputs) -> list[str]:
    rollout, ranks = config.rollout, num_learners(config)
    per_step = config.trajectories_per_step
    lines = [
        _line(
            "batch",
            f"{rollout.questions_per_step} questions x {_unit(config)} = {per_step} "
            f"trajectories a step, {config.steps} steps, {per_step * config.steps:,} trajectories"
            f"{budget_words(config)}",
        )
    ]
    rows = math.ceil(rollout.questions_per_step / ranks) * config.trajectories_per_unit
    words = f"{ranks} rank{'s' if ranks > 1 else ''} of at most {rows:,} rows"
    if inputs.shape is not None:
        longest, together = row_tokens(config, inputs.shape), micro_batch_tokens(config, inputs.shape)
        passes = math.ceil(rows / max(1, together // longest))
        words += (
            f"; at most {per_step * longest:,} tokens a step, in at most {passes:,} micro-batches a rank of "
            f"{together:,} tokens ({together // longest} rows of {longest:,})"
        )
    if config.learner.updates_per_batch > 1:
        words += f"; {config.learner.updates_per_batch} updates on each batch"
    return [*lines, _line("learner", words)]


def _unit(config: TrainConfig) -> str:
    """What is sampled for a question, in words."""
    if config.rollout.unit.kind == "group":
        return f"{config.rollout.samples_per_question} samples"
    return f"at most {config.trajectories_per_unit} trajectories of a {config.rollout.unit.kind}"


def _longest_episode(config: TrainConfig, prompt: int) -> int:
    limits = config.limits
    actions = limits.max_turns * limits.max_new_tokens_per_turn
    return prompt + actions + (limits.max_turns - 1) * limits.max_observation_tokens


def _budget(config: TrainConfig, inputs: PlanInputs) -> list[str]:
    limits, prompts = config.limits, inputs.prompt_tokens
    lengths = f"prompts of {prompts[0]} to {prompts[1]} tokens" if prompts else f"prompts: {_UNKNOWN}"
    needed = ""
    if prompts:
        needed = (
            f"; the longest episode {prompts[1]} + {limits.max_turns} x {limits.max_new_tokens_per_turn} + "
            f"{limits.max_turns - 1} x {limits.max_observation_tokens} = {_longest_episode(config, prompts[1]):,}"
        )
    window = f", window {inputs.shape.window:,}" if inputs.shape else ""
    return [
        _line(
            "budget",
            f"{lengths}; {limits.max_turns} turns of at most {limits.max_new_tokens_per_turn} new tokens and "
            f"{limits.max_observation_tokens} observation tokens{needed}; {limits.max_trajectory_tokens:,} tokens a "
            f"trajectory{window}",
        )
    ]


def _token_warnings(config: TrainConfig, inputs: PlanInputs) -> list[str]:
    limits, shape = config.limits, inputs.shape
    found = []
    if inputs.prompt_tokens:
        longest = _longest_episode(config, inputs.prompt_tokens[1])
        if longest > limits.max_trajectory_tokens:
            found.append(
                f"the longest episode has {longest:,} tokens and limits.max_trajectory_tokens is "
                f"{limits.max_trajectory_tokens:,}: passages of its last observations are cut, and some end as "
                "token_limit"
            )
    if shape is not None and (room := row_tokens(config, shape)) < limits.max_trajectory_tokens:
        found.append(
            f"limits.max_trajectory_tokens is {limits.max_trajectory_tokens:,}, but the engine takes {room:,} tokens: "
            "an episode ends there"
        )
    return found


def _rollouts(config: TrainConfig, inputs: PlanInputs, fit: Fit) -> list[str]:
    rollout = config.rollout
    age = (
        "each step's own policy"
        if rollout.max_staleness == 0
        else f"policies at most {rollout.max_staleness} versions old"
    )
    words = (
        f"{age}; at most {in_flight(config):,} trajectories begun and not yet learned from, {playing(config):,} played "
        f"at once; groups without spread: {rollout.zero_variance}"
    )
    lines = [_line("rollouts", words)]
    spec = config.engine
    schedule = f", schedule {spec.chosen_schedule(in_step=config.in_step)}" if spec.kind == "transformers" else ""
    words = f"{spec.kind}, {getattr(spec, 'dtype', None) or config.engine_dtype}{schedule}"
    if isinstance(spec, VLLMSpec):
        words += f", tensor parallel {spec.tensor_parallel}, {spec.max_num_seqs} sequences at once"
        words += f", updates: {spec.on_update}"
    if inputs.shape is not None:
        memory = engine_memory(config, inputs.shape, fit.engine_gpu_gib)
        longest = row_tokens(config, inputs.shape)
        engines = config.runtime.engines if isinstance(config.runtime, RaySettings) else 1
        each = math.ceil(playing(config) / engines)
        if memory.cache_tokens is not None:
            words += (
                f"; keys and values of {memory.cache_tokens:,} tokens, {memory.cache_tokens // longest:,} whole "
                f"trajectories of {longest:,}, for {each:,} episodes"
            )
    return [*lines, _line("engine", words)]


def _processes(config: TrainConfig) -> list[str]:
    if not isinstance(config.runtime, RaySettings):
        return [_line("process", "one: engine and learner take turns on the same device")]
    where = config.runtime.address or os.environ.get("RAY_ADDRESS") or "a Ray of its own on this machine"
    lines = [_line("runtime", f"ray, {where}, {config.runtime.layout}")]
    for group in processes(config):
        if group.role == "run":
            does = "coordinates" if num_learners(config) > 1 else "learns, beside what Ray reserves"
            lines.append(_line("process", f"this one {does}"))
            continue
        names = f"{group.role} 0" + (f" to {group.count - 1}" if group.count > 1 else "")
        on = ""
        if group.devices:
            on = ": " + ", ".join(f"{i} on GPU {_numbers(each)}" for i, each in enumerate(group.devices))
        lines.append(_line("process", f"{names}, {told_share(group)} each{on}"))
    return lines


def _numbers(devices: tuple[int, ...]) -> str:
    return str(devices[0]) if len(devices) == 1 else f"{devices[0]}-{devices[-1]}"


def _memory(config: TrainConfig, inputs: PlanInputs, fit: Fit) -> list[str]:
    shape = inputs.shape
    if shape is None:
        return [_line("memory", _UNKNOWN)]
    learner = learner_memory(config, shape)
    parts = {
        "weights": learner.weights,
        "gradients": learner.gradients,
        "DDP's copies of them": learner.buckets,
        "optimiser": learner.optimiser,
        "reference": learner.reference,
        "put together by FSDP": learner.gathered,
        f"activations of {micro_batch_tokens(config, shape):,} tokens about": learner.activations,
        "logits about": learner.logits,
    }
    told = ", ".join(f"{name} {_gib(size)}" for name, size in parts.items() if size)
    divided = f", divided among {shards(config)}" if shards(config) > 1 else ""
    lines = [_line("memory", f"learner{divided}: {told}: {_gib(learner.total)} GiB{_of(fit.learner_gpu_gib)}")]
    engine = engine_memory(config, shape, fit.engine_gpu_gib)
    spec = config.engine
    dtype = getattr(spec, "dtype", None) or config.engine_dtype
    each = shape.kv_bytes_per_token(2 if dtype == "bfloat16" else 4)
    cache = "" if engine.cache is None else f", keys and values {_gib(engine.cache)} ({each:,} bytes a token)"
    lines.append(
        _line(
            "memory",
            f"engine: weights {_gib(engine.weights)}{cache}: {_gib(engine.total)} GiB{_of(fit.engine_gpu_gib)}",
        )
    )
    host = []
    if copy := broadcast_bytes(config, shape):
        host.append(f"weights on their way to the engines {_gib(copy)} GiB in Ray's object store, two copies at times")
    if inputs.index_bytes:
        host.append(f"index {_gib(inputs.index_bytes)} GiB on disk, mapped once a machine")
    if isinstance(config.runtime, RaySettings):
        host.append(f"{config.runtime.workers} workers of {WORKER_BYTES >> 20} MiB")
    return [*lines, *([_line("memory", "host: " + "; ".join(host))] if host else [])]


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}" if size >= GIB / 10 else f"{size / GIB:.3f}"


def _of(gpu_gib: float | None) -> str:
    return "" if gpu_gib is None else f" of {gpu_gib:g}"


def _threads(config: TrainConfig) -> str:
    own = os.environ.get("OMP_NUM_THREADS", "not bounded")
    words = f"{own} in this process (--threads)"
    if isinstance(config.runtime, RaySettings):
        groups = [group for group in processes(config) if group.role in ("engine", "retriever", "worker")]
        words += "; " + ", ".join(f"each {group.role} {max(1, int(group.cpus))}" for group in groups)
    return words


def _cold_start(config: TrainConfig) -> str:
    if config.cold_start is None:
        return "none"
    return "; then ".join(
        f"{phase.steps} steps of {phase.batch_size} demonstrations"
        + (f" cut after {phase.max_turns} actions" if phase.max_turns else "")
        for phase in config.cold_start.phases
    )
