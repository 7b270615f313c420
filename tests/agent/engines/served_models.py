"""Folders of small models that vLLM's CPU kernels take: heads 32 wide, random weights, the tests' tokenizer."""

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.agent.engines.small_engine import TOKENIZER, VOCAB, spread

SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": TOKENIZER.eos_token_id,
}


def llama_tied() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True))


def llama_untied() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=False))


def qwen2_tied() -> PreTrainedModel:
    return Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True))


def qwen3_tied() -> PreTrainedModel:
    return Qwen3ForCausalLM(Qwen3Config(**SIZES, tie_word_embeddings=True))


def save(make: Callable[[], PreTrainedModel], folder: Path) -> Path:
    """The model's folder, with weights large enough that the distribution is not flat."""
    model = spread(make())
    model.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


def reference(folder: Path) -> PreTrainedModel:
    """The folder's model in transformers."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def changed(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """The same model with other weights, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * (0.1 if weight.dim() > 1 else 0.05))
    return model


def logprobs_after(model: PreTrainedModel, prompt: list[int], sampled: list[int], temperature: float) -> list[float]:
    """What a plain forward says of the sampled tokens."""
    ids = torch.tensor([[*prompt, *sampled]])
    with torch.no_grad():
        logprobs = (model(ids).logits[0, :-1] / (temperature or 1.0)).log_softmax(-1)
    return logprobs.gather(1, ids[0, 1:, None])[len(prompt) - 1 :, 0].tolist()


def greedy(model: PreTrainedModel, prompt: list[int], count: int) -> list[int]:
    """The likeliest continuation, one forward a token."""
    ids = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]
