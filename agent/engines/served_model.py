"""What an engine must know of a model that it does not hold as a torch module: another library, or process, serves it.

Everything is read from the model's folder (or its id on the hub) before a server starts: the tokenizer, the end tokens,
the vocabulary, the context window, and the names and shapes that new weights must have.
"""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PretrainedConfig, PreTrainedModel

from agent.engines.loading import eos_tokens, load_model_config, model_window
from agent.engines.named_weights import match_weights
from agent.hugging_face import load_tokenizer

CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""Widths of an attention head that vLLM's CPU kernels take (`CPUAttentionBackend.get_supported_head_sizes`)."""


class ServedModel:
    """A Hugging Face folder or id, without its weights.

    `context_window` is in tokens, prompt and completion; `max_model_len` may make it smaller than the model's own.

    Raises:
        ValueError: no such model, one without a tokenizer, or a `max_model_len` above the model's window.
    """

    def __init__(
        self, path_or_id: str | Path, *, max_model_len: int | None = None, trust_remote_code: bool = False
    ) -> None:
        self.name = str(path_or_id)
        self.trust_remote_code = trust_remote_code
        self.config: PretrainedConfig = load_model_config(path_or_id, trust_remote_code=trust_remote_code)
        self.tokenizer = load_tokenizer(path_or_id, trust_remote_code=trust_remote_code)
        window = model_window(self.config)
        if max_model_len is not None and max_model_len > window:
            raise ValueError(
                f"max_model_len is {max_model_len}, but the context window of {self.name} has {window} tokens; give at "
                "most that, or leave it out"
            )
        self.context_window = max_model_len or window
        self.vocab_size: int = self.config.get_text_config().vocab_size

    @cached_property
    def eos_token_ids(self) -> frozenset[int]:
        """The tokens that end a completion: those of the generation config, and the tokenizer's own."""
        self._skeleton.generation_config = self._generation_config()
        return eos_tokens(self._skeleton, self.tokenizer)

    @property
    def head_size(self) -> int:
        """Width of an attention head."""
        config = self.config.get_text_config()
        return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads

    def check_servable(self, *, on_cpu: bool) -> None:
        """Raises ValueError where vLLM has no attention kernel for the model on this device."""
        if on_cpu and self.head_size not in CPU_HEAD_SIZES:
            raise ValueError(
                f"the attention heads of {self.name} are {self.head_size} wide; on a CPU vLLM serves heads of "
                f"{', '.join(map(str, CPU_HEAD_SIZES))}. Use engine: transformers, or a policy with such heads"
            )

    def match(self, named_tensors: Iterable[tuple[str, torch.Tensor]]) -> list[tuple[str, torch.Tensor]]:
        """The whole set of new weights, each once and under the name that the model's checkpoints give it.

        Raises:
            ValueError: names or shapes that do not fit, as in `match_weights`.
        """
        pairs = match_weights(self._skeleton, named_tensors)
        names = {id(weight): name for name, weight in self._skeleton.named_parameters()}
        return [(names[id(weight)], tensor.detach()) for weight, tensor in pairs]

    @cached_property
    def _skeleton(self) -> PreTrainedModel:
        """The model as transformers builds it, on the meta device: names, shapes and ties, and no memory."""
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(self.config, trust_remote_code=self.trust_remote_code)
        model.tie_weights()
        return model

    def _generation_config(self) -> GenerationConfig:
        try:
            return GenerationConfig.from_pretrained(self.name)
        except OSError:
            return GenerationConfig.from_model_config(self.config)
