"""vLLM's thread when things go wrong: whoever waits is told, whoever comes later too, and nothing hangs."""

import asyncio
import gc
import os
import random
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from agent.engine import EngineError, SamplingParams
from agent.engines.vllm import VLLMEngine
from agent.engines.vllm_settings import VLLMSettings
from tests.agent.engines.served_models import changed, llama_tied, reference, save
from tests.agent.engines.small_engine import sample

pytestmark = [pytest.mark.slow, pytest.mark.vllm]

SETTINGS = VLLMSettings(kv_cache_gb=0.1, max_num_seqs=2, block_size=32)


def start(folder: Path) -> VLLMEngine:
    return VLLMEngine(save(llama_tied, folder), SETTINGS)


def outcomes(engine: VLLMEngine, spoil: object) -> list[object]:
    """Five requests, of which two run when `spoil(engine)` is called in another thread."""

    async def run() -> list[object]:
        tasks = [
            asyncio.create_task(engine.generate([4], SamplingParams(max_new_tokens=250, seed=i), key=str(i)))
            for i in range(5)
        ]
        while engine._thread.num_running < 2:
            await asyncio.sleep(0.001)
        spoiling = asyncio.create_task(asyncio.to_thread(spoil, engine))  # type: ignore[arg-type]
        async with asyncio.timeout(60):
            return [*await asyncio.gather(*tasks, return_exceptions=True), *await asyncio.gather(spoiling)]

    return asyncio.run(run())


def test_an_exception_in_the_thread_fails_all_who_wait_and_all_who_come_later(tmp_path: Path) -> None:
    engine = start(tmp_path)

    def spoil(engine: VLLMEngine) -> None:
        def break_step(vllm: object) -> None:
            def step() -> None:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")

            vllm.step = step  # type: ignore[attr-defined]

        engine._thread.call(break_step, alone=False)

    failures = outcomes(engine, spoil)[:5]
    assert all(isinstance(f, EngineError) and "RuntimeError: CUDA error: an illegal" in str(f) for f in failures)
    assert len({id(f) for f in failures}) == 5
    for later in (
        lambda: sample(engine, [[4]]),
        lambda: engine.score([4, 5]),
        lambda: engine.update_weights(reference(tmp_path).named_parameters(), 1),
    ):
        with pytest.raises(EngineError, match="the engine failed: RuntimeError: CUDA error"):
            later()
    asyncio.run(engine.close())
    again = start(tmp_path)
    assert len(sample(again, [[4]])[0].token_ids) == 20
    asyncio.run(again.close())


