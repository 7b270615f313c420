"""What a plan must know of a model: its sizes, read from its config alone, without weights.

The number of parameters is counted on a skeleton of the model as transformers builds it, on the meta device, so that
ties, biases and norms are what they are.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from agent.engines.loading import model_window
from agent.hugging_face import load_part


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Sizes of a causal language model.

    Attributes:
        parameters: weights, tied ones once.
        layers, hidden, intermediate: blocks, width of the residual stream, width of a block's MLP.
        heads, kv_heads, head_dim: of attention.
        vocabulary: rows of the output head.
        window: most tokens of an episode.
        embeddings: matrices of vocabulary x hidden: 1 where the output head is the input's, else 2.
    """

    parameters: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    window: int
    embeddings: int = 1

    @property
    def layer_parameters(self) -> int:
        """Weights of one block, the final norm's shared among them."""
        return (self.parameters - self.embeddings * self.vocabulary * self.hidden) // self.layers

    def kv_bytes_per_token(self, bytes_per_value: int) -> int:
        """Keys and values of one token in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * bytes_per_value

    def saved_per_token(self, *, autocast: bool) -> int:
        """Bytes that one layer keeps for the backward pass, per token: an estimate, near what torch saves.

        The residual stream is float32 at two norms, each with its normalised copy; under bf16 autocast the matrices'
        inputs and outputs (queries, keys, values, the attended values, the MLP's four inner tensors) have 2 bytes.
        """
        small = 2 if autocast else 4
        attended = (2 * self.heads + 2 * self.kv_heads) * self.head_dim
        return 2 * (4 + 4 + small) * self.hidden + small * (2 * attended + 4 * self.intermediate)

    def adapter_parameters(self, rank: int, targets: str | tuple[str, ...]) -> int:
        """Weights of LoRA adapters of a rank on all matrices (`all-linear`), or on those named."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        sides = {
            "q_proj": self.hidden + queries,
            "k_proj": self.hidden + keys,
            "v_proj": self.hidden + keys,
            "o_proj": queries + self.hidden,
            **dict.fromkeys(("gate_proj", "up_proj", "down_proj"), self.hidden + self.intermediate),
        }
        named = (targets,) if isinstance(targets, str) else targets
        chosen = sides if targets == "all-linear" else {name: sides[name] for name in sides if name in named}
        return rank * self.layers * sum(chosen.values())


def read_shape(path_or_id: str | Path, *, trust_remote_code: bool = False) -> ModelShape:
    """The sizes of a folder's or id's model; its weights may be missing.

    Raises:
        ValueError: no config there, or one of a model that is no causal language model.
    """
    config = load_part(AutoConfig.from_pretrained, path_or_id, "model config", trust_remote_code=trust_remote_code)
    assert isinstance(config, PretrainedConfig)
    text = config.get_text_config()
    with torch.device("meta"):
        model = load_part(
            lambda _, **options: AutoModelForCausalLM.from_config(config, **options),
            path_or_id,
            "causal language model",
            trust_remote_code=trust_remote_code,
        )
    assert isinstance(model, torch.nn.Module)
    heads = text.num_attention_heads
    head = model.get_output_embeddings()  # type: ignore[operator]
    own_head = head is not None and head.weight is not model.get_input_embeddings().weight  # type: ignore[operator]
    return ModelShape(
        parameters=sum(weight.numel() for weight in model.parameters()),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        heads=heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // heads,
        vocabulary=text.vocab_size,
        window=model_window(config),
        embeddings=2 if own_head else 1,
    )
