"""How long one optimiser step of Waymark's learner takes, as a share of TRL's own GRPOTrainer step.

    python -m benchmarks.learner_step [--smoke] [--json FILE]

Both sides train the same rows, with the same weights, optimiser, clipping, loss type and precision. TRL's side is what
`Trainer.train` does for one optimiser step: for each micro-batch `GRPOTrainer.training_step` (loss and backward), then
clip, step, schedule, zero_grad. Its inputs are given to it ready made (`_prepare_inputs` is replaced), so neither side
pays for sampling, rewards or old logprobs. Ours is `Learner.update`, packing and metrics included. Two TRL layouts:

- `trl_own`: TRL's own. The whole batch is padded to its longest prompt (left) and completion (right), shuffled, and
  cut into equal micro-batches of as many rows as fit the same token limit.
- `trl_packed`: TRL's step on the very tensors that our packing made.

`waymark_probed` is our step with the collapse watch's probe: one of its micro-batches is scored again after the update.

The sides take turns, so that a noisy machine hurts all; the figures are ratios of medians.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from agent.action import Action
from agent.trajectory import Trajectory, Turn
from train.credit.row import Row
from train.learner import Learner
from train.learner_config import LearnerConfig
from train.packing import pack_rows
from train.trl_trainer import GRPOTrainer

TARGET = 1.1


def save_policy(folder: Path, *, vocab_size: int, hidden_size: int, num_layers: int) -> PreTrainedTokenizerFast:
    """A Llama of the quickstart's size, written as a Hugging Face folder."""
    words = {f"w{i}": i for i in range(vocab_size - 2)} | {"<pad>": vocab_size - 2, "<end>": vocab_size - 1}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="w0")), pad_token="<pad>", eos_token="<end>"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=vocab_size - 2,
        eos_token_id=vocab_size - 1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_batch(num_rows: int, *, vocab_size: int, seed: int = 0) -> tuple[list[Row], dict[str, Trajectory]]:
    """Trajectories of about 300 tokens: 2 to 5 turns, actions of 16 to 30 tokens, results of 60 to 80."""
    rng = np.random.default_rng(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.integers(0, vocab_size - 2, size=rng.integers(low, high)).tolist())

    rows, trajectories = [], {}
    for i in range(num_rows):
        turns = []
        num_turns = int(rng.integers(2, 6))
        for t in range(num_turns):
            action = ids(16, 31)
            logprobs = tuple(float(np.log(1 / vocab_size)) for _ in action)
            result = ids(60, 81) if t + 1 < num_turns else ()
            turns.append(
                Turn(
                    action_ids=action,
                    action_logprobs=logprobs,
                    action_versions=(0,) * len(action),
                    action=Action(kind="call"),
                    observation_ids=result,
                )
            )
        trajectory = Trajectory(
            id=f"t{i}",
            question_id="q",
            unit_id="u",
            group_id="g",
            prompt_ids=ids(30, 41),
            turns=tuple(turns),
            finish_reason="answered",
        )
        first = len(trajectory.prompt_ids)
        mask = trajectory.loss_mask[first:]
        rows.append(
            Row(
                trajectory_id=trajectory.id,
                first_token=first,
                last_token=first + len(mask),
                advantages=np.full(len(mask), rng.normal()),
                loss_mask=mask,
            )
        )
        trajectories[trajectory.id] = trajectory
    return rows, trajectories


def trl_trainer(model: Path, tokenizer: PreTrainedTokenizerFast, config: LearnerConfig, out: Path) -> GRPOTrainer:
    """TRL's trainer, made ready as `train()` makes it, which takes the batches that it is given."""
    trainer = GRPOTrainer(
        model=str(model),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config.to_grpo_config(out),
        train_dataset=Dataset.from_dict({"prompt": ["", ""]}),
        processing_class=tokenizer,
    )
    trainer._prepare_for_training(1, None, None)
    trainer._prepare_inputs = lambda batch: batch
    return trainer


