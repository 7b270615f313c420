"""How new weights reach a vLLM that lives in processes of its own.

- `SharedMemory`, on a CPU: one block of memory without a name, written once, which every worker maps through this
  process's file descriptor. It ends with the last process that holds it, so a crash leaves nothing behind.
- `DeviceTransfer`, on GPUs: vLLM's weight-transfer API, by NCCL broadcast or by CUDA IPC handles.
"""

import mmap
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch

from agent.engines.vllm_settings import VLLMSettings

_ALIGNMENT = 64

NamedTensors = Sequence[tuple[str, torch.Tensor]]
SharedEntry = tuple[str, str, list[int], int]
"""A tensor in shared memory: its name, its dtype without `torch.`, its shape, and where it begins, in bytes."""


class RemoteEngine(Protocol):
    """What a transfer asks of the engine; every call waits for its answer, from any thread but the engine's own."""

    def rpc(self, method: str, *args: Any) -> None:
        """Call a method of every worker."""

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """vLLM's `init_weight_transfer_engine`."""

    def start_weight_update(self) -> None:
        """vLLM's `start_weight_update`."""

    def update_weights(self, update_info: Any) -> None:
        """vLLM's `update_weights`."""

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """vLLM's `finish_weight_update`."""


class SharedMemory:
    """Weights through memory that the workers map. It holds one copy of them, during an update."""

    def __init__(self, engine: RemoteEngine) -> None:
        self._engine = engine

    def send(self, named: NamedTensors) -> None:
        """Have every worker load these weights; returns when they have."""
        entries, size = shared_layout(named)
        file = os.memfd_create("waymark-weights", os.MFD_CLOEXEC)
        try:
            os.ftruncate(file, size)
            memory = mmap.mmap(file, size)
            for (_, tensor), (_, _, shape, offset) in zip(named, entries, strict=True):
                flat = torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel(), offset=offset)
                flat.view(shape).copy_(tensor)
            self._engine.rpc("waymark_load_shared", f"/proc/{os.getpid()}/fd/{file}", size, entries)
        finally:
            os.close(file)

    def close(self) -> None:
        """Nothing is kept between updates."""


def shared_layout(named: NamedTensors) -> tuple[list[SharedEntry], int]:
    """Where each tensor lies, every one at a multiple of 64 bytes, and how many bytes that makes."""
    entries: list[SharedEntry] = []
    end = 0
    for name, tensor in named:
        entries.append((name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape), end))
        end += -(-tensor.numel() * tensor.element_size() // _ALIGNMENT) * _ALIGNMENT
    return entries, max(end, _ALIGNMENT)


class DeviceTransfer:
    """Weights by vLLM's own transfer: this process is trainer rank 0, the workers follow.

    `backend` "nccl" broadcasts from this process's GPU to others; "ipc" hands over memory of the same GPU, packed
    through one buffer, for which vLLM's processes pickle the handles to each other.
    """

    def __init__(self, engine: RemoteEngine, backend: str, settings: VLLMSettings) -> None:
        self._engine = engine
        self._dtype = getattr(torch, settings.dtype or "float32")
        self._init_info = trainer_init_info(backend, settings)
        self._source: Any = None
        self._trainer: Any = None

    def send(self, named: NamedTensors) -> None:
        """Have every worker receive these weights; the first call connects."""
        device = torch.device("cuda", torch.cuda.current_device())
        pairs = [(name, tensor.to(device, self._dtype)) for name, tensor in named]
        if self._trainer is None:
            from vllm.distributed.weight_transfer import WeightTransferTrainerFactory

            self._source = weight_source(pairs)
            self._trainer = WeightTransferTrainerFactory.trainer_init(
                self._init_info, client=self._engine, source=self._source
            )
        self._source.pairs = pairs
        try:
            self._trainer.send_weights()
        finally:
            self._source.pairs = []
        self._engine.rpc("waymark_repack_tied_heads")

    def close(self) -> None:
        """Leave the group that NCCL made."""
        if self._trainer is not None:
            self._trainer.shutdown()


def trainer_init_info(backend: str, settings: VLLMSettings) -> Any:
    """vLLM's description of the sending side."""
    if backend == "ipc":
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

        return IPCTrainerInitInfo(rank=0, packed=True)
    from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

    return NCCLTrainerInitInfo(
        rank=0,
        master_address=settings.transfer_host,
        master_port=settings.transfer_port or _free_port(settings.transfer_host),
        world_size=1 + settings.tensor_parallel,
    )


def weight_source(pairs: NamedTensors) -> Any:
    """vLLM's view of the weights to send, whose `pairs` are replaced at every update."""
    from vllm.distributed.weight_transfer import ParamMeta, WeightSource

    class NamedWeights(WeightSource):
        def __init__(self, pairs: NamedTensors) -> None:
            self.pairs = pairs

        def metadata(self) -> list[Any]:
            return [ParamMeta(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in self.pairs]

        def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
            yield from self.pairs

    return NamedWeights(pairs)


Transfer = SharedMemory | DeviceTransfer


def open_transfer(engine: RemoteEngine, settings: VLLMSettings, *, on_cpu: bool) -> Transfer:
    """The way that the settings choose on this machine.

    Raises:
        ValueError: NCCL or CUDA IPC on a machine without a GPU, or a rendezvous at an address of another machine.
    """
    chosen = settings.chosen_transfer(on_cpu=on_cpu)
    makers: dict[str, Callable[[], Transfer]] = {
        "shared_memory": lambda: SharedMemory(engine),
        "nccl": lambda: DeviceTransfer(engine, "nccl", settings),
        "ipc": lambda: DeviceTransfer(engine, "ipc", settings),
    }
    return makers[chosen]()


def _free_port(host: str) -> int:
    try:
        with socket.create_server((host, 0)) as server:
            return int(server.getsockname()[1])
    except OSError as error:
        raise ValueError(
            f"engine.transfer_host is {host}, which is no address of this machine ({error}); give the address of the "
            "machine that the learner runs on"
        ) from error
