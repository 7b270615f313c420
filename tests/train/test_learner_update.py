"""What an update does to the policy, what it reports, and what scoring gives back."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.train.fakes import random_trajectories
from tests.train.test_learner import rows_of
from train.learner import Learner
from train.packing import pack_rows


def test_a_step_in_which_no_advantage_differs_from_zero_still_steps(make_learner: Callable[..., Learner]) -> None:
    """Adam's momentum goes on, as it does in TRL; nothing crashes without a row to run."""
    learner = make_learner()
    rows, known = rows_of(random_trajectories(4))
    learner.update(rows, known)
    before = [p.detach().clone() for p in learner.model.parameters()]
    metrics = learner.update([replace(r, advantages=r.advantages * 0) for r in rows], known)
    assert (metrics["loss"], metrics["grad_norm"]) == (0.0, 0.0)
    assert metrics["rows_without_gradient"] == 4.0
    assert any((p != q).any() for p, q in zip(learner.model.parameters(), before, strict=True))


def test_no_rows_at_all_change_nothing(make_learner: Callable[..., Learner]) -> None:
    learner = make_learner()
    before = [p.detach().clone() for p in learner.model.parameters()]
    metrics = learner.update([], {})
    assert metrics["rows"] == 0.0 and learner.step == 0
    assert all((p == q).all() for p, q in zip(learner.model.parameters(), before, strict=True))


def test_a_gradient_that_is_not_finite_skips_the_step_and_is_counted(
    make_learner: Callable[..., Learner], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make_learner()
    rows, known = rows_of(random_trajectories(4))
    before = [p.detach().clone() for p in learner.model.parameters()]
    forward = learner._forward

    def broken(*args: Any, **kwargs: Any) -> Any:
        logprobs, *rest = forward(*args, **kwargs)
        return (logprobs * float("nan"), *rest)

    monkeypatch.setattr(learner, "_forward", broken)
    metrics = learner.update(rows, known)
    assert metrics["skipped_steps"] == 1.0 and not np.isfinite(metrics["grad_norm"])
    assert all((p == q).all() for p, q in zip(learner.model.parameters(), before, strict=True))
    monkeypatch.undo()
    assert np.isfinite(learner.update(rows, known)["grad_norm"])
    assert (learner.step, learner.skipped_steps) == (2, 1)


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_a_plain_forward_pass(
    make_learner: Callable[..., Learner], policy: Path, temperature: float, tiled: bool
) -> None:
    learner = make_learner(tiled_lm_head=tiled)
    rows, known = rows_of(random_trajectories(9, seed=2))
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32).eval()
    for row, scored in zip(rows, learner.score(rows, known, temperature), strict=True):
        ids = torch.from_numpy(known[row.trajectory_id].token_ids)
        with torch.no_grad():
            logprobs = (model(ids[None]).logits[0, :-1] / temperature).log_softmax(-1)
        expected = logprobs.gather(-1, ids[1:, None]).squeeze(-1)[row.first_token - 1 : row.last_token - 1].numpy()
        np.testing.assert_allclose(scored, expected * row.loss_mask, atol=1e-5)


def test_sampler_metrics_say_how_far_the_engine_is_from_the_learner(make_learner: Callable[..., Learner]) -> None:
    learner = make_learner()
    rows, known = rows_of(random_trajectories(6))
    differences = np.concatenate(
        [
            (scored - known[r.trajectory_id].logprobs[r.first_token : r.last_token])[r.loss_mask == 1]
            for r, scored in zip(rows, learner.score(rows, known), strict=True)
        ]
    )
    metrics = learner.update(rows, known)
    ratio = np.exp(differences)
    assert metrics["sampler_ratio_mean"] == pytest.approx(ratio.mean(), rel=1e-4)
    assert metrics["sampler_ratio_max"] == pytest.approx(ratio.max(), rel=1e-4)
    assert metrics["sampler_kl"] == pytest.approx((ratio - 1 - differences).mean(), rel=1e-4)
    assert 0 < metrics["entropy"] < np.log(learner.model.config.vocab_size)


def test_learning_raises_what_was_rewarded(make_learner: Callable[..., Learner]) -> None:
    learner = make_learner(learning_rate=0.01)
    members = random_trajectories(8, seed=9)
    rows, known = rows_of(members)
    rows = [replace(r, advantages=r.loss_mask * (1.0 if i % 2 else -1.0)) for i, r in enumerate(rows)]
    before = learner.score(rows, known)
    for _ in range(10):
        learner.update(rows, known)
    gains = [(a - b).sum() for a, b in zip(learner.score(rows, known), before, strict=True)]
    assert min(gains[1::2]) > 0 > max(gains[::2])


def test_dropout_is_off(make_learner: Callable[..., Learner]) -> None:
    """The fixture's model has attention dropout 0.1, and the learner's model is in training mode."""
    learner = make_learner()
    rows, known = rows_of(random_trajectories(5))
    first, second = learner.score(rows, known), learner.score(rows, known)
    assert learner.model.training
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_bf16_is_close_to_float32(make_learner: Callable[..., Learner]) -> None:
    rows, known = rows_of(random_trajectories(9))
    full = make_learner().update(rows, known)
    half = make_learner(precision="bf16").update(rows, known)
    assert half["loss"] == pytest.approx(full["loss"], abs=0.02)
    assert half["grad_norm"] == pytest.approx(full["grad_norm"], rel=0.05)


def test_different_advantages_under_a_sequence_ratio_are_refused(make_learner: Callable[..., Learner]) -> None:
    learner = make_learner(importance_sampling_level="sequence", loss_type="grpo")
    rows, known = rows_of(random_trajectories(4))
    with pytest.raises(ValueError, match="use credit outcome or outcome_mean"):
        learner.update(rows, known)


def test_a_temperature_of_zero_is_refused(make_learner: Callable[..., Learner]) -> None:
    with pytest.raises(ValueError, match="temperature above 0"):
        make_learner().update([], {}, 0.0)


def test_packing_in_another_order_gives_the_same_step(make_learner: Callable[..., Learner]) -> None:
    rows, known = rows_of(random_trajectories(9))
    first, second = make_learner(), make_learner()
    first.update(rows, known)
    second.update(rows[::-1], known)
    for p, q in zip(first.model.parameters(), second.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


def test_a_row_padded_among_longer_ones_scores_as_alone(make_learner: Callable[..., Learner]) -> None:
    learner = make_learner(max_tokens_per_micro_batch=4096)
    rows, known = rows_of(random_trajectories(9))
    together = learner.score(rows, known)
    for row, scored in zip(rows, together, strict=True):
        np.testing.assert_allclose(learner.score([row], known)[0], scored, atol=2e-6)
    assert len(pack_rows(rows, known, max_tokens=4096, pad_id=0)) == 1
