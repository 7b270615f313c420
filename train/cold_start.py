"""Supervised start: the policy learns the protocol, and some of the task, from a scripted demonstrator.

Demonstrations are real episodes (real searches) of the noisy expert, so what is imitated looks exactly like what the
policy will see; the loss falls on the demonstrator's tokens only. A start has phases: a policy made from nothing first
learns first actions alone (on sequences of fifty tokens it finds out in about a hundred steps how to copy a name, on
whole episodes not in four times as many), then to copy from passages (predicting the passages too, whose titles come
again in their texts), then whole episodes; the fault rates of the last phase decide how much is left for RL.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from agent.engines.loading import load_model
from agent.trajectory import Trajectory
from train.config import ColdStartConfig, ColdStartPhase

IGNORED = -100
"""The label that torch's cross entropy leaves out."""


def demonstration_dataset(
    demonstrations: Sequence[Trajectory],
    *,
    max_turns: int | None = None,
    learn_observations: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """Token ids and labels; labels are IGNORED on the prompt and on all but a random share of the observations.

    `max_turns` keeps the first actions only, and what stands before the last of them. `learn_observations` is the share
    of observation tokens that keep their label, drawn from `seed`.
    """
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Any]] = {"input_ids": [], "labels": []}
    for trajectory in demonstrations:
        index = trajectory.turn_index
        sampled = (index >= 0) & (index < (max_turns or len(trajectory.turns)))
        if not sampled.any():
            continue
        end = int(sampled.nonzero()[0][-1]) + 1
        ids = trajectory.token_ids[:end].tolist()
        rows["input_ids"].append(ids)
        learned = sampled[:end] | (rng.random(end) < learn_observations)
        learned[: len(trajectory.prompt_ids)] = False
        rows["labels"].append([i if known else IGNORED for i, known in zip(ids, learned, strict=True)])
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
    for number, phase in enumerate(config.phases, start=1):
        name = f"cold start {number}/{len(config.phases)}"
        say(f"{name}: {phase.demonstrations:,} demonstrations")
        demonstrations = demonstrate(phase)
        if not any(turn.action_ids for t in demonstrations for turn in t.turns):
            raise ValueError(f"{name}: no demonstration has an action in it; check the scripted policy and the limits")
        dataset = demonstration_dataset(
            demonstrations, max_turns=phase.max_turns, learn_observations=phase.learn_observations, seed=seed + number
        )
        _fit(model, tokenizer, dataset, _arguments(phase, out, seed=seed + number, bf16=bf16), _Say(name, say))
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
        learning_rate=phase.learning_rate,
        lr_scheduler_type=phase.schedule,
        warmup_steps=max(1, phase.steps // 20),
        weight_decay=0.0,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        max_length=None,
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
