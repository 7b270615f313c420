"""A policy's weights under the names of the plain Hugging Face model, adapters merged in."""

from collections.abc import Iterator
from pathlib import Path

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.shards import whole


def base_model(model: nn.Module) -> PreTrainedModel:
    """The Hugging Face model inside, adapters or not."""
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(inner, PreTrainedModel):
        raise TypeError(f"expected a Hugging Face model, got a {type(inner).__name__}")
    return inner


def merged_weights(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Every weight by its name in the plain model; tied weights come once, under the first name.

    Without adapters the tensors share memory with the model: copy what must outlive the next update. With adapters,
    each adapted layer is merged by PEFT, copied and put back bit for bit, one layer at a time, so the memory of one
    layer is enough. Where ranks hold shards, all of them iterate, in step, and each tensor is whole for its turn.
    """
    inner = base_model(model)
    merged: set[str] = set()
    for prefix, module in inner.named_modules():
        if isinstance(module, BaseTunerLayer):
            yield from _merged_layer(prefix, module)
            merged.add(f"{prefix}.")
    for name, parameter in inner.named_parameters():
        if not any(name.startswith(prefix) for prefix in merged):
            yield name, whole(parameter.detach())


def _merged_layer(prefix: str, layer: BaseTunerLayer) -> Iterator[tuple[str, torch.Tensor]]:
    original = layer.get_base_layer()
    kept = {name: p.detach().clone() for name, p in original.named_parameters()}
    layer.merge()
    result = {name: p.detach().clone() for name, p in original.named_parameters()}
    layer.unmerge()
    with torch.no_grad():
        for name, parameter in original.named_parameters():
            parameter.copy_(kept[name])
    for name, tensor in result.items():
        yield f"{prefix}.{name}", whole(tensor)


def save_folder(model: nn.Module, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write an ordinary Hugging Face folder: config, safetensors (adapters merged in) and the tokenizer."""
    inner = base_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    inner.save_pretrained(folder, state_dict={name: t.cpu() for name, t in merged_weights(model)})
    tokenizer.save_pretrained(folder)
