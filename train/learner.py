"""The learner: TRL's GRPO parts and loss under an optimiser step of our own.

TRL's `GRPOTrainer` builds model, reference model, adapters, optimiser, schedule and accelerate, and its `_compute_loss`
is what is minimised. Its loop is not used: it drops remainder rows and wants groups of a fixed size. `update` takes any
number of rows and packs them by tokens; `train.packed_trainer` makes the micro-batches' losses add up, so that the
summed gradient is that of the loss over all rows of all ranks at once.
"""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging
from trl import GRPOConfig

from agent.hugging_face import load_tokenizer
from agent.out_of_memory import names_settings
from agent.trajectory import Trajectory
from train.credit.row import Row
from train.forward_settings import attend_in_float32, switch_off_dropout
from train.learner_config import LearnerConfig
from train.learner_metrics import StepMetrics, StepTotals
from train.learner_state import LearnerState, attend_capture, capture_state, restore_state
from train.packed_trainer import PackedTrainer
from train.packing import MicroBatch, check_row, empty_batch, pack_rows
from train.ratio_metrics import update_metrics
from train.shards import is_sharded, whole
from train.weights import base_model, merged_weights, save_folder

TILED_ABOVE_VOCABULARY = 32_768
"""Vocabularies above this use TRL's tiled head by default: dense logits at 4,096 sampled tokens would pass 0.5 GB."""


LOADING_SETTINGS = (
    "train adapters (learner.peft)",
    "set learner.beta: 0, which needs no reference model",
    "lower engine.gpu_memory_fraction, where an engine shares the GPU",
    "shard over more processes (runtime.learners with learner.trl.fsdp)",
    "take a smaller model",
)


def memory_settings(config: LearnerConfig, *, tiled: bool) -> list[str]:
    """What lowers the memory of a step, the cheapest first; what is set already is left out."""
    advice = [f"lower learner.max_tokens_per_micro_batch ({config.max_tokens_per_micro_batch} now)"]
    if not config.gradient_checkpointing:
        advice.append("set learner.gradient_checkpointing: true")
    if not tiled:
        advice.append("set learner.tiled_lm_head: true")
    advice.append("lower what an engine beside it takes (engine.gpu_memory_fraction, engine.kv_cache_gb)")
    advice.append("lower limits.max_trajectory_tokens, because one row is never split")
    if config.peft is None:
        advice.append("train adapters (learner.peft)")
    return advice


def _no_reward(completions: list[Any], **_: Any) -> list[float]:
    """TRL's constructor wants a reward function; nothing calls it."""
    return [0.0] * len(completions)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


