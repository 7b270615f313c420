"""Supervised start: the policy learns the protocol, and some of the task, from a scripted demonstrator.

Demonstrations are real episodes (real searches) of the noisy expert, so what is imitated looks exactly like what the
policy will see; the loss falls on the demonstrator's tokens only. The rates of its faults decide how much is left for
RL. A policy made from nothing first learns first actions alone: on sequences of fifty tokens it finds out in about a
hundred steps how to copy a name, on whole episodes not in four times as many.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from agent.engines.loading import load_model
from agent.trajectory import Trajectory
from train.config import ColdStartConfig

IGNORED = -100
"""The label that torch's cross entropy leaves out."""


def demonstration_dataset(demonstrations: Sequence[Trajectory], *, max_turns: int | None = None) -> Dataset:
    """Token ids and labels; labels are IGNORED on prompt and observations. `max_turns` keeps the first actions only."""
    rows: dict[str, list[Any]] = {"input_ids": [], "labels": [], "length": []}
    for trajectory in demonstrations:
        index = trajectory.turn_index
        sampled = (index >= 0) & (index < (max_turns or len(trajectory.turns)))
        if not sampled.any():
            continue
        end = int(sampled.nonzero()[0][-1]) + 1
        ids = trajectory.token_ids[:end].tolist()
        rows["input_ids"].append(ids)
        rows["labels"].append([i if s else IGNORED for i, s in zip(ids, sampled[:end], strict=True)])
        rows["length"].append(end)
    return Dataset.from_dict(rows)


def cold_start(
    model_path: str,
    tokenizer: PreTrainedTokenizerBase,
    demonstrations: Sequence[Trajectory],
    out: Path,
    config: ColdStartConfig,
    *,
    seed: int,
    bf16: bool = False,
    trust_remote_code: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Train on demonstrations and save an ordinary model folder at `out`; returns `out`.

    Raises:
        ValueError: there is no demonstration, or none with a token to learn.
    """
    if not any(turn.action_ids for t in demonstrations for turn in t.turns):
        raise ValueError("no demonstration of the cold start has an action in it; check the scripted policy and limits")
    model = load_model(model_path, trust_remote_code=trust_remote_code)
    phases: tuple[tuple[str, int, int, int | None, str], ...] = (
        ("first actions", config.first_action_steps, config.first_action_batch_size, 1, "constant_with_warmup"),
        ("whole episodes", config.steps, config.batch_size, None, "cosine"),
    )
    for name, steps, batch_size, max_turns, schedule in phases:
        if steps:
            arguments = _arguments(config, out, steps, batch_size, schedule, seed=seed, bf16=bf16)
            dataset = demonstration_dataset(demonstrations, max_turns=max_turns)
            _fit(model, tokenizer, dataset, arguments, _Say(f"cold start, {name}", say))
    temporary = out.with_name(f".{out.name}.unfinished")
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    temporary.rename(out)
    return out


def _arguments(
    config: ColdStartConfig, out: Path, steps: int, batch_size: int, schedule: str, *, seed: int, bf16: bool
) -> SFTConfig:
    return SFTConfig(
        output_dir=str(out.with_name(f".{out.name}.work")),
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=config.learning_rate,
        lr_scheduler_type=schedule,
        warmup_steps=max(1, steps // 20),
        weight_decay=0.0,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        max_length=None,
        train_sampling_strategy="group_by_length",
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        data_seed=seed,
        save_strategy="no",
        report_to=[],
        logging_steps=max(1, steps // 5),
        disable_tqdm=True,
        gradient_checkpointing=False,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _fit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    arguments: SFTConfig,
    told: TrainerCallback,
) -> None:
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
        callbacks=[told],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()


class _Say(TrainerCallback):
    """Tells the loss and the share of tokens predicted right, now and then."""

    def __init__(self, name: str, say: Callable[[str], None]) -> None:
        self._name = name
        self._say = say

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            accuracy = float(logs.get("mean_token_accuracy", 0.0))
            done = f"{self._name}: step {state.global_step}/{state.max_steps}"
            self._say(f"{done}, loss {float(logs['loss']):.3f}, tokens right {accuracy:.1%}")
