"""An engine that has slept has lost its weights: nothing is sampled before it is given new ones.

vLLM frees nothing on a CPU, but everything around that is here what it is on a GPU.
"""

import asyncio
from pathlib import Path

import pytest

from agent.engine import Completion, SamplingParams
from agent.engines.opening import VLLMSpec, check_engine
from agent.engines.served_model import ServedModel
from agent.engines.vllm import VLLMEngine
from agent.engines.vllm_settings import VLLMSettings, engine_arguments
from tests.agent.engines.served_models import llama_untied, reference, save
from tests.agent.engines.small_engine import PROMPTS

SETTINGS = VLLMSettings(kv_cache_gb=0.1, max_num_seqs=4, block_size=32, max_batched_tokens=300)


def test_sleeping_is_refused_on_a_cpu_and_asked_for_on_a_gpu(tmp_path: Path) -> None:
    folder = save(llama_untied, tmp_path)
    with pytest.raises(ValueError, match=r"engine\.sleep is true, and vLLM runs on the CPU"):
        check_engine(VLLMSpec(sleep=True), folder)
    model = ServedModel(folder)
    settings = VLLMSettings(sleep=True)
    with pytest.raises(ValueError, match=r"engine\.sleep: false"):
        engine_arguments(model, settings, "thread", on_cpu=True)
    assert engine_arguments(model, settings, "thread", on_cpu=False)["enable_sleep_mode"] is True
    assert "enable_sleep_mode" not in engine_arguments(model, VLLMSettings(), "thread", on_cpu=False)


@pytest.mark.slow
@pytest.mark.vllm
def test_requests_wait_from_sleep_until_the_weights_after_it(tmp_path: Path) -> None:
    folder = save(llama_untied, tmp_path)
    engine = VLLMEngine(folder, SETTINGS)
    named = list(reference(folder).named_parameters())

    async def run() -> tuple[Completion, Completion]:
        def ask(key: str) -> "asyncio.Task[Completion]":
            params = SamplingParams(max_new_tokens=20, temperature=0.0)
            return asyncio.create_task(engine.generate(PROMPTS[0], params, key=key))

        before = ask("before")
        while not (engine._thread.num_running or before.done()):
            await asyncio.sleep(0.001)
        await asyncio.to_thread(engine.sleep)
        assert (await before).versions == (0,) * 20, "what runs ends first"
        waiting = ask("waiting")
        await asyncio.to_thread(engine.wake)
        await asyncio.sleep(0.5)
        assert not waiting.done(), "its weights are lost"
        await asyncio.to_thread(engine.update_weights, named, 1)
        return await before, await asyncio.wait_for(waiting, 60)

    try:
        before, after = asyncio.run(run())
    finally:
        asyncio.run(engine.close())
    assert after.versions == (1,) * 20
    assert after.token_ids == before.token_ids, "the weights were the same"