def trl_own_layout(
    rows: list[Row], trajectories: dict[str, Trajectory], *, pad_id: int, max_tokens: int
) -> list[dict[str, torch.Tensor]]:
    """The batch as `_generate_and_score_completions` pads it and `_prepare_inputs` shuffles and splits it."""
    prompts = [trajectories[row.trajectory_id].prompt_ids for row in rows]
    rest = [trajectories[row.trajectory_id].token_ids[row.first_token :] for row in rows]
    num_rows, left, right = len(rows), max(map(len, prompts)), max(map(len, rest))
    prompt_ids = torch.full((num_rows, left), pad_id)
    prompt_mask = torch.zeros((num_rows, left), dtype=torch.long)
    completion_ids = torch.full((num_rows, right), pad_id)
    completion_mask = torch.zeros((num_rows, right), dtype=torch.long)
    tool_mask = torch.ones((num_rows, right), dtype=torch.long)
    advantages = torch.zeros(num_rows)
    for i, row in enumerate(rows):
        prompt_ids[i, left - len(prompts[i]) :] = torch.tensor(prompts[i])
        prompt_mask[i, left - len(prompts[i]) :] = 1
        completion_ids[i, : len(rest[i])] = torch.from_numpy(rest[i])
        completion_mask[i, : len(rest[i])] = 1
        tool_mask[i, : len(rest[i])] = torch.from_numpy(row.loss_mask)
        advantages[i] = float(row.advantages[0])
    order = torch.randperm(num_rows, generator=torch.Generator().manual_seed(0))
    total = torch.tensor(float((completion_mask * tool_mask).sum()))
    parts = -(-num_rows // max(1, max_tokens // (left + right)))
    tensors = {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
        "tool_mask": tool_mask,
        "advantages": advantages,
    }
    return [
        {**{name: tensor[chunk] for name, tensor in tensors.items()}, "num_items_in_batch": total}
        for chunk in order.chunk(parts)
    ]


def packed_layout(
    rows: list[Row], trajectories: dict[str, Trajectory], *, pad_id: int, max_tokens: int
) -> list[dict[str, torch.Tensor]]:
    """Our micro-batches, as TRL's inputs."""
    total = torch.tensor(float(sum(row.loss_mask.sum() for row in rows)))
    return [
        {
            "prompt_ids": batch.input_ids[:, :1],
            "prompt_mask": torch.ones_like(batch.input_ids[:, :1]),
            "completion_ids": batch.input_ids[:, 1:],
            "completion_mask": batch.completion_mask,
            "tool_mask": batch.policy_mask,
            "advantages": batch.advantages,
            "num_items_in_batch": total,
        }
        for batch in pack_rows(rows, trajectories, max_tokens=max_tokens, pad_id=pad_id)
    ]


def trl_step(trainer: GRPOTrainer, batches: list[dict[str, torch.Tensor]]) -> None:
    """One optimiser step as `Trainer.train` takes it."""
    model = trainer.model_wrapped
    trainer.current_gradient_accumulation_steps = 1  # the token total spans the step already
    for batch in batches:
        trainer.training_step(model, dict(batch), None)
    trainer._clip_grad_norm(model)
    trainer.optimizer.step()
    trainer.lr_scheduler.step()
    model.zero_grad()
    trainer._metrics["train"].clear()


def seconds_of(function: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measure, print a table, and write JSON where asked. Returns the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a few rows and steps: does it run?")
    parser.add_argument("--check", action="store_true", help="exit 1 where the target is missed")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--max-tokens", type=int, default=LearnerConfig().max_tokens_per_micro_batch)
    parser.add_argument("--precision", choices=["float32", "bf16"], default="bf16")
    options = parser.parse_args(argv)
    vocab_size, hidden, layers = 1500, 128, 4
    if options.smoke:
        options.rows, options.steps, hidden, layers = 8, 2, 32, 2

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tokenizer = save_policy(folder / "policy", vocab_size=vocab_size, hidden_size=hidden, num_layers=layers)
        config = LearnerConfig(
            precision=options.precision, max_tokens_per_micro_batch=options.max_tokens, device="cpu", loss_type="dapo"
        )
        rows, trajectories = make_batch(options.rows, vocab_size=vocab_size)
        limits = {"pad_id": tokenizer.pad_token_id, "max_tokens": options.max_tokens}
        own = trl_own_layout(rows, trajectories, **limits)
        packed = packed_layout(rows, trajectories, **limits)
        trainer = trl_trainer(folder / "policy", tokenizer, config, folder / "trl")
        learner = Learner.create(folder / "policy", tokenizer, config, folder / "learner")
        sides: dict[str, Callable[[], object]] = {
            "waymark": lambda: learner.update(rows, trajectories),
            "waymark_probed": lambda: learner.update(rows, trajectories, probe=True),
            "trl_own": lambda: trl_step(trainer, own),
            "trl_packed": lambda: trl_step(trainer, packed),
        }
        times: dict[str, list[float]] = {name: [] for name in sides}
        for step in range(options.steps + 1):
            for name, run in sides.items():
                elapsed = seconds_of(run)
                if step:  # the first one warms up
                    times[name].append(elapsed)
    medians = {name: statistics.median(values) for name, values in times.items()}
    figures: dict[str, Any] = {
        "rows": options.rows,
        "tokens": sum(row.last_token for row in rows),
        "sampled_tokens": int(sum(row.loss_mask.sum() for row in rows)),
        "precision": options.precision,
        "threads": torch.get_num_threads(),
        "steps": options.steps,
        "seconds": {name: round(value, 4) for name, value in medians.items()},
        "range_s": {name: [round(min(v), 4), round(max(v), 4)] for name, v in times.items()},
        "ratio_to_trl_own": round(medians["waymark"] / medians["trl_own"], 3),
        "ratio_to_trl_packed": round(medians["waymark"] / medians["trl_packed"], 3),
        "ratio_of_probed": round(medians["waymark_probed"] / medians["waymark"], 3),
        "target": TARGET,
    }
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if options.check and max(figures["ratio_to_trl_own"], figures["ratio_to_trl_packed"]) > TARGET:
        sys.exit("the target is missed")
    return figures


if __name__ == "__main__":
    main()
