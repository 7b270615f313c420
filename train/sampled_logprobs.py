"""Logprobs and entropies at the sampled tokens only.

Most positions of a search trajectory predict a prompt or an observation token, and nothing is learnt there. The hidden
states are therefore narrowed to the sampled positions before the language-model head runs, so neither logits nor their
gradients exist anywhere else. Backbone, head and whatever the model does to its logits (scaling, soft-capping) stay
the model's own; any causal language model works, wrapped by accelerate and PEFT or not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from train.packing import MicroBatch


class _LogprobAndEntropy(torch.autograd.Function):
    """Log-softmax at one target a row, and the entropy without a gradient, keeping one array instead of three."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, logits: torch.Tensor, targets: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scaled = logits.float() if temperature == 1.0 else logits.float() / temperature
        shifted = scaled - scaled.amax(dim=-1, keepdim=True)
        chosen = shifted.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        probs = shifted.exp()
        total = probs.sum(dim=-1)
        probs /= total.unsqueeze(-1)
        log_total = total.log()
        entropy = log_total - torch.linalg.vecdot(probs, shifted)
        ctx.save_for_backward(probs, targets)
        ctx.temperature = temperature
        ctx.dtype = logits.dtype
        ctx.mark_non_differentiable(entropy)
        return chosen - log_total, entropy

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, grad: torch.Tensor, _: torch.Tensor
    ) -> tuple[torch.Tensor, None, None]:
        probs, targets = ctx.saved_tensors
        grad = grad / ctx.temperature
        result = probs * -grad.unsqueeze(-1)
        result.scatter_add_(-1, targets.unsqueeze(-1), grad.unsqueeze(-1).to(result.dtype))
        return result.to(ctx.dtype), None, None


def logprobs_and_entropies(
    logits: torch.Tensor, targets: torch.Tensor, *, temperature: float, entropy_gradient: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logprob of each target and entropy (nats) of each distribution, both at a temperature, in float32.

    logits: `[num_tokens, vocab]`; targets: `[num_tokens]`; both results `[num_tokens]`. The entropy is detached unless
    `entropy_gradient`.
    """
    if not entropy_gradient:
        logprobs, entropies = _LogprobAndEntropy.apply(logits, targets, temperature)
        return logprobs, entropies
    distribution = torch.log_softmax(logits.float() / temperature, dim=-1)
    entropies = -(distribution.exp() * distribution).sum(dim=-1)
    return distribution.gather(-1, targets.unsqueeze(-1)).squeeze(-1), entropies


@contextmanager
def _head_sees_only(model: nn.Module, positions: torch.Tensor) -> Iterator[None]:
    """Narrow what enters the output embeddings to `positions` of the flattened `[rows, tokens]`: `[num_tokens, H]`."""

    def narrow(_: nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden = arguments[0]
        return (hidden.reshape(-1, hidden.shape[-1]).index_select(0, positions), *arguments[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(narrow)  # type: ignore[operator]
    try:
        yield
    finally:
        handle.remove()


def sampled_logprobs(
    model: nn.Module,
    unwrapped: nn.Module,
    batch: MicroBatch,
    *,
    temperature: float,
    entropy_gradient: bool = False,
    with_aux_loss: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Logprobs and entropies of a micro-batch's sampled tokens, 0 elsewhere: `[num_rows, num_tokens - 1]` each.

    `model` is what is called (possibly wrapped), `unwrapped` the module that owns the output embeddings. The third
    value is a mixture-of-experts model's balancing loss, if asked for. Rows are padded on the right and attention is
    causal, so no attention mask is needed for real tokens; the balancing loss counts tokens and gets one.
    """
    rows, tokens = batch.input_ids.shape
    row_of = torch.div(batch.sampled, tokens - 1, rounding_mode="floor")
    arguments: dict[str, Any] = {"input_ids": batch.input_ids, "use_cache": False}
    if with_aux_loss:
        arguments["attention_mask"] = _attention_mask(batch)
        arguments["output_router_logits"] = True
    with _head_sees_only(unwrapped, batch.sampled + row_of):
        outputs = model(**arguments)
    targets = batch.input_ids[:, 1:].reshape(-1).index_select(0, batch.sampled)
    logprobs, entropies = logprobs_and_entropies(
        outputs.logits, targets, temperature=temperature, entropy_gradient=entropy_gradient
    )
    flat = logprobs.new_zeros(rows * (tokens - 1))
    return (
        flat.index_copy(0, batch.sampled, logprobs).view(rows, -1),
        flat.index_copy(0, batch.sampled, entropies).view(rows, -1),
        outputs.aux_loss if with_aux_loss else None,
    )


def tiled_logprobs(
    model: nn.Module, batch: MicroBatch, *, with_aux_loss: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """The same three values from TRL's tiled head, which TRL has put into the model with its temperature.

    It never holds all logits at once, which a vocabulary of 150,000 needs, and recomputes them in the backward pass.
    """
    labels = batch.input_ids.clone()
    labels[:, 1:].masked_fill_(batch.policy_mask == 0, -100)
    arguments: dict[str, Any] = {"input_ids": batch.input_ids, "labels": labels, "fused_lm_head": True}
    if with_aux_loss:
        arguments["attention_mask"] = _attention_mask(batch)
        arguments["output_router_logits"] = True
    outputs = model(**arguments)
    entropy = torch.zeros_like(outputs.log_probs) if outputs.entropy is None else outputs.entropy
    return outputs.log_probs, entropy, outputs.aux_loss if with_aux_loss else None


def _attention_mask(batch: MicroBatch) -> torch.Tensor:
    positions = torch.arange(batch.input_ids.shape[1], device=batch.lengths.device)
    return (positions < batch.lengths.unsqueeze(1)).long()
