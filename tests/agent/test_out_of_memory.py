"""A run that has no memory left must say what to change: a bare allocator's message sends people searching."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import ray.exceptions
import torch

from agent.engine import EngineError, SamplingParams
from agent.engines.transformers import TransformersEngine
from agent.engines.vllm_requests import engine_error
from agent.out_of_memory import OutOfMemory, is_out_of_memory, names_settings, out_of_memory
from tests.agent.engines.small_engine import TOKENIZER, llama
from tests.conftest import REPOSITORY

TOO_MANY = 1 << 55
ADVICE = ["lower engine.max_batch (4 now)", "take a smaller model"]


def from_torch() -> None:
    torch.empty(TOO_MANY)


def from_numpy() -> None:
    np.zeros(TOO_MANY, dtype=np.int8)


def from_python() -> None:
    bytearray(1 << 62)


@pytest.mark.parametrize("allocate", [from_torch, from_numpy, from_python])
def test_a_failed_allocation_names_the_settings(allocate: Callable[[], None]) -> None:
    with pytest.raises(OutOfMemory) as caught, names_settings("sampling", ADVICE):
        allocate()
    text = str(caught.value)
    assert text.startswith("sampling ran out of memory: lower engine.max_batch (4 now); or take a smaller model. ")
    assert "The allocator said: " in text and caught.value.__cause__ is not None


def test_of_a_gpu_and_of_ray_too() -> None:
    killed = "Task was killed due to the node running low on memory.\nMemory on the node was 120GB / 128GB"
    for error in (
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        ray.exceptions.OutOfMemoryError(killed),
        ray.exceptions.RayActorError(None, killed),
    ):
        assert is_out_of_memory(error), error
        wrapped = EngineError("the engine failed")
        wrapped.__cause__ = error
        assert is_out_of_memory(wrapped)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("shape mismatch"), ValueError("out of memory of the past"), EngineError("closed"), KeyError()],
)
def test_other_errors_pass_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, names_settings("sampling", ADVICE):
        raise error
    assert caught.value is error


def test_the_place_that_is_nearest_is_the_one_that_is_told() -> None:
    outer, inner = names_settings("the step", ["nothing"]), names_settings("sampling", ADVICE)
    with pytest.raises(OutOfMemory, match=r"^sampling ran out"), outer, inner:
        from_torch()
    copy = out_of_memory(OutOfMemory("sampling ran out"), "the step", ["nothing"])
    assert str(copy) == "sampling ran out"


class Greedy(torch.nn.Module):
    """A model whose step wants more memory than any machine has."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = llama()
        self.config = self.inner.config
        self.generation_config = self.inner.generation_config
        self.get_input_embeddings = self.inner.get_input_embeddings
        self.hungry = True

    def forward(self, input_ids: torch.Tensor, **more: object) -> object:
        if self.hungry:
            torch.empty(TOO_MANY)
        return self.inner(input_ids=input_ids, **more)


async def test_the_embedded_engine_names_its_settings_and_goes_on() -> None:
    """Every request that waited is told, and none as an engine failure, which would cost one episode and no more."""
    model = Greedy()
    engine = TransformersEngine(model, TOKENIZER, max_batch=4, eos_token_ids=())  # type: ignore[arg-type]
    params = SamplingParams(max_new_tokens=2)
    for _ in range(2):
        with pytest.raises(OutOfMemory, match=r"lower engine\.max_batch \(4 now\).*DefaultCPUAllocator") as caught:
            await engine.generate([1, 2, 3], params, key="a")
        assert not isinstance(caught.value, EngineError)
    with pytest.raises(OutOfMemory, match=r"^scoring ran out of memory: lower engine\.max_batch"):
        engine.score([1, 2, 3])
    model.hungry = False
    assert len((await engine.generate([1, 2, 3], params, key="a")).token_ids) == 2
    await engine.close()


def test_vllms_drivers_name_theirs() -> None:
    with pytest.raises(RuntimeError) as caught:
        from_torch()
    assert "engine.max_num_seqs" in str(engine_error(caught.value))
    assert isinstance(engine_error(caught.value), OutOfMemory)
    assert type(engine_error(RuntimeError("broken"))) is EngineError


@pytest.mark.slow
def test_a_learner_under_a_limit_of_the_system_names_its_settings(tmp_path: Path) -> None:
    """A real limit on the address space, as a container's: the forward pass of one long micro-batch passes it."""
    code = """
import resource, sys
from pathlib import Path
from tests.train.fakes import random_trajectories, save_policy
from tests.train.test_learner import rows_of
from agent.out_of_memory import OutOfMemory
from train.learner import Learner
from train.learner_config import LearnerConfig
folder = Path(sys.argv[1])
save_policy(folder / "policy", window=4096)
rows, known = rows_of(random_trajectories(600, longest=300, max_turns=4))
def learner(tokens):
    config = LearnerConfig(device="cpu", max_tokens_per_micro_batch=tokens)
    return Learner.create(folder / "policy", None, config, folder / "out")
few, many = learner(2000), learner(10_000_000)
few.update(rows[:4], known)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20), -1))
few.update(rows[:40], known)
try:
    many.update(rows, known)
except OutOfMemory as error:
    print(error)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    told = done.stdout
    assert told.startswith("the learner's step ran out of memory: lower learner.max_tokens_per_micro_batch (10000000 ")
    for setting in ("learner.gradient_checkpointing", "engine.gpu_memory_fraction", "engine.kv_cache_gb"):
        assert setting in told
