"""An allocation that failed, told as what a person can do about it: the settings that decide how much is needed.

    with names_settings("the learner's step", ["lower learner.max_tokens_per_micro_batch (4096 now)"]):
        ...

The libraries say so in many ways: torch has an error of its own on a GPU and a plain RuntimeError on a CPU, numpy and
Python raise MemoryError, and Ray tells of a process that it killed. They are told by their names, so that nothing heavy
is imported here.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_TYPES = frozenset({"MemoryError", "OutOfMemoryError"})
"""Of Python and numpy; of torch, for GPUs, and of Ray."""

_PHRASES = (
    "defaultcpuallocator: can't allocate memory",
    "defaultcpuallocator: not enough memory",
    "cuda out of memory",
    "cuda error: out of memory",
    "cublas_status_alloc_failed",
    "node running low on memory",
    "cannot allocate memory",
)
"""In errors of no type of their own, in lower case."""

VLLM_SETTINGS = (
    "lower engine.max_num_seqs, engine.max_batched_tokens or engine.max_model_len",
    "lower engine.kv_cache_gb on a CPU, engine.gpu_memory_fraction on a GPU",
    "shard over more GPUs (engine.tensor_parallel)",
)
"""What helps where vLLM's step ran out of memory: its cache is taken at the start, its activations are not."""

WORKER_SETTINGS = (
    "fewer processes on this machine (runtime.workers, runtime.engines, runtime.retrievers, runtime.learners)",
    "lower runtime.episodes_per_worker",
    "lower the memory of each engine (engine.kv_cache_gb on a CPU, engine.max_batch or engine.max_num_seqs)",
)
"""What helps where Ray has killed a process because the machine's memory was used up."""


def decoding_settings(max_batch: int) -> tuple[str, ...]:
    """What helps where the embedded engine ran out of memory: keys and values of every row to its longest."""
    return (
        f"lower engine.max_batch ({max_batch} now) or rollout.max_concurrent_episodes",
        "lower limits.max_trajectory_tokens or limits.max_new_tokens_per_turn",
        "set learner.precision: bf16, whose keys and values take half",
    )


class OutOfMemory(ValueError):
    """The settings ask for more memory than there is; the message says which of them to change.

    Not an `EngineError`, which ends one episode: it would come again with the next, so it ends the run.
    """


def is_out_of_memory(error: BaseException) -> bool:
    """True if an error, or what it was raised from, says that memory could not be had."""
    seen: set[int] = set()
    next_error: BaseException | None = error
    while next_error is not None and id(next_error) not in seen:
        seen.add(id(next_error))
        if isinstance(next_error, OutOfMemory) or any(kind.__name__ in _TYPES for kind in type(next_error).__mro__):
            return True
        untyped = isinstance(next_error, (RuntimeError, OSError)) or type(next_error).__module__.startswith("ray.")
        if untyped and any(phrase in str(next_error).lower() for phrase in _PHRASES):
            return True
        next_error = next_error.__cause__
    return False


def out_of_memory(error: BaseException, where: str, settings: Sequence[str]) -> OutOfMemory:
    """The typed error for a failed allocation; one that is typed already comes back as a copy of itself.

    Args:
        error: for which `is_out_of_memory` is true.
        where: what needed the memory, as the beginning of a sentence: "the learner's step".
        settings: what can be done, each a clause: "lower engine.max_batch (256 now)".
    """
    typed: BaseException | None = error
    while typed is not None and not isinstance(typed, OutOfMemory):
        typed = typed.__cause__
    if typed is not None:
        return OutOfMemory(*typed.args)
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    failure = OutOfMemory(f"{where} ran out of memory: {'; or '.join(settings)}. The allocator said: {said}")
    failure.__cause__ = error
    return failure


@contextmanager
def names_settings(where: str, settings: Sequence[str]) -> Iterator[None]:
    """Turn a failed allocation inside the block into `OutOfMemory`; every other error passes."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(error, where, settings) from error