def test_an_update_that_breaks_halfway_ends_the_engine(tmp_path: Path) -> None:
    engine = start(tmp_path)

    def break_loading(vllm: object) -> None:
        worker = vllm.model_executor.driver_worker.worker  # type: ignore[attr-defined]
        whole = worker.model_runner.get_model().load_weights

        def half(weights: object) -> None:
            pairs = list(weights)  # type: ignore[call-overload]
            whole(iter(pairs[: len(pairs) // 2]))
            raise OSError("the learner went away")

        worker.model_runner.get_model().load_weights = half

    engine._thread.call(break_loading, alone=True)
    with pytest.raises(EngineError, match="the engine failed: OSError: the learner went away"):
        engine.update_weights(changed(reference(tmp_path), 1).named_parameters(), 1)
    assert engine.version == 0
    with pytest.raises(EngineError, match="the learner went away"):
        sample(engine, [[4]])
    asyncio.run(engine.close())


def test_closing_fails_who_waits_ends_the_thread_and_frees_the_model(tmp_path: Path) -> None:
    engine = start(tmp_path)
    model = weakref.ref(
        engine._thread.call(lambda vllm: vllm.model_executor.driver_worker.worker.model_runner.get_model(), alone=True)
    )
    failures = outcomes(engine, lambda engine: asyncio.run(engine.close()))[:5]
    assert [str(f) for f in failures] == ["the engine was closed"] * 5
    asyncio.run(engine.close())
    with pytest.raises(EngineError, match=r"the engine (is|was) closed"):
        sample(engine, [[4]])
    assert not [thread for thread in threading.enumerate() if thread.name == "waymark-vllm"]
    gc.collect()
    assert model() is None, "the weights are still held"
    assert not torch.distributed.is_initialized()


def test_one_engine_at_a_time_and_the_next_after_it(tmp_path: Path) -> None:
    first = start(tmp_path)
    with pytest.raises(ValueError, match=r"this process has an open vLLM engine.*close that engine first"):
        VLLMEngine(tmp_path, SETTINGS)
    before = sample(first, [[4]])
    asyncio.run(first.close())
    second = VLLMEngine(tmp_path, SETTINGS, version=7)
    [after] = sample(second, [[4]])
    assert after.token_ids == before[0].token_ids and set(after.versions) == {7}
    asyncio.run(second.close())


def test_a_process_with_a_group_of_its_own_is_refused(tmp_path: Path) -> None:
    save(llama_tied, tmp_path / "model")
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        with pytest.raises(ValueError, match=r"has a torch\.distributed group.*set driver: process"):
            VLLMEngine(tmp_path / "model", SETTINGS)
    finally:
        torch.distributed.destroy_process_group()


def test_starting_and_sampling_leave_the_process_as_it_was(tmp_path: Path) -> None:
    folder = save(llama_tied, tmp_path)
    numbers = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index,union-attr]
    threads, cores, setter = torch.get_num_threads(), os.sched_getaffinity(0), torch.set_num_threads
    kept = {
        name: os.environ.get(name) for name in ("LD_PRELOAD", "LOCAL_WORLD_SIZE", "OMP_NUM_THREADS", "HF_HUB_OFFLINE")
    }
    engine = VLLMEngine(folder, SETTINGS)
    sample(engine, [[4]])
    assert torch.equal(numbers[0], torch.get_rng_state()) and random.getstate() == numbers[2]
    assert (np.random.get_state()[1] == numbers[1]).all()  # type: ignore[index]
    assert (torch.get_num_threads(), os.sched_getaffinity(0), torch.set_num_threads) == (threads, cores, setter)
    assert {name: os.environ.get(name) for name in kept} == kept
    asyncio.run(engine.close())


def test_too_little_memory_names_the_setting_to_change(tmp_path: Path) -> None:
    save(llama_tied, tmp_path)
    with pytest.raises(
        ValueError, match=r"could not start .* Change engine.gpu_memory_fraction .*, engine.kv_cache_gb"
    ):
        VLLMEngine(tmp_path, VLLMSettings(kv_cache_gb=0.0001))
    asyncio.run(start(tmp_path).close())


def test_an_engine_that_nobody_closed_does_not_hold_back_the_exit(tmp_path: Path) -> None:
    save(llama_tied, tmp_path)
    code = (
        "import asyncio\n"
        "from agent.engine import SamplingParams\n"
        "from agent.engines.vllm import VLLMEngine\n"
        "from agent.engines.vllm_settings import VLLMSettings\n"
        f"engine = VLLMEngine({str(tmp_path)!r}, VLLMSettings(kv_cache_gb=0.1))\n"
        "done = asyncio.run(engine.generate([4], SamplingParams(max_new_tokens=3), key='a'))\n"
        "print(len(done.token_ids))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.split() == ["3"]
    said = [line for line in done.stderr.splitlines() if "NUMA binding" not in line]
    assert said == [], "vLLM is quiet"


def test_a_request_that_vllm_refuses_fails_alone_and_one_that_breaks_it_fails_with_all_that_joined(
    tmp_path: Path,
) -> None:
    from vllm.exceptions import VLLMValidationError

    engine = start(tmp_path)

    def spoil(name: str, error: Exception) -> None:
        def replace(vllm: object) -> None:
            whole = vllm.add_request  # type: ignore[attr-defined]

            def add_request(id: str, *args: object) -> None:
                if id.startswith(name):
                    raise error
                whole(id, *args)

            vllm.add_request = add_request  # type: ignore[attr-defined]

        engine._thread.call(replace, alone=False)

    async def run(*keys: str) -> list[object]:
        asked = (engine.generate([4], SamplingParams(max_new_tokens=3, seed=1), key=key) for key in keys)
        async with asyncio.timeout(60):
            return await asyncio.gather(*asked, return_exceptions=True)

    spoil("refused", VLLMValidationError("no such thing"))
    refused, served = asyncio.run(run("refused", "served"))
    assert isinstance(refused, EngineError) and "vLLM refuses request 'refused': no such thing" in str(refused)
    assert len(served.token_ids) == 3  # type: ignore[attr-defined]
    spoil("broken", RuntimeError("out of blocks"))
    failures = asyncio.run(run("served", "broken", "later"))
    assert all(isinstance(f, EngineError) and "RuntimeError: out of blocks" in str(f) for f in failures[1:])
    asyncio.run(engine.close())


def test_it_starts_beside_an_index_whose_kernels_are_compiled(tmp_path: Path) -> None:
    import numba  # noqa: F401  (brings llvmlite, whose objects vLLM 0.32 cannot look at)

    engine = start(tmp_path)
    assert len(sample(engine, [[4]])[0].token_ids) == 20
    asyncio.run(engine.close())


def test_an_end_token_beyond_the_models_vocabulary_is_not_named_to_vllm_which_would_refuse_the_request() -> None:
    from types import SimpleNamespace

    from agent.engines.vllm_requests import checked_sampling

    model = SimpleNamespace(vocab_size=50, context_window=100, eos_token_ids=frozenset({3, 50}))
    assert checked_sampling(model, [4], SamplingParams(max_new_tokens=5)).stop_token_ids == [3]  # type: ignore[arg-type]
