"""Supervised start: the policy learns the protocol, and some of the task, from a scripted demonstrator.

Demonstrations are real episodes (real searches) of the noisy expert, so what is imitated looks exactly like what the
policy will see; the loss falls on the demonstrator's tokens only. The rates of its faults decide how much is left for
RL.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase, TrainerCallback
from trl import SFTConfig, SFTTrainer

from agent.trajectory import Trajectory
from train.config import ColdStartConfig

IGNORED = -100
"""The label that torch's cross entropy leaves out."""


def demonstration_dataset(demonstrations: Sequence[Trajectory]) -> Dataset:
    """Token ids and labels; labels are IGNORED on prompt and observations."""
    input_ids, labels = [], []
    for trajectory in demonstrations:
        ids = trajectory.token_ids.tolist()
        mask = trajectory.loss_mask.tolist()
        input_ids.append(ids)
        labels.append([i if m else IGNORED for i, m in zip(ids, mask, strict=True)])
    return Dataset.from_dict({"input_ids": input_ids, "labels": labels})


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
    callbacks: Sequence[TrainerCallback] = (),
) -> Path:
    """Train on demonstrations and save an ordinary model folder at `out`; returns `out`.

    Raises:
        ValueError: there is no demonstration, or none with a token to learn.
    """
    if not any(t.turns for t in demonstrations):
        raise ValueError(
            "the cold start has no demonstration with a single action; check the scripted policy and limits"
        )
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32, trust_remote_code=trust_remote_code)
    work = out.with_name(f".{out.name}.work")
    arguments = SFTConfig(
        output_dir=str(work),
        max_steps=config.steps,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, config.steps // 20),
        weight_decay=0.0,
        max_grad_norm=1.0,
        max_length=None,
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        data_seed=seed,
        save_strategy="no",
        report_to=[],
        logging_steps=max(1, config.steps // 10),
        disable_tqdm=True,
        gradient_checkpointing=False,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=demonstration_dataset(demonstrations),
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )
    logging.getLogger("transformers.trainer").setLevel(logging.ERROR)
    trainer.train()
    temporary = out.with_name(f".{out.name}.unfinished")
    trainer.model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    temporary.rename(out)
    return out
