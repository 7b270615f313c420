"""Weights of which each rank holds a shard (FSDP2): made whole, and put back.

Making whole is a collective: every rank must ask for the same tensors in the same order, also those that have no use
for them. Tensors that are whole already cost nothing here.
"""

from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor


def compute_in_bf16(plugin: Any) -> None:
    """Let accelerate's FSDP plugin gather weights in bf16, and keep everything that is added up or read in float32.

    Accelerate's own policy for bf16 also sums gradients over ranks in bf16, and casts what a model returns: logprobs
    that were computed in float32 would come back with three digits.
    """
    plugin.mixed_precision_policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16, reduce_dtype=torch.float32, output_dtype=None
    )


def is_sharded(model: nn.Module) -> bool:
    """True if ranks hold shards of this model's weights."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The whole tensor, on every rank."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def as_held(tensor: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A whole tensor of a parameter's shape, held as the parameter is: its shard on this rank."""
    if not isinstance(parameter, DTensor) or tensor.shape != parameter.shape:
        return tensor
    moved = tensor.to(parameter.to_local().device)
    return distribute_tensor(moved, parameter.device_mesh, parameter.placements, src_data_rank=None)
