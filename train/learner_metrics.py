"""What one update is worth knowing about, gathered without stopping the device for each number."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from train.packing import MicroBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTotals:
    """Sizes of one optimiser step: what this rank has, and what all ranks have together.

    `rows` and `tokens` count rows and sampled tokens that are trained, with or without a gradient.
    """

    rows: int
    tokens: int
    rows_without_gradient: int
    all_rows: int
    all_tokens: int
    num_micro_batches: int
    """The most that any rank has; the others add empty ones."""


class StepMetrics:
    """Sums over the micro-batches of one update, on the device until `summary`."""

    def __init__(self, totals: StepTotals, batches: Sequence[MicroBatch]) -> None:
        self._totals = totals
        self._started = time.perf_counter()
        self._padded = sum(batch.input_ids.numel() for batch in batches)
        self._real = sum(int(batch.lengths.sum()) for batch in batches)
        self._sampled = sum(batch.num_sampled for batch in batches)
        self._losses: list[torch.Tensor] = []
        self._grad_norms: list[float] = []
        self._sampler: list[torch.Tensor] = []
        self._sampler_max: list[torch.Tensor] = []
        self._log_ratios: list[torch.Tensor] = []
        self._versions: list[torch.Tensor] = []
        self._weights: list[torch.Tensor] = []
        self._trl: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)

    def add_loss(self, loss: torch.Tensor, batch: MicroBatch, trl: Mapping[str, Sequence[float]]) -> None:
        """One micro-batch's share of the loss, and the metrics that TRL left for it (means over its tokens)."""
        self._losses.append(loss.detach())
        if batch.num_sampled:
            for name, values in trl.items():
                self._trl[name].extend((value, batch.num_sampled) for value in values)

    def add_sampler(self, logprobs: torch.Tensor, batch: MicroBatch) -> None:
        """How far the learner's logprobs before its first step are from the engine's: `[num_rows, num_tokens - 1]`."""
        if not batch.num_sampled:
            return
        difference = (logprobs.detach() - batch.engine_logprobs).flatten().index_select(0, batch.sampled)
        self._log_ratios.append(difference)
        self._versions.append(batch.versions)
        difference = torch.nan_to_num(difference, nan=0.0)
        ratio = difference.exp()
        self._sampler.append(torch.stack([ratio.sum(), (ratio - 1 - difference).sum()]))
        self._sampler_max.append(ratio.max())

    def log_ratios(self, device: torch.device) -> torch.Tensor:
        """Log ratio and policy version of each token of this rank that `add_sampler` saw: `[num_tokens, 2]`, float32.

        Versions are whole up to 2**24.
        """
        if not self._log_ratios:
            return torch.zeros((0, 2), device=device)
        return torch.stack([torch.cat(self._log_ratios).float(), torch.cat(self._versions).float()], dim=1)

    def add_weights(self, weights: torch.Tensor, batch: MicroBatch) -> None:
        """Truncated importance weights: `[num_rows, num_tokens - 1]`."""
        self._weights.append((weights * batch.policy_mask).sum())

    def add_grad_norm(self, norm: float) -> None:
        """The global norm before clipping."""
        self._grad_norms.append(norm)

    def summary(self, *, learning_rate: float, skipped_steps: int) -> dict[str, Any]:
        """Plain numbers by name, as `Learner.update` lists them."""
        totals = self._totals
        summary: dict[str, Any] = {"learning_rate": learning_rate, "skipped_steps": float(skipped_steps)}
        if self._grad_norms:
            summary["loss"] = float(torch.stack(self._losses).sum()) / len(self._grad_norms)
            summary["grad_norm"] = sum(self._grad_norms) / len(self._grad_norms)
        for ours, theirs in (
            ("entropy", "entropy"),
            ("kl", "kl"),
            ("clip_ratio", "clip_ratio/region_mean"),
            ("clip_ratio", "cispo_clip_ratio"),
        ):
            if theirs in self._trl:
                tokens = sum(count for _, count in self._trl[theirs])
                summary[ours] = sum(value * count for value, count in self._trl[theirs]) / tokens
        if self._sampler:
            run = self._sampled
            ratio, kl = torch.stack(self._sampler).sum(dim=0).tolist()
            summary["sampler_ratio_mean"] = ratio / run
            summary["sampler_kl"] = kl / run
            summary["sampler_ratio_max"] = float(torch.stack(self._sampler_max).max())
            if self._weights:
                summary["importance_weight_mean"] = float(torch.stack(self._weights).sum()) / run
        summary["rows"] = float(totals.rows)
        summary["rows_without_gradient"] = float(totals.rows_without_gradient)
        summary["tokens"] = float(totals.tokens)
        summary["micro_batches"] = float(totals.num_micro_batches)
        summary["padding"] = 1.0 - self._real / self._padded if self._padded else 0.0
        summary["seconds"] = time.perf_counter() - self._started
        return summary
