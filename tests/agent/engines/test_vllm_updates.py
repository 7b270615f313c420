"""New weights in vLLM, in place: after each update it samples what transformers samples with the same weights."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from agent.engine import Completion, EngineError, SamplingParams
from agent.engines.transformers import load_engine
from agent.engines.vllm import VLLMEngine
from agent.engines.vllm_settings import VLLMSettings
from tests.agent.engines.served_models import (
    changed,
    greedy,
    llama_tied,
    llama_untied,
    logprobs_after,
    qwen2_tied,
    qwen3_tied,
    reference,
    save,
)
from tests.agent.engines.small_engine import PROMPTS, TOKENIZER, sample

pytestmark = [pytest.mark.slow, pytest.mark.vllm]

LONG = [(11 * i) % 250 for i in range(100)]


def settings(**options: object) -> VLLMSettings:
    return VLLMSettings.model_validate({"kv_cache_gb": 0.1, "max_num_seqs": 4, "block_size": 32, **options})


def agrees(engine: VLLMEngine, model: PreTrainedModel, version: int, eos: int | None = None) -> None:
    """Greedy ids are those of plain forwards, and greedy and sampled logprobs too; every token says its version."""
    for prompt in ([5, 9, 30], LONG):
        [sure] = sample(engine, [prompt], max_new_tokens=24, temperature=0.0)
        expected = greedy(model, prompt, 24)
        assert list(sure.token_ids) == expected[: len(sure.token_ids)]
        assert len(sure.token_ids) == 24 or sure.token_ids[-1] in (eos, TOKENIZER.eos_token_id)
        [drawn] = sample(engine, [prompt], max_new_tokens=24, temperature=0.8)
        for completion, temperature in ((sure, 0.0), (drawn, 0.8)):
            ids = list(completion.token_ids)
            assert completion.logprobs == pytest.approx(logprobs_after(model, prompt, ids, temperature), abs=2e-4)
            assert set(completion.versions) == {version}


@pytest.mark.parametrize("make", [llama_tied, llama_untied, qwen2_tied, qwen3_tied])
def test_after_each_update_vllm_agrees_with_transformers(make: Callable[[], PreTrainedModel], tmp_path: Path) -> None:
    save(make, tmp_path)
    model = reference(tmp_path)
    ending = greedy(model, [44, 45], 12)[5]
    model.generation_config.eos_token_id = [TOKENIZER.eos_token_id, ending]
    model.generation_config.save_pretrained(tmp_path)
    engine, embedded = VLLMEngine(tmp_path, settings(), version=3), load_engine(tmp_path, device="cpu", version=3)
    [mine], [other] = (sample(one, [[44, 45]], temperature=0.0) for one in (engine, embedded))
    assert mine.finish == other.finish == "eos" and mine.token_ids == other.token_ids
    assert mine.token_ids[-1] == ending, "the end token stays"
    agrees(engine, model, 3, ending)
    for version in (4, 5, 6):
        engine.update_weights(changed(model, version).named_parameters(), version)
        assert engine.version == version
        agrees(engine, model, version, ending)
    asyncio.run(engine.close())
    asyncio.run(embedded.close())


@pytest.fixture(params=["reset", "salt"])
def cache(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def run_through_an_update(engine: VLLMEngine, model: PreTrainedModel, prompt: list[int]) -> list[Completion]:
    """Ten requests, of which four run when the weights change to version 1."""

    async def run() -> list[Completion]:
        tasks = [
            asyncio.create_task(engine.generate(prompt, SamplingParams(max_new_tokens=120, seed=i), key=str(i)))
            for i in range(10)
        ]
        while engine._thread.num_running < 4:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)
        await asyncio.to_thread(engine.update_weights, model.named_parameters(), 1)
        return await asyncio.gather(*tasks)

    return asyncio.run(run())


def test_finish_ends_what_runs_before_the_weights_change(cache: str, tmp_path: Path) -> None:
    old, new = reference(save(llama_tied, tmp_path)), changed(reference(tmp_path), 8)
    engine = VLLMEngine(tmp_path, settings(on_update="finish", prefix_cache_on_update=cache))
    sample(engine, [LONG], max_new_tokens=2)
    completions = run_through_an_update(engine, new, LONG)
    assert {len(set(c.versions)) for c in completions} == {1}
    assert sorted({c.versions[0] for c in completions}) == [0, 1]
    for completion in completions:
        model = (old, new)[completion.versions[0]]
        expected = logprobs_after(model, LONG, list(completion.token_ids), 1.0)
        assert completion.logprobs == pytest.approx(expected, abs=2e-4), "no token was sampled from a mixture"
    asyncio.run(engine.close())


def test_continue_changes_the_weights_between_two_tokens(cache: str, tmp_path: Path) -> None:
    old, new = reference(save(llama_tied, tmp_path)), changed(reference(tmp_path), 8)
    engine = VLLMEngine(tmp_path, settings(on_update="continue", prefix_cache_on_update=cache))
    sample(engine, [LONG], max_new_tokens=2)
    completions = run_through_an_update(engine, new, LONG)
    crossing = [c for c in completions if len(set(c.versions)) == 2]
    assert crossing and all(list(c.versions) == sorted(c.versions) for c in completions)
    assert {c.versions for c in completions if c.versions[0] == 1}, "those that waited have the new weights alone"
    for completion in completions:
        before, ids = completion.versions.count(0), list(completion.token_ids)
        expected = logprobs_after(old, LONG, ids, 1.0)[:before]
        assert completion.logprobs[:before] == pytest.approx(expected, abs=2e-4)
        after = logprobs_after(new, LONG, ids, 1.0)[before:]
        if cache == "reset" or before == 0:
            assert completion.logprobs[before:] == pytest.approx(after, abs=2e-4), "computed anew by the new weights"
    asyncio.run(engine.close())


def test_weights_that_do_not_fit_change_nothing(tmp_path: Path) -> None:
    model = reference(save(llama_tied, tmp_path))
    engine = VLLMEngine(tmp_path, settings())
    good = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    name = "model.layers.0.mlp.up_proj.weight"
    for bad, message in (
        ({**good, "extra": torch.zeros(1)}, "unknown extra"),
        ({k: v for k, v in good.items() if k != name}, f"missing {name}"),
        ({**good, name: torch.zeros(3)}, rf"{name}' has shape \(3,\); the model's has \(96, 64\)"),
        ({**good, "lm_head.weight": torch.ones_like(model.lm_head.weight)}, "tied to another of these names"),
    ):
        with pytest.raises(ValueError, match=message):
            engine.update_weights(bad.items(), 9)
    assert engine.version == 0
    agrees(engine, model, 0)
    engine.update_weights(changed(model, 1).state_dict().items(), 1)  # the tied head under both its names
    agrees(engine, model, 1)
    asyncio.run(engine.close())


def test_weights_that_are_not_finite_fail_requests_and_can_be_replaced(cache: str, tmp_path: Path) -> None:
    model = reference(save(llama_tied, tmp_path))
    engine = VLLMEngine(tmp_path, settings(prefix_cache_on_update=cache))
    broken = {name: torch.full_like(weight, float("nan")) for name, weight in model.named_parameters()}
    engine.update_weights(broken.items(), 1)
    with pytest.raises(EngineError, match=r"the logits of request '000' are not finite: the weights have diverged"):
        sample(engine, PROMPTS[:1])
    engine.update_weights(changed(model, 2).named_parameters(), 2)
    agrees(engine, model, 2)
    asyncio.run(engine.close())


def test_updates_from_several_threads_come_one_after_the_other(tmp_path: Path) -> None:
    save(llama_untied, tmp_path)
    engine = VLLMEngine(tmp_path, settings(on_update="continue"))
    models = {version: changed(reference(tmp_path), version) for version in (1, 2, 3, 4)}
    threads = [
        threading.Thread(target=engine.update_weights, args=(model.named_parameters(), version))
        for version, model in models.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    agrees(engine, models[engine.version], engine.version)
    asyncio.run(engine.close())
