"""What the learner can be told, and how that becomes TRL's `GRPOConfig`.

Fields that Waymark's loop owns (batching, generation, logging, saving) are not here. Everything else that TRL or
transformers knows is reachable through `trl`, which refuses, by name and with the reason, what per-token advantages or
our own step would silently break.
"""

import copy
import difflib
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig
from pydantic import BaseModel, ConfigDict, Field, model_validator
from trl import GRPOConfig

LossType = Literal["dapo", "grpo", "bnpo", "dr_grpo", "cispo", "sapo", "luspo", "vespo"]

ROW_AVERAGED: frozenset[str] = frozenset({"grpo", "sapo", "dr_grpo", "luspo"})
"""Loss types whose denominator counts rows; the others count sampled tokens."""

_FILTERS_SAMPLING = "it filters the distribution, so the engine's logprobs are not those of the policy that is trained"
_LOOP_OWNS = "Waymark's loop owns it"
_NEVER_READ = "only TRL's own training loop reads it, so it would do nothing"
REFUSED: dict[str, str] = {
    "use_liger_kernel": "Liger's path is not tested with per-token advantages [batch, tokens]",
    "liger_kernel_config": "Liger's path is not tested with per-token advantages [batch, tokens]",
    "top_p": _FILTERS_SAMPLING,
    "top_k": _FILTERS_SAMPLING,
    "min_p": _FILTERS_SAMPLING,
    "repetition_penalty": _FILTERS_SAMPLING,
    "generation_kwargs": _FILTERS_SAMPLING,
    "off_policy_mask_threshold": "TRL drops whole rows by the sign of one advantage; rows here have many",
    "top_entropy_quantile": "TRL takes the quantile of a micro-batch, so the gradient would depend on the packing",
    "entropy_coef": "use the learner's own `entropy_coef`, which is exact over the optimiser step",
    "use_adaptive_entropy": "its controller counts TRL's own accumulation steps",
    "num_iterations": "use the learner's `updates_per_batch`",
    "loss_type": "use the learner's `loss_type`",
    "bf16": "use the learner's `precision`",
    "fp16": "use `precision: bf16`; loss scaling is not supported",
    "vllm_importance_sampling_correction": "use the learner's `importance_weight_cap`",
    "scale_rewards": "advantages come from the credit estimator",
    "reward_weights": "rewards and their weights stand in the `rewards` section",
    "multi_objective_aggregation": "advantages come from the credit estimator",
    "mask_truncated_completions": "give truncated trajectories no row instead",
    "sync_ref_model": "the reference is the model that training started from",
    "use_vllm": _LOOP_OWNS,
    "trust_remote_code": "use `policy.trust_remote_code`",
    "temperature": "set it where trajectories are sampled; the loop passes it to the learner",
    "max_completion_length": "use the learner's `dr_grpo_length`",
    **dict.fromkeys(
        (
            "gradient_accumulation_steps",
            "per_device_train_batch_size",
            "steps_per_generation",
            "generation_batch_size",
            "num_generations",
            "auto_find_batch_size",
            "max_steps",
            "num_train_epochs",
            "report_to",
            "output_dir",
            "save_strategy",
            "eval_strategy",
            "do_eval",
            "push_to_hub",
            "disable_dropout",
            "disable_tqdm",
            "do_train",
            "do_predict",
            "run_name",
            "project",
            "resume_from_checkpoint",
            "load_best_model_at_end",
            "remove_unused_columns",
            "shuffle_dataset",
            "data_seed",
            "ddp_find_unused_parameters",
        ),
        _LOOP_OWNS,
    ),
    **dict.fromkeys(("neftune_noise_alpha", "label_smoothing_factor", "average_tokens_across_devices"), _NEVER_READ),
}
"""GRPOConfig fields that `LearnerConfig.trl` refuses, and why."""

REFUSED_FAMILIES: dict[str, str] = {
    **dict.fromkeys(("log", "eval_", "save_", "hub_", "dataloader_", "trackio_"), _LOOP_OWNS),
    **dict.fromkeys(("vllm_", "transformers_continuous_batching", "use_transformers_"), "Waymark has its own engines"),
    "entropy_": "its controller counts TRL's own accumulation steps",
    "ref_model_": "the reference is the model that training started from",
}
"""Beginnings of the names of further fields that are refused, and why."""

OWN_FIELDS: dict[str, str] = {
    **{name: name for name in ("learning_rate", "weight_decay", "adam_epsilon", "max_grad_norm", "seed")},
    **{name: name for name in ("epsilon", "epsilon_high", "delta", "beta", "importance_sampling_level")},
    "gradient_checkpointing": "gradient_checkpointing",
    "lr_scheduler_type": "schedule",
    "warmup_steps": "warmup_steps",
    "adam_beta1": "adam_betas",
    "adam_beta2": "adam_betas",
    "use_bias_correction_kl": "unbiased_kl",
    "use_cpu": "device",
}
"""GRPOConfig fields that have a field of `LearnerConfig`: setting both would leave open which one holds."""


