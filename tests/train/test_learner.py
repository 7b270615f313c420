"""The learner against TRL's own loss, and against a plain loop over tokens."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from agent.trajectory import Trajectory
from tests.train.fakes import random_trajectories
from train.credit.row import Row
from train.learner import Learner
from train.learner_metrics import StepMetrics
from train.trl_trainer import GRPOTrainer

LOSS_TYPES = ["dapo", "grpo", "bnpo", "dr_grpo", "cispo", "sapo", "vespo"]


def rows_of(
    members: list[Trajectory], *, constant: bool = False, seed: int = 1
) -> tuple[list[Row], dict[str, Trajectory]]:
    rng = np.random.default_rng(seed)
    rows = []
    for t in members:
        first = len(t.prompt_ids)
        mask = t.loss_mask[first:]
        advantages = np.full(len(mask), rng.normal()) if constant else rng.normal(size=len(mask))
        rows.append(
            Row(
                trajectory_id=t.id,
                first_token=first,
                last_token=first + len(mask),
                advantages=advantages * mask,
                loss_mask=mask,
            )
        )
    return rows, {t.id: t for t in members}


def gradients(learner: Learner) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in learner.model.named_parameters() if p.grad is not None}


def catch_gradients(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """Keep the gradients that each optimiser step sees before it clips them."""
    caught: list[dict[str, torch.Tensor]] = []
    clip = learner.accelerator.clip_grad_norm_

    def record(*args: Any, **kwargs: Any) -> torch.Tensor:
        caught.append(gradients(learner))
        return clip(*args, **kwargs)

    monkeypatch.setattr(learner.accelerator, "clip_grad_norm_", record)
    return caught


def trl_inputs(rows: list[Row], known: dict[str, Trajectory], pad_id: int) -> dict[str, torch.Tensor]:
    """The same rows as TRL lays them out: prompts padded left, completions right, one advantage a row."""
    prompts = [known[r.trajectory_id].prompt_ids for r in rows]
    rest = [known[r.trajectory_id].token_ids[r.first_token : r.last_token] for r in rows]
    left, right = max(map(len, prompts)), max(map(len, rest))
    out = {
        "prompt_ids": torch.full((len(rows), left), pad_id),
        "prompt_mask": torch.zeros((len(rows), left), dtype=torch.long),
        "completion_ids": torch.full((len(rows), right), pad_id),
        "completion_mask": torch.zeros((len(rows), right), dtype=torch.long),
        "tool_mask": torch.ones((len(rows), right), dtype=torch.long),
        "advantages": torch.tensor([float(r.advantages[r.loss_mask == 1][0]) for r in rows]),
    }
    for i, row in enumerate(rows):
        out["prompt_ids"][i, left - len(prompts[i]) :] = torch.tensor(prompts[i])
        out["prompt_mask"][i, left - len(prompts[i]) :] = 1
        out["completion_ids"][i, : len(rest[i])] = torch.from_numpy(rest[i])
        out["completion_mask"][i, : len(rest[i])] = 1
        out["tool_mask"][i, : len(rest[i])] = torch.from_numpy(row.loss_mask)
    out["num_items_in_batch"] = torch.tensor(float(sum(r.loss_mask.sum() for r in rows)))
    return out


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize(
    ("loss_type", "level"),
    [*((name, "token") for name in LOSS_TYPES), ("grpo", "sequence"), ("dapo", "sequence"), ("luspo", "sequence")],
)
def test_with_constant_advantages_loss_and_gradient_are_trls_own(
    make_learner: Callable[..., Learner], monkeypatch: pytest.MonkeyPatch, loss_type: str, level: str, tiled: bool
) -> None:
    """TRL runs its own forward pass on its own layout in one batch of [B] advantages; we take several micro-batches."""
    extra = {"epsilon_high": 2.0} if loss_type == "cispo" else {}
    learner = make_learner(loss_type=loss_type, importance_sampling_level=level, tiled_lm_head=tiled, beta=0.1, **extra)
    rows, known = rows_of(random_trajectories(11), constant=True)
    inputs = trl_inputs(rows, known, learner._tokenizer.pad_token_id)
    with torch.no_grad():
        inputs["ref_per_token_logps"] = GRPOTrainer._get_per_token_logps_and_entropies(
            learner,
            learner.ref_model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            inputs["completion_ids"].shape[1],
        )[0]
    learner.current_gradient_accumulation_steps = 1
    loss = GRPOTrainer._compute_loss(learner, learner.model_wrapped, inputs)
    loss.backward()
    expected = gradients(learner)
    learner.optimizer.zero_grad()
    learner._metrics["train"].clear()

    caught = catch_gradients(learner, monkeypatch)
    metrics = learner.update(rows, known)
    assert metrics["micro_batches"] > 2
    assert metrics["loss"] == pytest.approx(loss.item(), abs=1e-6)
    scale = max(g.abs().max().item() for g in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(caught[0][name], gradient, rtol=0, atol=max(1e-6, 1e-5 * scale), msg=name)


def test_the_loss_with_old_logprobs_and_clipping_is_trls_own(make_learner: Callable[..., Learner]) -> None:
    """On the second update of a batch the ratio is no longer 1, and some tokens are clipped."""
    learner = make_learner(updates_per_batch=2, learning_rate=0.05, epsilon=0.05, loss_type="dapo", max_grad_norm=100.0)
    rows, known = rows_of(random_trajectories(8), constant=True)
    losses: list[tuple[float, float]] = []
    inner = learner._optimiser_step

    def old_logprobs(batches: Any, like: torch.Tensor) -> torch.Tensor:
        old = torch.zeros(like.shape)
        for batch in batches:
            for place, index in enumerate(batch.row_indices):
                row = rows[index]
                span = slice(row.first_token - 1, row.last_token - 1)
                old[index, : row.last_token - row.first_token] = batch.old_logprobs[place, span]
        return old

    def spy(batches: Any, totals: Any, metrics: StepMetrics) -> None:
        theirs = None
        if batches[0].old_logprobs is not None:
            inputs = trl_inputs(rows, known, learner._tokenizer.pad_token_id)
            inputs["old_per_token_logps"] = old_logprobs(batches, inputs["completion_ids"])
            learner.current_gradient_accumulation_steps = 1
            theirs = GRPOTrainer._compute_loss(learner, learner.model_wrapped, inputs).item()
            learner._metrics["train"].clear()
        seen = len(metrics._losses)
        inner(batches, totals, metrics)
        if theirs is not None:
            losses.append((sum(loss.item() for loss in metrics._losses[seen:]), theirs))

    learner._optimiser_step = spy  # type: ignore[method-assign]
    metrics = learner.update(rows, known)
    ((ours, theirs),) = losses
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert metrics["clip_ratio"] > 0
    assert learner.step == 2


def test_no_gradient_reaches_a_logit_that_predicts_what_was_not_sampled(make_learner: Callable[..., Learner]) -> None:
    """Logits of every position as leaves: TRL's loss on our packed masks moves those of sampled tokens only."""
    learner = make_learner(max_tokens_per_micro_batch=4096, loss_type="dapo", updates_per_batch=2)
    rows, known = rows_of(random_trajectories(12))
    (batch,), totals = learner._pack(rows, known)
    leaf = torch.randn(*batch.input_ids.shape, learner.model.config.vocab_size, requires_grad=True)

    def from_leaf(*_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor, None]:
        logprobs = leaf[:, :-1].log_softmax(-1)
        chosen = logprobs.gather(-1, batch.input_ids[:, 1:, None]).squeeze(-1)
        return chosen, torch.zeros_like(chosen), None

    learner._forward = from_leaf  # type: ignore[method-assign]
    learner._compute_loss(None, learner._inputs(batch, totals, StepMetrics(totals, [batch]))).backward()
    assert leaf.grad is not None
    moved = leaf.grad.abs().sum(dim=-1) > 0
    sampled = torch.zeros(batch.input_ids.shape, dtype=torch.bool)
    for place, index in enumerate(batch.row_indices):
        t = known[rows[index].trajectory_id]
        sampled[place, : len(t.token_ids) - 1] = torch.from_numpy(t.loss_mask[1:] == 1)
    assert sampled.any() and not sampled.all()
    assert (leaf.grad[~sampled] == 0).all()
    assert moved[sampled].all()


