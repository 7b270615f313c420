"""Truncated importance weights: the correction for an engine whose probabilities are not quite the learner's."""

import torch

from train.packing import MicroBatch


def importance_weights(batch: MicroBatch, *, cap: float) -> torch.Tensor:
    """`min(exp(learner - engine logprob), cap)`, detached, 1 off the sampled tokens: `[num_rows, num_tokens - 1]`.

    The learner's logprobs are those before the first step on the batch. Multiplied into advantages this is TRL's
    `token_truncate` correction, because `min(r w A, clip(r) w A) = w min(r A, clip(r) A)` for w of 0 or more. A logprob
    that the engine could not tell (NaN) counts as no correction, as in TRL. Yao et al. 2025, truncated importance
    sampling.
    """
    if batch.old_logprobs is None:
        raise ValueError("importance weights need the learner's logprobs from before its first step on the batch")
    difference = torch.nan_to_num((batch.old_logprobs - batch.engine_logprobs) * batch.policy_mask, nan=0.0)
    return difference.exp().clamp(max=cap)
