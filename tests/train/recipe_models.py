"""The models that the recipes name, as folders without weights: their real sizes, and a small tokenizer.

The sizes are those of each model's own config.json on the Hugging Face hub.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PretrainedConfig, Qwen2Config, Qwen3Config

from tests.agent.chat_templates import QWEN3
from tests.agent.tokenizers_for_tests import bpe_tokenizer, chat_tokenizer

_QWEN25: dict[str, Any] = {"vocab_size": 151_936, "max_position_embeddings": 32_768, "rope_theta": 1e6}
CONFIGS: dict[str, PretrainedConfig] = {
    "Qwen/Qwen2.5-3B": Qwen2Config(
        **_QWEN25,
        hidden_size=2048,
        intermediate_size=11_008,
        num_hidden_layers=36,
        num_attention_heads=16,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    ),
    "Qwen/Qwen2.5-7B": Qwen2Config(
        **{**_QWEN25, "vocab_size": 152_064, "max_position_embeddings": 131_072},
        hidden_size=3584,
        intermediate_size=18_944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    ),
    "Qwen/Qwen3-4B": Qwen3Config(
        vocab_size=151_936,
        max_position_embeddings=40_960,
        hidden_size=2560,
        intermediate_size=9728,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        tie_word_embeddings=True,
    ),
}
PARAMETERS = {"Qwen/Qwen2.5-3B": 3_085_938_688, "Qwen/Qwen2.5-7B": 7_615_616_512, "Qwen/Qwen3-4B": 4_022_468_096}
"""What the hub says of each model's weights."""


def write_model(name: str, folder: Path, *, weights: bool) -> Path:
    """Config and tokenizer of a model that a recipe names; `weights` adds a file of weights that holds none."""
    folder.mkdir(parents=True)
    config = CONFIGS[name]
    config.architectures = [f"{type(config).__name__.removesuffix('Config')}ForCausalLM"]
    config.save_pretrained(folder)
    texts = ["who is the mayor of the town where the poet was born?", "Answer the given question."]
    if name == "Qwen/Qwen3-4B":
        control, tags = ["<|im_start|>", "<|im_end|>"], ["<tool_call>", "</tool_call>"]
        tokenizer = chat_tokenizer(texts, QWEN3, control=control, end_of_turn="<|im_end|>", tags=tags)
    else:
        tokenizer = bpe_tokenizer(texts, chat=True)
    tokenizer.save_pretrained(folder)
    if weights:
        save_file({"none": torch.zeros(1)}, folder / "model.safetensors")
    return folder
