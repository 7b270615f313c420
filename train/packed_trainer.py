"""TRL's trainer, taught to compute its loss on packed micro-batches.

What TRL calls the completion starts at a trajectory's second token here. The prompt's and the observations' tokens
carry mask 0, which is all that tells them apart for the loss, and no row is padded on the left. TRL is told the size of
the whole step for each micro-batch, and given logprobs that were computed at sampled tokens only.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import add_fused_lm_head, use_adapter

from train.importance import importance_weights
from train.learner_config import ROW_AVERAGED, LearnerConfig
from train.learner_metrics import StepMetrics, StepTotals
from train.on_this_rank import OnThisRank
from train.packing import MicroBatch
from train.ratio_metrics import ratio_metrics
from train.sampled_logprobs import sampled_logprobs, tiled_logprobs
from train.shards import compute_in_bf16
from train.trl_trainer import GRPOTrainer
from train.weights import base_model


class PackedTrainer(GRPOTrainer):
    """The loss of one micro-batch and the forward passes behind it; `Learner` decides which are run and steps."""

    settings: LearnerConfig
    temperature: float
    accelerator: Any
    _tiled: bool
    _scored: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None] | None = None
    """Logprobs, entropies and auxiliary loss of the micro-batch whose loss TRL is computing at this moment."""

    def create_accelerator_and_postprocess(self) -> None:
        """Accelerate's part, before any model is sharded: the policy and its reference get the same precision."""
        super().create_accelerator_and_postprocess()
        if self.is_fsdp_enabled and self.args.bf16:
            compute_in_bf16(self.accelerator.state.fsdp_plugin)

    def _unwrapped(self) -> nn.Module:
        return self.accelerator.unwrap_model(self.model)

    def _set_temperature(self, temperature: float) -> None:
        if not temperature > 0:
            raise ValueError(
                f"temperature is {temperature}; rows must be sampled at a temperature above 0 to be learnt from"
            )
        if temperature == self.temperature:
            return
        self.temperature = temperature
        if self._tiled:
            policy_outputs = ("log_probs", "entropy")
            add_fused_lm_head(base_model(self._unwrapped()), temperature=temperature, outputs=policy_outputs)
            if self.ref_model is not None:
                add_fused_lm_head(self.accelerator.unwrap_model(self.ref_model), temperature=temperature)

    def _inputs(self, batch: MicroBatch, totals: StepTotals, metrics: StepMetrics) -> dict[str, Any]:
        """What TRL's loss reads, and what makes the micro-batches' losses add up to that of the whole step.

        TRL divides by `current_gradient_accumulation_steps`, meaning equal micro-batches. Told how many micro-batches
        like this one the whole step would hold, counted in rows or in tokens as the loss type does, the division is
        exact. Ranks are averaged by accelerate, hence their number.
        """
        ranks = self.accelerator.num_processes
        sampled = max(1, batch.num_sampled)
        if self.loss_type in ROW_AVERAGED:
            self.current_gradient_accumulation_steps = totals.all_rows / (batch.num_rows * ranks)
        else:
            self.current_gradient_accumulation_steps = totals.all_tokens / (sampled * ranks)
        advantages = batch.advantages
        if self.importance_sampling_level == "sequence":
            per_row = (advantages * batch.policy_mask).sum(dim=1) / batch.policy_mask.sum(dim=1).clamp(min=1)
            advantages = per_row.unsqueeze(1)
        inputs: dict[str, Any] = {
            "prompt_ids": batch.input_ids[:, :1],
            "prompt_mask": torch.ones_like(batch.input_ids[:, :1]),
            "completion_ids": batch.input_ids[:, 1:],
            "completion_mask": batch.completion_mask,
            "tool_mask": batch.policy_mask,
            "advantages": advantages,
            "num_items_in_batch": torch.tensor(float(sampled * ranks), device=batch.input_ids.device),
            "waymark": (batch, totals, metrics),
        }
        if batch.old_logprobs is not None:
            inputs["old_per_token_logps"] = batch.old_logprobs
        if batch.reference_logprobs is not None:
            inputs["ref_per_token_logps"] = batch.reference_logprobs
        return inputs

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        """TRL's loss on logprobs that were computed at sampled tokens only; TRL's own path for inputs not ours."""
        if "waymark" not in inputs:
            return super()._compute_loss(model, inputs)
        batch, totals, metrics = inputs["waymark"]
        accelerator = self.accelerator
        logprobs, entropies, _ = self._scored = self._forward(model, batch, with_aux_loss=self.aux_loss_enabled)
        try:
            if batch.is_probe and batch.first_logprobs is None:
                batch.first_logprobs = logprobs.detach()
            if batch.old_logprobs is None:
                metrics.add_sampler(logprobs, batch)
                if self.settings.updates_per_batch > 1 or self.settings.importance_weight_cap is not None:
                    batch.old_logprobs = logprobs.detach()
            if self.settings.importance_weight_cap is not None:
                weights = importance_weights(batch, cap=self.settings.importance_weight_cap)
                metrics.add_weights(weights, batch)
                inputs = {**inputs, "advantages": inputs["advantages"] * weights}
            self.accelerator = OnThisRank(accelerator)
            loss = super()._compute_loss(model, inputs)
        finally:
            self.accelerator = accelerator
            self._scored = None
        if self.settings.entropy_coef > 0:
            bonus = (entropies * batch.policy_mask).sum() * self.accelerator.num_processes / max(1, totals.all_tokens)
            loss = loss - self.settings.entropy_coef * bonus
        return loss

    def _get_per_token_logps_and_entropies(
        self, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        if self._scored is not None:
            return self._scored
        return super()._get_per_token_logps_and_entropies(*args, **kwargs)

    def _forward(
        self, model: nn.Module, batch: MicroBatch, *, with_aux_loss: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        if self._tiled:
            with self.accelerator.autocast():
                return tiled_logprobs(model, batch, with_aux_loss=with_aux_loss)
        return sampled_logprobs(
            model,
            base_model(self.accelerator.unwrap_model(model)),
            batch,
            temperature=self.temperature,
            entropy_gradient=self.settings.entropy_coef > 0,
            with_aux_loss=with_aux_loss,
        )

    def _reference_logprobs(self, batch: MicroBatch) -> torch.Tensor | None:
        if self.beta == 0.0:
            return None
        with torch.no_grad(), disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            if self.ref_model is not None:
                return self._forward(self.ref_model, batch)[0]
            with use_adapter(self._unwrapped(), adapter_name=None):
                return self._forward(self.model_wrapped, batch)[0]

    def _ratio_metrics(self, metrics: StepMetrics, version: int) -> dict[str, Any]:
        """The ratios of all ranks' tokens."""
        logs, versions = self._of_all_ranks(metrics.log_ratios(self.accelerator.device)).T
        ages = version - versions.astype(np.int64)
        return ratio_metrics(logs, ages, cap=self.settings.importance_weight_cap)

    def _moved(self, probed: MicroBatch) -> NDArray[np.float64]:
        """Logprob after the update less that before it of each sampled token of all ranks' probes: `[num_tokens]`."""
        with torch.no_grad():
            now = self._forward(self.model_wrapped, probed)[0]
        before = now if probed.first_logprobs is None else probed.first_logprobs
        own = (now - before).flatten().index_select(0, probed.sampled)
        return self._of_all_ranks(own.unsqueeze(1).float())[:, 0]

    def _of_all_ranks(self, own: torch.Tensor) -> NDArray[np.float64]:
        """What every rank knows of its tokens, one below the other: `[num_tokens, num_values]` of any number of tokens.

        Ranks have different numbers of tokens, and an empty tensor cannot be gathered: what is added is marked with 0.
        """
        marked = torch.cat([own, own.new_ones((len(own), 1))], dim=1)
        marked = torch.cat([marked, marked.new_zeros((1, marked.shape[1]))])
        everywhere = self.accelerator.gather(self.accelerator.pad_across_processes(marked, dim=0))
        found = everywhere.double().cpu().numpy()
        return np.asarray(found[found[:, -1] == 1, :-1])
