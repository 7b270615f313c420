"""How a learner's model runs forward: without dropout, and on a CPU with attention in float32 inside bf16.

PyTorch's fused attention on CPUs takes twice as long backwards in bf16 as in float32 (measured at 300 tokens, head size
32), which made a bf16 step of a small policy as slow as a float32 one. Only queries, keys and values are cast.
"""

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "sdpa_float32"
_DROPOUT_RATES = ("attention_dropout", "activation_dropout", "hidden_dropout", "dropout", "attn_pdrop")


def _attend_in_float32(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    if attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask.float()
    with torch.autocast(query.device.type, enabled=False):
        output, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), attention_mask, **options)
    return output.to(query.dtype), None


AttentionInterface.register(NAME, _attend_in_float32)
AttentionMaskInterface.register(NAME, sdpa_mask)


def attend_in_float32(model: PreTrainedModel) -> None:
    """Switch a model from PyTorch's fused attention to the same in float32; other implementations are left alone."""
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)


def switch_off_dropout(model: torch.nn.Module) -> None:
    """Attention keeps its dropout rate as a number, which TRL's `disable_dropout` does not reach."""
    for module in model.modules():
        for name in _DROPOUT_RATES:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
