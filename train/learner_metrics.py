"""What one update is worth knowing about, gathered without stopping the device for each number."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
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


_OF_TRL = (
    ("entropy", "entropy"),
    ("kl", "kl"),
    ("clip_ratio", "clip_ratio/region_mean"),
    ("clip_ratio", "cispo_clip_ratio"),
)
"""Our names of TRL's figures."""

_SUMS = (
    *("loss", "entropy", "entropy/tokens", "kl", "kl/tokens", "clip_ratio", "clip_ratio/tokens"),
    *("sampled", "sampler_ratio", "sampler_kl", "sampler_ratio_max", "is_weighted", "weights"),
    *("rows_without_gradient", "real", "padded"),
)
"""What ranks tell each other about a step, in this order."""


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

    def summary(
        self, *, learning_rate: float, skipped_steps: int, everywhere: Callable[[torch.Tensor], torch.Tensor]
    ) -> dict[str, Any]:
        """Plain numbers by name, as `Learner.update` lists them: those of all ranks' rows together.

        `everywhere` gathers one line of every rank: `[1, n]` to `[num_ranks, n]`. All ranks call this.
        """
        totals = self._totals
        own = [self._sums()[name] for name in _SUMS]
        lines = everywhere(torch.tensor([own], dtype=torch.float64)).cpu()
        sums = dict(zip(_SUMS, lines.sum(dim=0).tolist(), strict=True))
        ranks, updates, run = len(lines), len(self._grad_norms), sums["sampled"]
        summary: dict[str, Any] = {"learning_rate": learning_rate, "skipped_steps": float(skipped_steps)}
        if updates:
            summary["loss"] = sums["loss"] / updates / ranks  # each rank's is as many times its share
            summary["grad_norm"] = sum(self._grad_norms) / updates
        for name in ("entropy", "kl", "clip_ratio"):
            if sums[f"{name}/tokens"]:
                summary[name] = sums[name] / sums[f"{name}/tokens"]
        if run:
            summary["sampler_ratio_mean"] = sums["sampler_ratio"] / run
            summary["sampler_kl"] = sums["sampler_kl"] / run
            summary["sampler_ratio_max"] = lines[:, _SUMS.index("sampler_ratio_max")].max().item()
            if sums["is_weighted"]:
                summary["importance_weight_mean"] = sums["weights"] / run
        summary["rows"] = float(totals.all_rows)
        summary["rows_without_gradient"] = sums["rows_without_gradient"]
        summary["tokens"] = float(totals.all_tokens)
        summary["micro_batches"] = float(totals.num_micro_batches)
        summary["padding"] = 1.0 - sums["real"] / sums["padded"] if sums["padded"] else 0.0
        summary["seconds"] = time.perf_counter() - self._started
        return summary

    def _sums(self) -> dict[str, float]:
        """This rank's part of each figure."""
        sums = dict.fromkeys(_SUMS, 0.0)
        if self._losses:
            sums["loss"] = float(torch.stack(self._losses).sum())
        for ours, theirs in _OF_TRL:
            for value, tokens in self._trl.get(theirs, ()):
                sums[ours] += value * tokens
                sums[f"{ours}/tokens"] += tokens
        if self._sampler:
            sums["sampled"] = self._sampled
            sums["sampler_ratio"], sums["sampler_kl"] = torch.stack(self._sampler).sum(dim=0).tolist()
            sums["sampler_ratio_max"] = float(torch.stack(self._sampler_max).max())
        if self._weights:
            sums["is_weighted"] = 1.0
            sums["weights"] = float(torch.stack(self._weights).sum())
        sums["rows_without_gradient"] = self._totals.rows_without_gradient
        sums["real"], sums["padded"] = self._real, self._padded
        return sums
