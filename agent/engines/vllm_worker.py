"""What vLLM's worker does for Waymark: the class that is mixed into it, in whichever process the worker lives.

vLLM's own reload puts every weight where its kernels read it, fused and packed. It passes over an output head that
shares the embedding's weight, which no checkpoint names: on a CPU that head's packed copy would stay the old one.
"""

import contextlib
import mmap
import os
import select
import signal
import threading
from typing import Any

import torch
import vllm.v1.sample.sampler as sampler
from torch.overrides import TorchFunctionMode
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.platforms import current_platform

OWNER = "WAYMARK_VLLM_OWNER"
"""Environment variable with the process id of whoever started vLLM; set for vLLM's own processes alone."""


class _OwnGenerator(TorchFunctionMode):
    """In this thread, gives `torch.randint` a generator where the call brings none."""

    def __init__(self) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(0)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.randint and "generator" not in (kwargs or {}):
            kwargs = {**(kwargs or {}), "generator": self._generator}
        return func(*args, **(kwargs or {}))


class WaymarkWorker:
    """Mixed into vLLM's worker (`worker_extension_cls`); every method is called by `collective_rpc`."""

    def waymark_load(self, pairs: list[tuple[str, torch.Tensor]]) -> None:
        """Replace all weights, named as in the model's checkpoints, by tensors of this process."""
        self.reload_weights(weights_iterator=iter(pairs))  # type: ignore[attr-defined]
        self.waymark_repack_tied_heads()

    def waymark_load_shared(self, path: str, size: int, entries: list[tuple[str, str, list[int], int]]) -> None:
        """Replace all weights by what lies in `size` bytes of shared memory: name, dtype, shape, offset of each."""
        file = os.open(path, os.O_RDONLY)
        try:
            memory = mmap.mmap(file, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        finally:
            os.close(file)
        pairs = []
        for name, dtype, shape, offset in entries:
            flat = torch.frombuffer(memory, dtype=getattr(torch, dtype), count=torch.Size(shape).numel(), offset=offset)
            pairs.append((name, flat.view(shape)))
        self.waymark_load(pairs)

    def waymark_repack_tied_heads(self) -> None:
        """Give each output head that shares the embedding's weight its packed copy anew."""
        modules = list(self._model().modules())
        embeddings = {
            _address(module)
            for module in modules
            if isinstance(module, VocabParallelEmbedding) and not isinstance(module, ParallelLMHead)
        }
        for module in modules:
            if isinstance(module, ParallelLMHead) and _address(module) in embeddings:
                module.quant_method.process_weights_after_loading(module)

    def waymark_pid(self) -> int:
        """The worker's process."""
        return os.getpid()

    def waymark_clear_cache(self) -> None:
        """Overwrite keys and values. What is not finite there spoils later requests: kernels read whole blocks."""
        for cache in self.model_runner.kv_caches:  # type: ignore[attr-defined]
            cache.zero_()

    def waymark_skip_compiling(self) -> None:
        """Take the sampler's rank count as it is written: compiling it costs an eager engine's first token seconds."""
        count = sampler.batched_count_greater_than
        sampler.batched_count_greater_than = getattr(count, "_torchdynamo_orig_callable", count)

    def waymark_leave_random_state(self) -> None:
        """Let the sampler draw from a generator of its own: on a CPU each step would else advance the process's."""
        if not current_platform.is_cpu():
            return
        chooser = self.model_runner.sampler  # type: ignore[attr-defined]
        forward, own = chooser.forward, _OwnGenerator()

        def with_own_generator(*args: Any, **kwargs: Any) -> Any:
            with own:
                return forward(*args, **kwargs)

        chooser.forward = with_own_generator

    def waymark_scale_logits(self, factor: float) -> None:
        """Multiply the logits of every step from now on: 1 over a temperature, and back."""
        for module in self._model().modules():
            if isinstance(module, LogitsProcessor):
                module.scale *= factor

    def _model(self) -> Any:
        return self.model_runner.get_model()  # type: ignore[attr-defined]


def _address(layer: Any) -> int:
    return int(layer.weight.data_ptr())


def _end_with(owner: int) -> None:
    """Kill this process, and vLLM's between it and its owner, once the owner is gone, however it went."""
    between = os.getppid()

    def wait() -> None:
        with contextlib.suppress(ProcessLookupError):
            poll = select.poll()
            poll.register(os.pidfd_open(owner), select.POLLIN)
            poll.poll()
        if between not in (owner, 1):
            with contextlib.suppress(ProcessLookupError):
                os.kill(between, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="waymark-owner", daemon=True).start()


# vLLM imports this module as soon as its worker begins, before it loads anything.
if OWNER in os.environ and int(os.environ[OWNER]) != os.getpid():
    _end_with(int(os.environ[OWNER]))