@pytest.mark.parametrize("tiled", [False, True])
def test_no_gradient_reaches_the_head_at_observation_positions(
    make_learner: Callable[..., Learner], tiled: bool
) -> None:
    """The same through the real model: the last hidden states of positions that predict no sampled token."""
    learner = make_learner(max_tokens_per_micro_batch=4096, tiled_lm_head=tiled)
    rows, known = rows_of(random_trajectories(12))
    (batch,), totals = learner._pack(rows, known)
    kept: list[torch.Tensor] = []

    def keep(_: Any, __: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    handle = learner.model.model.norm.register_forward_hook(keep)
    metrics = StepMetrics(totals, [batch])
    learner._compute_loss(learner.model_wrapped, learner._inputs(batch, totals, metrics)).backward()
    handle.remove()
    gradient = kept[0].grad
    assert gradient is not None
    assert (gradient[:, :-1][batch.policy_mask == 0] == 0).all()
    assert (gradient[:, -1] == 0).all()
    assert (gradient[:, :-1][batch.policy_mask == 1].abs().sum(dim=-1) > 0).all()


def test_37_rows_one_of_them_excluded_give_the_gradient_of_a_plain_loop_over_tokens(
    make_learner: Callable[..., Learner], policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference is a float64 model, one row at a time without padding, one term a sampled token."""
    learner = make_learner(loss_type="dapo", max_tokens_per_micro_batch=64)
    rows, known = rows_of(random_trajectories(37, seed=5))
    rows[11] = replace(rows[11], loss_mask=np.zeros_like(rows[11].loss_mask))

    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float64).eval()
    total, terms = torch.zeros((), dtype=torch.float64), 0
    for row in rows:
        ids = known[row.trajectory_id].token_ids
        logprobs = model(torch.from_numpy(ids)[None]).logits[0].log_softmax(-1)
        for offset, (advantage, trained) in enumerate(zip(row.advantages, row.loss_mask, strict=True)):
            if trained:
                position = row.first_token + offset
                total = total - advantage * logprobs[position - 1, ids[position]]
                terms += 1
    (total / terms).backward()
    expected = {n: p.grad for n, p in model.named_parameters()}

    caught = catch_gradients(learner, monkeypatch)
    metrics = learner.update(rows, known)
    assert metrics["micro_batches"] >= 5
    assert (metrics["rows"], metrics["tokens"]) == (36.0, float(terms))
    scale = max(g.abs().max().item() for g in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(caught[0][name].double(), gradient, rtol=0, atol=1e-5 * scale, msg=name)


@pytest.mark.parametrize("loss_type", ["grpo", "sapo", "dr_grpo", "bnpo", "vespo"])
def test_micro_batches_do_not_change_the_gradient(
    make_learner: Callable[..., Learner], monkeypatch: pytest.MonkeyPatch, loss_type: str
) -> None:
    rows, known = rows_of(random_trajectories(9, seed=3))
    found = []
    for max_tokens in (1, 40, 10_000):
        learner = make_learner(loss_type=loss_type, max_tokens_per_micro_batch=max_tokens, entropy_coef=0.2, beta=0.3)
        caught = catch_gradients(learner, monkeypatch)
        learner.update(rows, known)
        found.append(caught[0])
    for other in found[1:]:
        for name, gradient in found[0].items():
            torch.testing.assert_close(other[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_skipping_rows_without_gradient_changes_no_gradient(
    make_learner: Callable[..., Learner], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, known = rows_of(random_trajectories(10, seed=4))
    rows = [replace(r, advantages=r.advantages * (i % 3 != 0)) for i, r in enumerate(rows)]
    found = []
    for skip in (True, False):
        learner = make_learner(skip_rows_without_gradient=skip, loss_type="grpo")
        caught = catch_gradients(learner, monkeypatch)
        metrics = learner.update(rows, known)
        assert metrics["rows_without_gradient"] == (4.0 if skip else 0.0)
        assert metrics["rows"] == 10.0
        found.append(caught[0])
    for name, gradient in found[0].items():
        # Rows are padded into other batches: sums of float32 in another order, by up to 3e-7 on some processors.
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def test_capped_importance_weights_are_those_trl_applies_itself(make_learner: Callable[..., Learner]) -> None:
    """With its own engine TRL multiplies the loss by min(exp(learner - engine), cap); we fold that into advantages."""
    learner = make_learner(importance_weight_cap=1.5, max_tokens_per_micro_batch=4096)
    rows, known = rows_of(random_trajectories(9))
    (batch,), totals = learner._pack(rows, known)
    metrics = StepMetrics(totals, [batch])
    ours = learner._compute_loss(learner.model_wrapped, learner._inputs(batch, totals, metrics))

    with torch.no_grad():
        logprobs = learner._forward(learner.model_wrapped, batch)[0]
    ratio = ((logprobs - batch.engine_logprobs) * batch.policy_mask).exp().clamp(max=1.5)
    assert (ratio == 1.5).any() and (ratio < 1).any()
    plain = make_learner(max_tokens_per_micro_batch=4096)
    inputs = plain._inputs(batch, totals, StepMetrics(totals, [batch]))
    del inputs["waymark"]
    plain.use_vllm = plain.vllm_importance_sampling_correction = True
    theirs = plain._compute_loss(plain.model_wrapped, {**inputs, "importance_sampling_ratio": ratio})
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)
    summary = metrics.summary(learning_rate=0.0, skipped_steps=0, everywhere=lambda line: line)
    assert summary["importance_weight_mean"] == pytest.approx(ratio[batch.policy_mask == 1].mean().item(), rel=1e-5)