class PeftConfig(BaseModel):
    """LoRA adapters instead of all weights (Hu et al. 2021, arXiv:2106.09685)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rank: int = Field(16, ge=1)
    """Rank of the adapters."""
    alpha: float = Field(32.0, gt=0)
    """Scale of the adapters, divided by the rank."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Modules that get an adapter. `lm_head` is refused by TRL: its logprobs bypass the module."""

    def to_lora(self) -> LoraConfig:
        """PEFT's own settings, without dropout."""
        modules = self.target_modules if isinstance(self.target_modules, str) else list(self.target_modules)
        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]
            lora_dropout=0.0,
            target_modules=modules,
            task_type="CAUSAL_LM",
        )


class LearnerConfig(BaseModel):
    """How weights are updated from rows. The defaults suit a policy that fits a laptop."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    learning_rate: float = Field(3e-4, gt=0)
    """Peak learning rate of AdamW. 3e-4 is for policies of about 1 M parameters; take 1e-6 for 1 B and more."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Learning rate after the warm-up; `linear` and `cosine` fall to 0 at the last step."""
    warmup_steps: int = Field(0, ge=0)
    """Optimiser steps over which the learning rate rises linearly from 0."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's decay; 0, because RL steps are few and the start should not be forgotten."""
    adam_betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of AdamW's moments, per step."""
    adam_epsilon: float = Field(1e-8, gt=0)
    """AdamW's denominator term."""
    max_grad_norm: float = Field(1.0, gt=0)
    """The gradient's global norm is clipped here, once a step."""

    loss_type: LossType = "dapo"
    """TRL's loss. `dapo` counts every sampled token of the step once, so long paths are not favoured."""
    epsilon: float = Field(0.2, gt=0)
    """Lower clipping distance of the probability ratio; matters from the second update on a batch."""
    epsilon_high: float | None = Field(None, gt=0)
    """Upper clipping distance, `epsilon` if None. `cispo` needs it: the largest ratio (5.0 in ScaleRL)."""
    delta: float | None = Field(None, gt=0)
    """Upper bound of the ratio for negative advantages too (two-sided clipping); must exceed 1 + epsilon_high."""
    importance_sampling_level: Literal["token", "sequence"] = "token"
    """`sequence` is GSPO's ratio; it needs one advantage per trajectory (credit `outcome` or `outcome_mean`)."""
    updates_per_batch: int = Field(1, ge=1)
    """Optimiser steps on the same rows; the first forward pass provides the old logprobs of the later ones."""
    dr_grpo_length: int = Field(512, ge=1)
    """The constant number of tokens that `dr_grpo` divides each row by."""
    beta: float = Field(0.0, ge=0)
    """Weight of the KL term against the starting policy (k3 estimator); above 0 a reference model is held."""
    unbiased_kl: bool = True
    """Multiply the KL term by the probability ratio, which makes its gradient that of the reverse KL."""
    entropy_coef: float = Field(0.0, ge=0)
    """Weight of an entropy bonus, the mean entropy in nats over all sampled tokens of the step."""
    importance_weight_cap: float | None = Field(None, gt=0)
    """If set, each advantage is multiplied by min(exp(learner - engine logprob), cap); None trusts the engine."""

    max_tokens_per_micro_batch: int = Field(4096, ge=1)
    """Padded tokens per forward pass; bounds memory. 4096 is as fast as more on a CPU and pads less."""
    skip_rows_without_gradient: bool = True
    """Do not run rows whose advantages are all 0 (they count in the loss's denominator all the same)."""
    precision: Literal["float32", "bf16"] = "float32"
    """`bf16` runs forward passes under bf16 autocast; weights and optimiser stay float32."""
    tiled_lm_head: bool | None = None
    """Use TRL's tiled head (less memory) instead of logits at sampled tokens; None: for vocabularies above 32,768."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a fifth slower."""
    peft: PeftConfig | None = None
    """Train LoRA adapters instead of all weights."""
    device: Literal["auto", "cpu"] = "auto"
    """`cpu` keeps the learner off a GPU that is there."""
    seed: int = Field(0, ge=0)
    """Seed of adapter initialisation and of TRL's own random state. In a training run it is the run's `seed`."""
    trl: dict[str, Any] = Field(default_factory=dict)
    """Further fields of `trl.GRPOConfig`, as they are called there (`optim`, `fsdp`, `deepspeed`, ...)."""

    @model_validator(mode="after")
    def _fields_fit_together(self) -> "LearnerConfig":
        known = {field.name for field in fields(GRPOConfig)}
        for name in self.trl:
            if name not in known:
                near = difflib.get_close_matches(name, known - set(REFUSED) - set(OWN_FIELDS), n=1)
                hint = f"did you mean {near[0]!r}?" if near else "see TRL's documentation for its fields"
                raise ValueError(f"trl.{name} is not a field of trl.GRPOConfig; {hint}")
            if name in OWN_FIELDS:
                raise ValueError(f"trl.{name} is the learner's own field `{OWN_FIELDS[name]}`; set that one")
            family = next((why for start, why in REFUSED_FAMILIES.items() if name.startswith(start)), None)
            if why := REFUSED.get(name, family):
                raise ValueError(f"trl.{name} cannot be set: {why}. Remove it.")
        sharding = self.trl.get("fsdp_config") or {}
        if not isinstance(sharding, dict):
            raise ValueError(f"trl.fsdp_config is {sharding!r}; write its fields here, which the run then records")
        if int(sharding.get("version") or sharding.get("fsdp_version") or 2) != 2:
            raise ValueError("trl.fsdp_config.version is 1, which torch and transformers leave behind; set 2")
        high = self.epsilon if self.epsilon_high is None else self.epsilon_high
        if self.delta is not None and self.delta <= 1 + high:
            raise ValueError(f"delta is {self.delta}; it must exceed 1 + epsilon_high = {1 + high}, or be left out")
        if self.loss_type == "luspo" and self.importance_sampling_level != "sequence":
            raise ValueError("loss_type luspo needs importance_sampling_level: sequence; set it, or take dapo")
        if self.loss_type in {"vespo", "cispo"} and self.importance_sampling_level == "sequence":
            raise ValueError(f"loss_type {self.loss_type} needs importance_sampling_level: token; leave the field out")
        if self.loss_type == "cispo" and (self.epsilon_high is None or self.epsilon_high < 1):
            raise ValueError(
                f"loss_type cispo reads epsilon_high as the largest probability ratio, and it is {self.epsilon_high}: "
                "set one above 1 (5.0 in ScaleRL), or every token's weight is cut to it"
            )
        if self.importance_weight_cap is not None:
            if self.importance_sampling_level == "sequence":
                raise ValueError("importance_weight_cap is per token; it needs importance_sampling_level: token")
            if self.loss_type == "vespo":
                raise ValueError("loss_type vespo has importance weights of its own; leave importance_weight_cap out")
        return self

    def to_grpo_config(
        self, output_dir: Path, *, total_steps: int | None = None, trust_remote_code: bool = False
    ) -> GRPOConfig:
        """The `GRPOConfig` from which TRL builds its parts: silent, offline, one micro-batch a step as TRL counts.

        Raises:
            ValueError: a schedule that falls needs `total_steps`, or a value in `trl` that TRL refuses.
        """
        if total_steps is None and self.schedule != "constant":
            raise ValueError(f"schedule {self.schedule} falls to 0 at the last step: pass total_steps, or use constant")
        settings: dict[str, Any] = {
            "output_dir": str(output_dir),
            "learning_rate": self.learning_rate,
            "lr_scheduler_type": "constant_with_warmup" if self.schedule == "constant" else self.schedule,
            "warmup_steps": self.warmup_steps,
            "weight_decay": self.weight_decay,
            "adam_beta1": self.adam_betas[0],
            "adam_beta2": self.adam_betas[1],
            "adam_epsilon": self.adam_epsilon,
            "max_grad_norm": self.max_grad_norm,
            "loss_type": self.loss_type,
            "epsilon": self.epsilon,
            "epsilon_high": self.epsilon_high,
            "delta": self.delta,
            "importance_sampling_level": self.importance_sampling_level,
            "max_completion_length": self.dr_grpo_length,
            "beta": self.beta,
            "use_bias_correction_kl": self.unbiased_kl,
            "bf16": self.precision == "bf16",
            "gradient_checkpointing": self.gradient_checkpointing,
            "use_cpu": self.device == "cpu" or not torch.cuda.is_available(),
            "seed": self.seed,
            "disable_dropout": True,
            "ddp_find_unused_parameters": False,
            "per_device_train_batch_size": 2,
            "num_generations": 2,
            "gradient_accumulation_steps": 1,
            "steps_per_generation": 1,
            "max_steps": total_steps or 1,
            "report_to": "none",
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
            "log_completions": False,
            "trust_remote_code": trust_remote_code,
        }
        own = {name: value for name, value in self.trl.items() if name != "model_init_kwargs"}
        own = copy.deepcopy(own)  # TRL writes into what it is given
        model_init_kwargs = {"use_safetensors": True, **self.trl.get("model_init_kwargs", {})}
        try:
            return GRPOConfig(**{**settings, **own}, model_init_kwargs=model_init_kwargs)
        except (ValueError, TypeError, ImportError) as error:
            raise ValueError(f"learner: TRL refuses these settings: {error} (given in learner.trl: {own})") from error
