"""From logits to tokens: the processed distribution, and one draw a row that does not depend on the other rows."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agent.engine import SamplingParams


def check_params(params: SamplingParams) -> None:
    """Raises ValueError where a sampling parameter is out of its range."""
    if params.max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {params.max_new_tokens}; at least 1 token must be allowed")
    if not 0 <= params.temperature < float("inf"):
        raise ValueError(f"temperature is {params.temperature}; allowed are 0 (greedy) and any positive number")
    if not 0 < params.top_p <= 1:
        raise ValueError(f"top_p is {params.top_p}; allowed are numbers above 0 and up to 1 (off)")
    if params.top_k < 0:
        raise ValueError(f"top_k is {params.top_k}; allowed are 0 (off) and positive counts")
    if "" in params.stop:
        raise ValueError("a stop string is empty; it would end every completion at once")


def check_prompt(ids: Sequence[int], *, vocab_size: int, context_window: int) -> int:
    """Tokens that a prompt leaves free in the context window, at least 1.

    Raises:
        ValueError: no tokens, an id outside the vocabulary, or no room left.
    """
    if len(ids) == 0:
        raise ValueError("the prompt is empty; the model needs at least one token")
    if min(ids) < 0 or max(ids) >= vocab_size:
        raise ValueError(
            f"token ids run from {min(ids)} to {max(ids)}, but the model knows 0 to {vocab_size - 1}: the tokenizer is "
            "not this model's"
        )
    if len(ids) >= context_window:
        raise ValueError(
            f"the prompt has {len(ids)} tokens and the model's context window is {context_window}: no room for a "
            "completion. Shorten the prompt (max_trajectory_tokens, max_observation_tokens) or use a model with a "
            "longer window"
        )
    return context_window - len(ids)


def uniforms(seed: int, count: int) -> NDArray[np.float64]:
    """The request's own random numbers in [0, 1), one a token, by Philox: `[count]`. A longer draw begins alike."""
    return np.random.Generator(np.random.Philox(key=seed % 2**128)).random(count)


def processed_logprobs(
    logits: Tensor, temperature: Tensor | None, top_k: Tensor | None = None, top_p: Tensor | None = None
) -> Tensor:
    """The distribution that is sampled from, in float32: temperature, then top-k, then top-p, then log-softmax.

    Args:
        logits: `[num_rows, vocab]`.
        temperature: `[num_rows]`, positive; None where all are 1.
        top_k: `[num_rows]`, 0 is off; None where all are off. Ties with the k-th logit are kept.
        top_p: `[num_rows]`, 1 is off; None where all are off. Kept is the smallest set of likeliest tokens whose
            probability reaches `top_p`.

    Returns:
        logprobs, `[num_rows, vocab]`, -inf at tokens that are filtered out.
    """
    scaled = logits.float()
    if temperature is not None:
        scaled = scaled / temperature[:, None]
    if top_k is not None:
        vocab = scaled.shape[-1]
        ranked = scaled.sort(dim=-1, descending=True).values
        kth = ranked.gather(1, (top_k.clamp(1, vocab) - 1)[:, None])
        scaled = scaled.masked_fill((scaled < kth) & (top_k > 0)[:, None], -torch.inf)
    if top_p is not None:
        ranked, order = scaled.sort(dim=-1, descending=True, stable=True)
        probabilities = ranked.softmax(-1)
        before = probabilities.cumsum(-1) - probabilities
        dropped = (before >= top_p[:, None]) & (top_p < 1)[:, None]
        dropped[:, 0] = False
        scaled = scaled.masked_fill(torch.zeros_like(dropped).scatter(1, order, dropped), -torch.inf)
    return scaled.log_softmax(-1)


def draw(logprobs: Tensor, uniform: Tensor) -> Tensor:
    """One token a row by inverse CDF: the first whose cumulative probability exceeds the row's number.

    A row's token depends on its own logprobs and number alone. Tokens of probability 0 are never drawn.

    Args:
        logprobs: `[num_rows, vocab]`.
        uniform: float64 in [0, 1), `[num_rows]`.

    Returns:
        token ids, `[num_rows]`.
    """
    cumulative = logprobs.exp().cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1:]
    # Strictly below the total, so that some token's cumulative probability always exceeds it.
    target = torch.minimum(uniform[:, None] * total, total * (1 - 1e-12))
    # The clamp is for a row of NaN, whose caller must find out by its logprob.
    return torch.searchsorted(cumulative, target, right=True).squeeze(1).clamp_(max=logprobs.shape[-1] - 1)
