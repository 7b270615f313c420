"""Going on after an interruption, and handing weights to others: folders, engines, adapters."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from agent.engine import SamplingParams
from agent.engines.transformers import TransformersEngine
from agent.trajectory import Trajectory
from tests.train.fakes import random_trajectories, save_policy, trajectory, turn
from tests.train.test_learner import rows_of
from train.credit.row import Row
from train.learner import Learner
from train.learner_config import LearnerConfig, PeftConfig
from train.learner_state import LearnerState

CONFIG = LearnerConfig(
    device="cpu", max_tokens_per_micro_batch=48, schedule="cosine", warmup_steps=2, beta=0.1, weight_decay=0.1
)


def make(policy: Path, out: Path, config: LearnerConfig = CONFIG) -> Learner:
    return Learner.create(policy, None, config, out, total_steps=4)


def steps(learner: Learner, seeds: range) -> list[dict[str, float]]:
    """One update on other rows for each seed, less what the clock says."""
    found = []
    for seed in seeds:
        rows, known = rows_of(random_trajectories(7, seed=seed), seed=seed)
        metrics = learner.update(rows, known)
        del metrics["seconds"]
        found.append(metrics)
    return found


@pytest.mark.parametrize("peft", [None, PeftConfig(rank=4, alpha=8)])
def test_two_steps_and_two_after_a_resume_are_four_steps_bit_for_bit(
    policy: Path, tmp_path: Path, peft: PeftConfig | None
) -> None:
    config = CONFIG.model_copy(update={"peft": peft})
    whole = make(policy, tmp_path / "a", config)
    expected = steps(whole, range(4))

    first = make(policy, tmp_path / "b", config)
    before = steps(first, range(2))
    first.save_state(tmp_path / "state")
    drawn = (random.random(), np.random.random(), torch.rand(1).item())
    second = make(policy, tmp_path / "c", config)
    second.load_state(tmp_path / "state")
    assert (random.random(), np.random.random(), torch.rand(1).item()) == drawn
    assert second.step == 2
    after = steps(second, range(2, 4))

    assert before + after == expected
    for (name, p), (_, q) in zip(whole.model.named_parameters(), second.model.named_parameters(), strict=True):
        assert torch.equal(p, q), name
    for name, tensor in whole.state_dict().tensors.items():
        if not name.startswith("random."):
            assert torch.equal(tensor, second.state_dict().tensors[name]), name


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("peft", [None, PeftConfig(rank=4, alpha=8)])
def test_weights_are_written_once_and_a_resume_is_still_bit_for_bit(
    tmp_path: Path, peft: PeftConfig | None, tied: bool
) -> None:
    """In the model folder where it has them, in the state where they are adapters, which the folder has merged."""
    save_policy(tmp_path / "policy", tied=tied)
    config = CONFIG.model_copy(update={"peft": peft})
    whole = make(tmp_path / "policy", tmp_path / "a", config)
    steps(whole, range(2))
    whole.save_model_folder(tmp_path / "saved" / "model")
    whole.save_state(tmp_path / "saved" / "learner", beside=tmp_path / "saved" / "model")
    alone = {n for n in load_file(tmp_path / "saved" / "learner" / "learner.safetensors") if n.startswith("weight.")}
    trained = {f"weight.{n}" for n, p in whole.model.named_parameters() if p.requires_grad}
    assert alone == (trained if peft else set())

    (tmp_path / "saved").rename(tmp_path / "moved")
    second = make(tmp_path / "policy", tmp_path / "b", config)
    second.load_state(tmp_path / "moved" / "learner")
    before, after = whole.state_dict(), second.state_dict()
    assert before.plain == after.plain and set(before.tensors) == set(after.tensors)
    assert all(torch.equal(tensor, after.tensors[name]) for name, tensor in before.tensors.items())
    assert steps(whole, range(2, 4)) == steps(second, range(2, 4))


def test_weights_that_the_folder_holds_otherwise_are_written_here(policy: Path, tmp_path: Path) -> None:
    """In another precision, changed since, or not at all: a folder is trusted for what it holds bit for bit."""
    learner = make(policy, tmp_path / "out")
    learner.save_model_folder(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    written = load_file(file)
    names = sorted(written)
    del written[names[0]]
    written[names[1]] = written[names[1]].bfloat16()
    written[names[2]] = written[names[2]] + 1e-3
    save_file(written, file, metadata={"format": "pt"})
    learner.save_state(tmp_path / "state", beside=tmp_path / "model")
    kept = {n for n in load_file(tmp_path / "state" / "learner.safetensors") if n.startswith("weight.")}
    assert kept == {f"weight.{name}" for name in names[:3]}
    again = LearnerState.load(tmp_path / "state").tensors
    assert all(torch.equal(tensor, again[name]) for name, tensor in learner.state_dict().tensors.items())


def test_a_state_without_the_folder_that_holds_its_weights_is_refused(policy: Path, tmp_path: Path) -> None:
    learner = make(policy, tmp_path / "out")
    learner.save_model_folder(tmp_path / "model")
    learner.save_state(tmp_path / "state", beside=tmp_path / "model")
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"lacks 20 of them .*copy a checkpoint as a whole"):
        learner.load_state(tmp_path / "state")


def test_a_state_folder_holds_safetensors_and_json_only(policy: Path, tmp_path: Path) -> None:
    learner = make(policy, tmp_path / "out")
    learner.save_state(tmp_path / "state")
    assert sorted(p.name for p in (tmp_path / "state").iterdir()) == ["learner.json", "learner.safetensors"]


def test_a_state_that_does_not_fit_is_refused(policy: Path, tmp_path: Path) -> None:
    learner = make(policy, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"no learner\.safetensors"):
        learner.load_state(tmp_path)
    learner.save_state(tmp_path / "state")
    state = LearnerState.load(tmp_path / "state")
    del state.tensors["weight.model.norm.weight"]
    with pytest.raises(ValueError, match=r"another model.*model\.norm\.weight"):
        learner.load_state_dict(state)
    (tmp_path / "state" / "learner.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="take an older checkpoint"):
        learner.load_state(tmp_path / "state")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("peft", [None, PeftConfig(rank=4, alpha=8)])
def test_a_saved_policy_is_an_ordinary_folder_with_the_learners_weights(
    tmp_path: Path, peft: PeftConfig | None, tied: bool
) -> None:
    save_policy(tmp_path / "policy", tied=tied)
    config = CONFIG.model_copy(update={"peft": peft, "learning_rate": 0.05, "precision": "bf16"})
    learner = make(tmp_path / "policy", tmp_path / "out", config)
    steps(learner, range(3))
    kept = {n: p.detach().clone() for n, p in learner.model.named_parameters()}
    learner.save_model_folder(tmp_path / "saved")
    assert all(torch.equal(kept[n], p) for n, p in learner.model.named_parameters())

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert tokenizer.pad_token == "<pad>"
    original = json.loads((tmp_path / "policy" / "config.json").read_text())
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert set(saved) - set(original) <= {"_name_or_path"}
    names = dict(AutoModelForCausalLM.from_pretrained(tmp_path / "policy").named_parameters())
    weights = dict(learner.named_weights())
    assert set(weights) == set(names)
    assert all(torch.equal(weights[n], p) for n, p in model.named_parameters())
    exact = make(tmp_path / "saved", tmp_path / "out2", CONFIG)
    rows, known = rows_of(random_trajectories(4))
    plain = make(tmp_path / "policy", tmp_path / "out3", config.model_copy(update={"precision": "float32"}))
    plain.load_state_dict(learner.state_dict())
    for a, b in zip(exact.score(rows, known), plain.score(rows, known), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_adapters_train_alone_and_the_reference_is_the_model_without_them(policy: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"peft": PeftConfig(rank=4, alpha=8), "learning_rate": 0.05})
    learner = make(policy, tmp_path / "out", config)
    assert learner.ref_model is None
    found = steps(learner, range(3))
    assert found[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert found[2]["kl"] > 1e-4
    base = dict(AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32).named_parameters())
    trained = {n for n, p in learner.model.named_parameters() if p.requires_grad}
    assert all("lora_" in n for n in trained)
    merged = dict(learner.named_weights())
    moved = {n for n in base if not torch.equal(base[n], merged[n])}
    assert moved and all("proj" in n for n in moved)


async def test_logprobs_equal_the_engines_after_its_weights_were_replaced(policy: Path, tmp_path: Path) -> None:
    """The engine samples with a key-value cache, the learner scores padded micro-batches; both in float32."""
    learner = make(policy, tmp_path / "out", CONFIG.model_copy(update={"learning_rate": 0.01}))
    steps(learner, range(2))
    tokenizer: Any = AutoTokenizer.from_pretrained(policy)
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    engine = TransformersEngine(model, tokenizer, schedule="deterministic", max_batch=4)
    engine.update_weights(learner.named_weights(), version=1)
    members: list[Trajectory] = []
    for i, t in enumerate(random_trajectories(6, seed=3)):
        params = SamplingParams(max_new_tokens=5 + i, temperature=0.8, seed=i)
        with engine.episode():
            sampled = await engine.generate(t.prompt_ids, params, key=f"k{i}")
        members.append(trajectory(f"e{i}", [turn(sampled.token_ids, (), sampled.logprobs)], prompt=t.prompt_ids))
    rows, known = rows_of(members)
    for row, scored in zip(rows, learner.score(rows, known, 0.8), strict=True):
        t = known[row.trajectory_id]
        np.testing.assert_allclose(scored, t.logprobs[row.first_token : row.last_token], atol=1e-4)
        np.testing.assert_allclose(
            scored, engine.score(t.token_ids.tolist(), temperature=0.8)[row.first_token :], atol=1e-4
        )
    metrics = learner.update(rows, known, 0.8)
    assert metrics["sampler_ratio_max"] == pytest.approx(1.0, abs=1e-3)
    await engine.close()


def test_creating_a_learner_says_nothing_and_writes_no_log(
    policy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    learner = make(policy, tmp_path / "out")
    steps(learner, range(1))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        make(tmp_path / "empty", tmp_path / "out")
    save_policy(tmp_path / "bare")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "bare" / name).unlink()
    with pytest.raises(ValueError, match="has no tokenizer"):
        make(tmp_path / "bare", tmp_path / "out")


def test_a_row_longer_than_the_models_window_is_refused(tmp_path: Path) -> None:
    save_policy(tmp_path / "policy", window=8)
    learner = make(tmp_path / "policy", tmp_path / "out")
    t = trajectory("long", [turn([5] * 9)])
    row = Row(trajectory_id="long", first_token=3, last_token=12, advantages=np.ones(9), loss_mask=np.ones(9, int))
    with pytest.raises(ValueError, match="window of 8 tokens; lower max_trajectory_tokens"):
        learner.update([row], {"long": t})


def test_optimiser_scalars_survive_the_json(tmp_path: Path) -> None:
    """Not every optimiser keeps its step count in a tensor."""
    LearnerState(tensors={"a": torch.ones(2)}, plain={"x": [1, 2.5, None]}).save(tmp_path / "s")
    again = LearnerState.load(tmp_path / "s")
    assert again.plain == {"x": [1, 2.5, None]} and torch.equal(again.tensors["a"], torch.ones(2))
    save_file({"a": torch.zeros(1)}, tmp_path / "s" / "learner.safetensors")
    assert torch.equal(LearnerState.load(tmp_path / "s").tensors["a"], torch.zeros(1))
