"""How much memory a run's learner and engines take, by arithmetic from the config and the model's sizes.

Weights, gradients, optimiser and the cache of keys and values are exact; activations and what frameworks hold beside
them are estimates. Everything is in bytes, of one process.
"""

from dataclasses import dataclass, fields

from agent.engines.opening import TransformersSpec, VLLMSpec
from train.config import TrainConfig
from train.plan_model import ModelShape
from train.runtime_config import RaySettings

GIB = 1 << 30
WORKER_BYTES = 77 << 20
"""Resident memory of an episode worker: measured, it imports neither torch nor vLLM (benchmarks/scaling.py)."""
FRAMEWORK_BYTES = 3 * GIB
"""What a CUDA context, NCCL's buffers, vLLM's graphs and its largest step take on a GPU: an estimate."""

_BYTES_OF = {"float32": 4, "bfloat16": 2, "float16": 2}
_TILED_ABOVE = 32_768
_CPU_CACHE_GB = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerMemory:
    """Bytes of one learner process.

    `buckets` are DDP's copies of the gradients, which it keeps between steps too; `gathered` is what FSDP puts together
    for a while.
    """

    weights: int
    gradients: int
    buckets: int
    optimiser: int
    reference: int
    activations: int
    logits: int
    gathered: int

    @property
    def total(self) -> int:
        """All parts."""
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMemory:
    """Bytes of one engine on each of its devices; `cache_tokens` is how many tokens its keys and values hold in all.

    None of `cache` and `cache_tokens` says that the device's memory is not known.
    """

    weights: int
    cache: int | None
    cache_tokens: int | None

    @property
    def total(self) -> int:
        """Weights, keys and values."""
        return self.weights + (self.cache or 0)


def num_learners(config: TrainConfig) -> int:
    """Learner processes."""
    return config.runtime.learners if isinstance(config.runtime, RaySettings) else 1


def shards(config: TrainConfig) -> int:
    """Among how many processes weights, gradients and optimiser are divided."""
    return num_learners(config) if config.learner.trl.get("fsdp") else 1


def row_tokens(config: TrainConfig, shape: ModelShape) -> int:
    """The longest trajectory."""
    limit = config.limits.max_trajectory_tokens
    served = config.engine.max_model_len if isinstance(config.engine, VLLMSpec) else None
    return min(limit, shape.window, served or shape.window)


def micro_batch_tokens(config: TrainConfig, shape: ModelShape) -> int:
    """The largest micro-batch: the setting, or one row that is longer."""
    return max(config.learner.max_tokens_per_micro_batch, row_tokens(config, shape))


def learner_memory(config: TrainConfig, shape: ModelShape) -> LearnerMemory:
    """One learner process: weights in float32 unless `learner.trl.model_init_kwargs.dtype` says otherwise."""
    learner = config.learner
    dtype = str(learner.trl.get("model_init_kwargs", {}).get("dtype", "float32")).removeprefix("torch.")
    each = _BYTES_OF.get(dtype, 4)
    trained = shape.parameters
    if learner.peft is not None:
        trained = shape.adapter_parameters(learner.peft.rank, learner.peft.target_modules)
    parts = shards(config)
    tokens = micro_batch_tokens(config, shape)
    saved = shape.saved_per_token(autocast=learner.precision == "bf16")
    checkpointed = learner.gradient_checkpointing
    per_token = (shape.layers * 4 * shape.hidden + saved) if checkpointed else shape.layers * saved
    tiled = shape.vocabulary > _TILED_ABOVE if learner.tiled_lm_head is None else learner.tiled_lm_head
    gradients = (4 if learner.peft is not None else each) * trained
    referred = bool(learner.beta) and learner.peft is None
    held_by_adapters = 4 * trained if learner.peft is not None else 0
    return LearnerMemory(
        weights=(each * shape.parameters + held_by_adapters) // parts,
        gradients=gradients // parts,
        buckets=gradients if num_learners(config) > 1 and parts == 1 else 0,
        optimiser=_optimiser_bytes(str(learner.trl.get("optim", "adamw")), each) * trained // parts,
        reference=each * shape.parameters // parts if referred else 0,
        activations=tokens * per_token,
        logits=0 if tiled else 3 * 4 * tokens * shape.vocabulary,
        gathered=_gathered(shape, 2 if learner.precision == "bf16" else each, referred) if parts > 1 else 0,
    )


def _gathered(shape: ModelShape, each: int, referred: bool) -> int:
    """What FSDP puts together at once: two layers and the embedding of the policy, or a reference as a whole, because
    TRL shards it as one unit.

    A unit is there twice, as it was received and by parameter; what was received is kept until the next unit comes.
    """
    policy = 4 * shape.layer_parameters + shape.vocabulary * shape.hidden
    return each * max(policy, 2 * shape.parameters if referred else 0)


def _optimiser_bytes(name: str, each: int) -> int:
    if "8bit" in name:
        return 2
    return 0 if name in ("sgd", "adafactor") else 2 * each


def engine_memory(config: TrainConfig, shape: ModelShape, gpu_gib: float | None) -> EngineMemory:
    """One engine; `gpu_gib` is the memory of its GPU, None on a CPU.

    vLLM takes the share `gpu_memory_fraction` of a GPU whatever it needs; what weights leave holds keys and values.
    """
    spec = config.engine
    dtype = getattr(spec, "dtype", None) or config.engine_dtype
    if isinstance(spec, VLLMSpec):
        each, parts = _BYTES_OF[dtype], spec.tensor_parallel
        weights = each * shape.parameters // parts
        per_token = shape.kv_bytes_per_token(each)
        if spec.kv_cache_gb is not None or gpu_gib is None:
            cache = int((spec.kv_cache_gb or _CPU_CACHE_GB) * GIB)
        else:
            cache = max(0, int(spec.gpu_memory_fraction * gpu_gib * GIB) - weights - FRAMEWORK_BYTES)
        return EngineMemory(weights=weights, cache=cache, cache_tokens=cache * parts // per_token)
    assert isinstance(spec, TransformersSpec)
    # Its weights stay in float32, and it keeps a slot of the longest trajectory for each row that it decodes.
    rows = min(spec.max_batch, playing(config))
    cache_tokens = rows * row_tokens(config, shape)
    cache = cache_tokens * shape.kv_bytes_per_token(_BYTES_OF[dtype])
    return EngineMemory(weights=4 * shape.parameters, cache=cache, cache_tokens=cache_tokens)


def in_flight(config: TrainConfig) -> int:
    """Most trajectories that have started and are not taken by a step: admission bounds them, not discarding."""
    return (1 + config.rollout.max_staleness) * config.trajectories_per_step


def playing(config: TrainConfig) -> int:
    """Most episodes that are played at once."""
    bound = min(config.rollout.max_concurrent_episodes, in_flight(config))
    if isinstance(config.runtime, RaySettings):
        bound = min(bound, config.runtime.workers * config.runtime.episodes_per_worker)
    return bound


def broadcast_bytes(config: TrainConfig, shape: ModelShape) -> int:
    """A copy of the weights on their way to the engines, in Ray's object store: float32, and two of them at times."""
    return 4 * shape.parameters if isinstance(config.runtime, RaySettings) else 0
