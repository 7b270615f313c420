"""Models from Hugging Face folders or ids, and what an engine must know of them."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from agent.hugging_face import load_part

_UNBOUNDED_WINDOW = 1 << 20


def load_model(path_or_id: str | Path, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """The causal language model of a folder or Hugging Face id, in float32, from safetensors only.

    Raises:
        ValueError: no model there, or one that cannot be loaded.
    """
    return load_part(  # type: ignore[return-value]
        AutoModelForCausalLM.from_pretrained,
        path_or_id,
        "causal language model",
        dtype=torch.float32,
        use_safetensors=True,
        trust_remote_code=trust_remote_code,
    )


def load_model_config(path_or_id: str | Path, *, trust_remote_code: bool = False) -> PretrainedConfig:
    """The config of a folder's or id's model, without its weights: a cheap look before anything is spent.

    Raises:
        ValueError: no model there; a folder without weights in safetensors counts as none.
    """
    folder = Path(path_or_id)
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"the model folder {folder} has no weights (*.safetensors). Save them there with "
            "model.save_pretrained(folder)"
        )
    return load_part(AutoConfig.from_pretrained, path_or_id, "model config", trust_remote_code=trust_remote_code)  # type: ignore[return-value]


def eos_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens that end a completion: those of the generation config, and the tokenizer's own."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = configured if isinstance(configured, (list, tuple)) else [configured]
    return frozenset(i for i in (*ids, tokenizer.eos_token_id) if i is not None)


def check_cache(model: PreTrainedModel) -> None:
    """Raises ValueError where a model keeps other state than keys and values."""
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    other = sorted(kinds - {"full_attention", "sliding_attention"})
    if other or getattr(model, "_is_stateful", False):
        raise ValueError(
            f"{type(model).__name__} keeps more than keys and values ({', '.join(other) or 'a recurrent state'}); this "
            "engine serves models whose layers all attend (Llama, Qwen2, Qwen3, Mistral, GPT-2 and the like)"
        )


# Decoder models of transformers that hand a ready-made attention mask to torch's attention as it is, and find
# positions by `position_ids` alone.
_TAKE_4D_MASKS = frozenset({"llama", "qwen2", "qwen3", "mistral", "granite", "olmo2", "smollm3"})


def takes_4d_masks(model: PreTrainedModel) -> bool:
    """True if a row can go on from keys and values that are in the cache, beside rows of other lengths."""
    config = model.config.get_text_config()
    return config.model_type in _TAKE_4D_MASKS and getattr(config, "_attn_implementation", None) == "sdpa"


def model_window(config: PretrainedConfig) -> int:
    """The positions of a model's config; where attention slides, only as many as it never slides over."""
    config = config.get_text_config()
    window = next(
        (int(v) for n in ("max_position_embeddings", "n_positions", "max_seq_len") if (v := getattr(config, n, None))),
        _UNBOUNDED_WINDOW,
    )
    kinds = getattr(config, "layer_types", None)
    sliding = getattr(config, "sliding_window", None)
    slides = bool(sliding) and (kinds is None or any(kind != "full_attention" for kind in kinds))
    return min(window, int(sliding)) if slides and sliding else window