class Learner(PackedTrainer):
    """A policy and everything that changes its weights. Make one with `Learner.create`."""

    @classmethod
    def create(
        cls,
        model_path: str | Path,
        tokenizer: PreTrainedTokenizerBase | None,
        config: LearnerConfig,
        output_dir: str | Path,
        *,
        total_steps: int | None = None,
        trust_remote_code: bool = False,
    ) -> "Learner":
        """Load a policy from a Hugging Face folder or id and prepare to update it. Silent, and writes no log.

        `tokenizer` None is read from the same place. `total_steps` counts `update` calls; schedules that fall need it.

        Raises:
            FileNotFoundError: a folder without config.json.
            ValueError: a model without a tokenizer, a schedule that needs `total_steps`, or what TRL refuses.
            OutOfMemory: (a ValueError) the model or its copies do not fit into memory.
        """
        folder = Path(model_path)
        if folder.exists() and not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{folder} has no config.json; give a Hugging Face model folder or a model id")
        if tokenizer is None:
            tokenizer = load_tokenizer(model_path, trust_remote_code=trust_remote_code)
        optimiser_steps = None if total_steps is None else total_steps * config.updates_per_batch
        arguments = config.to_grpo_config(
            Path(output_dir), total_steps=optimiser_steps, trust_remote_code=trust_remote_code
        )
        with _no_progress_bars(), names_settings(f"loading {model_path} into the learner", LOADING_SETTINGS):
            learner = cls(
                model=str(model_path),
                reward_funcs=_no_reward,
                args=arguments,
                train_dataset=Dataset.from_dict({"prompt": ["", ""]}),
                processing_class=tokenizer,
                peft_config=config.peft.to_lora() if config.peft else None,
            )
        learner._start(config, arguments)
        return learner

    def _start(self, config: LearnerConfig, arguments: GRPOConfig) -> None:
        self.settings = config
        if config.gradient_checkpointing:
            self.model.gradient_checkpointing_enable(arguments.gradient_checkpointing_kwargs)
        switch_off_dropout(self.model)
        if config.precision == "bf16" and self.accelerator.device.type == "cpu":
            attend_in_float32(base_model(self.model))
        self._prepare_for_training(arguments.max_steps, None, None)
        self.model_wrapped.train()
        self.skipped_steps = 0
        text_config = self.model.config.get_text_config()
        self._is_sharded = is_sharded(self.model_wrapped)
        if arguments.fsdp and not self._is_sharded:
            raise ValueError(
                "learner.trl.fsdp is set, and here every process holds all weights: accelerate shards them on GPUs "
                "alone. Leave it out, or reserve GPUs with runtime.learner_gpus"
            )
        self._window: int | None = getattr(text_config, "max_position_embeddings", None)
        self._tiled = (
            text_config.vocab_size > TILED_ABOVE_VOCABULARY if config.tiled_lm_head is None else config.tiled_lm_head
        )

    def _send_telemetry(self) -> None:
        """TRL reports usage over the network; Waymark does not."""

    @property
    def step(self) -> int:
        """Optimiser steps so far, skipped ones included."""
        return int(self.state.global_step)

    def update(
        self,
        rows: Sequence[Row],
        trajectories: Mapping[str, Trajectory],
        temperature: float = 1.0,
        *,
        version: int | None = None,
        probe: bool = False,
    ) -> dict[str, Any]:
        """One update on rows (`updates_per_batch` optimiser steps), whatever their number; each rank gives its own.

        `trajectories` is keyed by id; `temperature` is the one they were sampled at; `version` is the policy version of
        the learner's weights now, by which a token's age is told (None: the updates so far); `probe` asks how far the
        update moves the policy, for one more forward pass over a micro-batch. A row without a trained token is left out
        and enters no denominator. A step whose gradient is NaN or infinite changes nothing and is counted in
        `skipped_steps`. Without a row on any rank nothing happens.

        Returns:
            `loss`, `grad_norm` (before clipping), `learning_rate`, `entropy` (nats a token), `clip_ratio` (share of
            tokens; loss types that clip), `kl` (against the reference; beta above 0), `sampler_kl`,
            `sampler_ratio_mean`, `sampler_ratio_max` (learner over engine probability of the sampled tokens, before the
            step), `importance_weight_mean` (if they are on), `rows`, `rows_without_gradient`, `tokens` (trained),
            `padding` (share of the forward pass), `micro_batches`, `skipped_steps` (so far), `seconds`. Entropy, ratios
            and KL are over the rows that were run. Also those of `train.ratio_metrics.ratio_metrics`, and with `probe`
            of `update_metrics`. All numbers are those of all ranks' rows together, and equal on every rank.

        Raises:
            ValueError: a row that does not fit its trajectory, a temperature of 0 or less, or advantages that differ
                inside a trajectory under sequence-level ratios.
            OutOfMemory: (a ValueError) the step needs more memory than there is; it says which settings to change.
        """
        self._set_temperature(temperature)
        batches, totals = self._pack(rows, trajectories)
        metrics = StepMetrics(totals, batches)
        probed = batches[len(batches) // 2] if probe and totals.all_rows else None  # of middling length
        if probed:
            probed.is_probe = True
        learning_rate = self._get_learning_rate()
        version = self.step // self.settings.updates_per_batch if version is None else version
        with names_settings("the learner's step", memory_settings(self.settings, tiled=self._tiled)):
            if totals.all_rows:
                for batch in batches:
                    batch.reference_logprobs = self._reference_logprobs(batch)
                for _ in range(self.settings.updates_per_batch):
                    learning_rate = self._get_learning_rate()
                    self._optimiser_step(batches, totals, metrics)
            if probed:
                moved = self._moved(probed)
        summary = metrics.summary(
            learning_rate=learning_rate,
            skipped_steps=self.skipped_steps,
            everywhere=lambda line: self.accelerator.gather(line.to(self.accelerator.device)),
        )
        summary.update(self._ratio_metrics(metrics, version))
        if probed:
            summary.update(update_metrics(moved))
        return summary

    def score(
        self, rows: Sequence[Row], trajectories: Mapping[str, Trajectory], temperature: float = 1.0
    ) -> list[NDArray[np.float64]]:
        """The learner's logprobs of each row's trained tokens, 0 elsewhere: one `[last_token - first_token]` a row."""
        self._set_temperature(temperature)
        for row in rows:
            check_row(row, trajectories, context_window=self._window)
        result: list[NDArray[np.float64]] = [np.zeros(0)] * len(rows)
        with torch.no_grad(), names_settings("scoring", memory_settings(self.settings, tiled=self._tiled)):
            for batch in self._micro_batches(rows, trajectories):
                logprobs = self._forward(self.model_wrapped, batch)[0].double().cpu().numpy()
                for place, index in enumerate(batch.row_indices):
                    row = rows[index]
                    whole = np.concatenate([[0.0], logprobs[place]])
                    result[index] = whole[row.first_token : row.last_token]
        return result

    @property
    def is_sharded(self) -> bool:
        """True if each rank holds a shard of the weights: then all ranks call whatever reads them whole, in step."""
        return self._is_sharded

    def release_memory(self) -> None:
        """Give back to the GPU what torch keeps for the next step."""
        if self.accelerator.device.type == "cuda":
            torch.cuda.empty_cache()

    def attend_reading(self, *, state: bool) -> None:
        """What a rank calls that reads nothing, while another one reads `named_weights` or saves the model (and, with
        `state`, saves the state after it): it gives its shards.
        """
        if self.is_sharded:
            deque(self.named_weights(), maxlen=0)
            if state:
                attend_capture(self._unwrapped(), self.optimizer)

    def named_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every weight by its name in the plain model, adapters merged in: for `Engine.update_weights`."""
        return merged_weights(self._unwrapped())

    def save_model_folder(self, path: str | Path) -> None:
        """Write the policy as an ordinary Hugging Face folder, tokenizer included."""
        save_folder(self._unwrapped(), self._tokenizer, Path(path))

    def state_dict(self) -> LearnerState:
        """Copies of everything a resume needs: weights, optimiser, schedule, step counts and random states."""
        plain = {"step": self.step, "skipped_steps": self.skipped_steps}
        return capture_state(self._unwrapped(), self.optimizer, self.lr_scheduler, plain=plain)

    def load_state_dict(self, state: LearnerState) -> None:
        """Go on where `state_dict` was taken, bit for bit on the same machine.

        Raises:
            ValueError: the state belongs to another model.
        """
        restore_state(state, self._unwrapped(), self.optimizer, self.lr_scheduler)
        self.state.global_step = state.plain["step"]
        self.skipped_steps = state.plain["skipped_steps"]

    def save_state(self, folder: str | Path, *, beside: Path | None = None) -> None:
        """Write `state_dict` into a folder as safetensors and JSON, without the weights that `beside` holds.

        `beside` is a folder that `save_model_folder` has written since the last update.
        """
        self.state_dict().save(Path(folder), beside=beside)

    def load_state(self, folder: str | Path) -> None:
        """Read a folder that `save_state` wrote. Raises FileNotFoundError or ValueError, saying what is wrong."""
        self.load_state_dict(LearnerState.load(Path(folder)))

    def _pack(self, rows: Sequence[Row], trajectories: Mapping[str, Trajectory]) -> tuple[list[MicroBatch], StepTotals]:
        trained = []
        for row in rows:
            check_row(row, trajectories, context_window=self._window)
            if row.loss_mask.any():
                trained.append(row)
        run = [row for row in trained if self._has_gradient(row)]
        batches = self._micro_batches(run, trajectories)
        tokens = sum(int(row.loss_mask.sum()) for row in trained)
        sizes = torch.tensor([[len(trained), tokens, len(batches)]], device=self.accelerator.device)
        everywhere = self.accelerator.gather(sizes)
        totals = StepTotals(
            rows=len(trained),
            tokens=tokens,
            rows_without_gradient=len(trained) - len(run),
            all_rows=int(everywhere[:, 0].sum()),
            all_tokens=int(everywhere[:, 1].sum()),
            num_micro_batches=max(1, int(everywhere[:, 2].max())),
        )
        while len(batches) < totals.num_micro_batches:
            batches.append(empty_batch(pad_id=self._tokenizer.pad_token_id, device=self.accelerator.device))
        return batches, totals

    def _micro_batches(self, rows: Sequence[Row], trajectories: Mapping[str, Trajectory]) -> list[MicroBatch]:
        return pack_rows(
            rows,
            trajectories,
            max_tokens=self.settings.max_tokens_per_micro_batch,
            pad_id=self._tokenizer.pad_token_id,
            device=self.accelerator.device,
        )

    def _has_gradient(self, row: Row) -> bool:
        config = self.settings
        if config.importance_sampling_level == "sequence":
            advantages = row.advantages[row.loss_mask == 1]
            if (advantages != advantages[0]).any():
                raise ValueError(
                    f"trajectory {row.trajectory_id!r} has different advantages on its tokens, but "
                    "importance_sampling_level: sequence has one ratio for all of them; use credit outcome or "
                    "outcome_mean, or importance_sampling_level: token"
                )
        if not config.skip_rows_without_gradient or config.beta > 0 or config.entropy_coef > 0 or self.aux_loss_enabled:
            return True
        return bool(((row.advantages != 0) & (row.loss_mask == 1)).any())

    def _optimiser_step(self, batches: Sequence[MicroBatch], totals: StepTotals, metrics: StepMetrics) -> None:
        model = self.model_wrapped
        for position, batch in enumerate(batches):
            last = position == len(batches) - 1
            # Shards are reduced at once: gradients that wait would be whole on every rank.
            with nullcontext() if last or self.is_sharded else self.accelerator.no_sync(model):
                loss = self._compute_loss(model, self._inputs(batch, totals, metrics))
                self.accelerator.backward(loss)
            metrics.add_loss(loss, batch, self._metrics["train"])
            self._metrics["train"].clear()
        norm = float(whole(self.accelerator.clip_grad_norm_(model.parameters(), self.settings.max_grad_norm)))
        metrics.add_grad_norm(norm)
        if math.isfinite(norm):
            self.optimizer.step()
            self.lr_scheduler.step()
        else:
            self.skipped_steps += 1
        self.optimizer.zero_grad(set_to_none=True)
        self.state.global_step += 1
