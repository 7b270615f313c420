"""Supervised start: the policy learns the protocol, and some of the task, from a scripted demonstrator.

Demonstrations are real episodes (real searches) of the noisy expert, so what is imitated looks exactly like what the
policy will see; the loss falls on the demonstrator's tokens only. A start has phases: a policy made from nothing first
learns first actions alone (on sequences of fifty tokens it finds out in about a hundred steps how to copy a name, on
whole episodes not in four times as many), then to copy from passages (predicting the passages too, whose titles come
again in their texts), then whole episodes; the fault rates of the last phase decide how much is left for RL.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback, get_scheduler
from trl import SFTConfig, SFTTrainer

from agent.engines.loading import load_model
from agent.trajectory import Trajectory
from train.config import ColdStartConfig, ColdStartPhase
from train.forward_settings import attend_in_float32
from train.optimizer import MuonAdamW, optimizer_for

IGNORED = -100
"""The label that torch's cross entropy leaves out."""


_FUSED_ABOVE = 16_384
"""Words of a vocabulary above which TRL's chunked head saves more memory than it costs time (half a step of 1,100)."""


def demonstration_dataset(
    demonstrations: Sequence[Trajectory], *, max_turns: int | None = None, context_weight: float = 0.0
) -> Dataset:
    """Token ids and what each weighs in the loss: 1 in actions, `context_weight` in prompts and observations.

    `max_turns` keeps the first actions only, and what stands before the last of them.
    """
    rows: dict[str, list[Any]] = {"input_ids": [], "weights": []}
    for trajectory in demonstrations:
        index = trajectory.turn_index
        sampled = (index >= 0) & (index < (max_turns or len(trajectory.turns)))
        if not sampled.any():
            continue
        end = int(sampled.nonzero()[0][-1]) + 1
        rows["input_ids"].append(trajectory.token_ids[:end].tolist())
        rows["weights"].append(np.where(sampled[:end], 1.0, context_weight).tolist())
    return Dataset.from_dict(rows)


def cold_start(
    model_path: str,
    tokenizer: PreTrainedTokenizerBase,
    demonstrate: Callable[[ColdStartPhase], Sequence[Trajectory]],
    out: Path,
    config: ColdStartConfig,
    *,
    seed: int,
    bf16: bool = False,
    trust_remote_code: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Train on demonstrations, phase by phase, and save an ordinary model folder at `out`; returns `out`.

    Raises:
        ValueError: a phase has no demonstration, or none with a token to learn.
    """
    model = load_model(model_path, trust_remote_code=trust_remote_code)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    if bf16 and not torch.cuda.is_available():
        attend_in_float32(model)
    optimizer = optimizer_for(model, learning_rate=1.0, muon_scale=config.muon_scale)
    for number, phase in enumerate(config.phases, start=1):
        name = f"cold start {number}/{len(config.phases)}"
        say(f"{name}: {phase.demonstrations:,} demonstrations")
        demonstrations = demonstrate(phase)
        if not any(turn.action_ids for t in demonstrations for turn in t.turns):
            raise ValueError(f"{name}: no demonstration has an action in it; check the scripted policy and the limits")
        dataset = demonstration_dataset(demonstrations, max_turns=phase.max_turns, context_weight=phase.context_weight)
        arguments = _arguments(phase, out, seed=seed + number, bf16=bf16)
        _fit(model, tokenizer, dataset, arguments, _start_schedule(optimizer, phase), _Say(name, say))
    temporary = out.with_name(f".{out.name}.unfinished")
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    temporary.rename(out)
    return out


def _arguments(phase: ColdStartPhase, out: Path, *, seed: int, bf16: bool) -> SFTConfig:
    return SFTConfig(
        output_dir=str(out.with_name(f".{out.name}.work")),
        max_steps=phase.steps,
        per_device_train_batch_size=phase.batch_size,
        max_grad_norm=1.0,
        max_length=None,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        data_seed=seed,
        save_strategy="no",
        report_to=[],
        logging_steps=max(1, phase.steps // 4),
        disable_tqdm=True,
        gradient_checkpointing=False,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _start_schedule(optimizer: MuonAdamW, phase: ColdStartPhase) -> LRScheduler:
    """The phase's learning rate over an optimiser whose moments are kept: new ones cost some fifty steps."""
    optimizer.set_learning_rate(phase.learning_rate)
    warmup = max(1, phase.steps // 20)
    return get_scheduler(phase.schedule, optimizer, num_warmup_steps=warmup, num_training_steps=phase.steps)


def _fit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    arguments: SFTConfig,
    schedule: LRScheduler,
    told: TrainerCallback,
) -> None:
    trainer = _WeightedTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
        data_collator=_Collator(int(tokenizer.pad_token_id)),
        optimizers=(schedule.optimizer, schedule),
        callbacks=[told],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()


@dataclass(frozen=True)
class _Collator:
    """Pads at the right; `labels` and `weights` belong to the token at their own place."""

    pad_id: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids = [torch.tensor(row["input_ids"]) for row in rows]
        weights = pad_sequence([torch.tensor(row["weights"]) for row in rows], batch_first=True)
        padded = pad_sequence(ids, batch_first=True, padding_value=self.pad_id)
        lengths = torch.tensor([len(row) for row in ids])
        return {
            "input_ids": padded,
            "attention_mask": (torch.arange(padded.shape[1]) < lengths[:, None]).long(),
            "labels": padded.masked_fill(weights == 0, IGNORED),
            "weights": weights,
        }


class _WeightedTrainer(SFTTrainer):
    """SFTTrainer whose loss is a weighted mean over tokens: reading counts, but less than acting."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        counted = inputs["labels"][:, 1:] != IGNORED
        weights = inputs["weights"][:, 1:][counted]
        fields = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        if self.model.config.vocab_size > _FUSED_ABOVE:
            outputs = model(**fields, labels=inputs["labels"], use_cache=False, fused_lm_head=True)
            losses, right = -outputs.log_probs[counted], outputs.is_top1[counted]
        else:
            logits = model(**fields, use_cache=False).logits[:, :-1][counted].float()
            labels = inputs["labels"][:, 1:][counted]
            losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
            right = logits.argmax(-1) == labels
        self._metrics["train"]["mean_token_accuracy"].append(float(right[weights == 1].float().mean()))
        return (losses * weights).sum() / weights.sum()


class _Say(TrainerCallback):
    """Tells the loss, and the share of the actions' tokens predicted right, now and then."""

    def __init__(self, name: str, say: Callable[[str], None]) -> None:
        self._name = name
        self._say = say

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            accuracy = float(logs.get("mean_token_accuracy", 0.0))
            done = f"{self._name}: step {state.global_step}/{state.max_steps}"
            self._say(f"{done}, loss {float(logs['loss']):.3f}, tokens right {accuracy:.1%}")
