"""Models with random weights and a few thousand of them, and one way to sample them."""

import asyncio

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from agent.engine import Completion, SamplingParams
from agent.engines.transformers import TransformersEngine
from tests.agent.tokenizers_for_tests import bpe_tokenizer

TOKENIZER = bpe_tokenizer(["search answer the of and"] * 3, vocab_size=290)
VOCAB = len(TOKENIZER)
SIZES = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def spread(model: PreTrainedModel) -> PreTrainedModel:
    """Weights large enough that the distribution is not flat."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.25)
    return model.eval()


def llama(window: int = 128) -> PreTrainedModel:
    config = LlamaConfig(**SIZES, intermediate_size=48, num_key_value_heads=4, max_position_embeddings=window)
    return spread(LlamaForCausalLM(config))


def qwen2() -> PreTrainedModel:
    config = Qwen2Config(**SIZES, intermediate_size=48, num_key_value_heads=2, max_position_embeddings=128)
    return spread(Qwen2ForCausalLM(config))


def gpt2() -> PreTrainedModel:
    config = GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=128, bos_token_id=0, eos_token_id=0
    )
    return spread(GPT2LMHeadModel(config))


PROMPTS = [[5, 9, 30], [7], [200, 3, 3, 8, 41, 250, 17, 6, 90, 11], [44, 45], [12, 13, 14, 15, 16, 17, 18]]


def sample(
    engine: TransformersEngine, prompts: list[list[int]], seeds: list[int] | None = None, **params: object
) -> list[Completion]:
    """All prompts at once, on a loop of their own; seed = index."""
    options = {"max_new_tokens": 20, **params}

    async def run() -> list[Completion]:
        return await asyncio.gather(
            *(
                engine.generate(p, SamplingParams(seed=seeds[i] if seeds else i, **options), key=f"{i:03d}")
                for i, p in enumerate(prompts)
            )
        )

    return asyncio.run(run())
