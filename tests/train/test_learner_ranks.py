"""Two processes with different numbers of rows take the step that one process would take on all of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks import learner_step
from tests.conftest import REPOSITORY
from tests.train.fakes import random_trajectories, save_policy
from tests.train.test_learner import catch_gradients, rows_of
from train.learner import Learner
from train.learner_config import LearnerConfig


def on_two_ranks(module: str, folder: Path, settings: dict[str, Any]) -> Path:
    """Run a module on two ranks; returns the folder that they write into."""
    ranks = folder / "ranks"
    ranks.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", module, str(folder / "policy"), str(ranks), json.dumps(settings)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    return ranks


@pytest.mark.slow
@pytest.mark.parametrize("loss_type", ["dapo", "grpo"])
def test_ranks_add_up_to_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss_type: str) -> None:
    save_policy(tmp_path / "policy")
    settings = {"loss_type": loss_type, "max_tokens_per_micro_batch": 48, "entropy_coef": 0.1}
    ranks = on_two_ranks("tests.train.rank_step", tmp_path, settings)

    learner = Learner.create(tmp_path / "policy", None, LearnerConfig(device="cpu", **settings), tmp_path / "one")
    caught = catch_gradients(learner, monkeypatch)
    rows, known = rows_of(random_trajectories(11))
    alone = learner.update(rows, known)
    metrics = [json.loads((ranks / f"metrics-{rank}.json").read_text()) for rank in range(2)]
    of_packing = {"padding", "micro_batches", "seconds"}
    figures = {n: v for n, v in alone.items() if n not in of_packing and not n.startswith("ratio/")}
    assert figures["rows"] == 11.0
    for shared in metrics:
        assert {name: shared[name] for name in figures} == pytest.approx(figures, rel=1e-4), "the step's, on every rank"
    ratios = {name: value for name, value in alone.items() if name.startswith("ratio/")}
    for shared in metrics:
        assert shared["ratio/histogram"] == ratios["ratio/histogram"], "counts of the ranks add up"
        assert {n: shared[n] for n in ratios if n != "ratio/histogram"} == pytest.approx(
            {n: value for n, value in ratios.items() if n != "ratio/histogram"}, rel=1e-4
        )
    for rank in range(2):
        agreed = load_file(ranks / f"gradients-{rank}.safetensors")
        assert set(agreed) == set(caught[0])
        for name, gradient in caught[0].items():
            torch.testing.assert_close(agreed[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("tiled", [False, True])
def test_ranks_that_hold_shards_do_what_one_process_does(tmp_path: Path, tiled: bool) -> None:
    """Steps, what is saved, and going on from it: all of it is made whole and dealt out again."""
    save_policy(tmp_path / "policy")
    settings = {"max_tokens_per_micro_batch": 48, "tiled_lm_head": tiled, "learning_rate": 1e-2}
    ranks = on_two_ranks("tests.train.fsdp_step", tmp_path, settings)
    first, second, again = json.loads((ranks / "steps.json").read_text())
    learner = Learner.create(tmp_path / "policy", None, LearnerConfig(device="cpu", **settings), tmp_path / "one")
    rows, known = rows_of(random_trajectories(11))
    alone = learner.update(rows, known)
    for name in ("loss", "grad_norm", "entropy", "sampler_ratio_mean", "rows", "tokens"):
        assert first[name] == pytest.approx(alone[name], rel=1e-3), name
    learner.save_model_folder(tmp_path / "one" / "model")
    whole, shards = (load_file(folder / "model" / "model.safetensors") for folder in (tmp_path / "one", ranks))
    assert whole.keys() == shards.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(shards[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    assert again["loss"] == pytest.approx(second["loss"], rel=1e-6)
    assert again["grad_norm"] == pytest.approx(second["grad_norm"], rel=1e-6)
    gone_on = Learner.create(tmp_path / "policy", None, LearnerConfig(device="cpu", **settings), tmp_path / "two")
    gone_on.load_state(ranks / "state")
    assert gone_on.update(rows, known)["loss"] == pytest.approx(second["loss"], rel=1e-3), "on another number of ranks"


@pytest.mark.slow
@pytest.mark.parametrize("tiled", [False, True])
def test_shards_in_bf16_score_in_float32_what_one_process_does_under_autocast(tmp_path: Path, tiled: bool) -> None:
    """Weights are gathered in bf16; logprobs are not rounded to it, and gradients are not summed in it."""
    save_policy(tmp_path / "policy")
    settings = {"precision": "bf16", "beta": 0.05, "max_tokens_per_micro_batch": 48, "tiled_lm_head": tiled}
    ranks = on_two_ranks("tests.train.fsdp_step", tmp_path, settings)
    of_both = [["torch.bfloat16", "torch.float32", "None"]]
    assert json.loads((ranks / "precisions.json").read_text()) == [of_both, of_both], "the policy and its reference"
    policy_units, reference_units = json.loads((ranks / "units.json").read_text())
    assert policy_units > 2 and reference_units == 1, "what the plan counts as put together rests on it"

    rows, known = rows_of(random_trajectories(11))
    alone = {}
    for precision in ("float32", "bf16"):
        config = LearnerConfig(device="cpu", **{**settings, "precision": precision})
        learner = Learner.create(tmp_path / "policy", None, config, tmp_path / precision)
        alone[precision] = np.concatenate(learner.score(rows, known))
    shards = np.load(ranks / "scores.npy")
    trained = alone["float32"] != 0
    scored = torch.from_numpy(shards[trained])
    assert (scored.float().double() == scored).all()
    assert (scored.bfloat16().double() == scored).float().mean() < 0.1, "logprobs were rounded to bf16"
    errors = {name: np.abs(scores - alone["float32"])[trained] for name, scores in (*alone.items(), ("shards", shards))}
    assert errors["shards"].mean() < 2 * errors["bf16"].mean()
    assert errors["shards"].max() < 2 * errors["bf16"].max()

    first = json.loads((ranks / "steps.json").read_text())[0]
    together = learner.update(rows, known)
    for name in ("loss", "grad_norm", "entropy", "sampler_ratio_mean"):
        assert first[name] == pytest.approx(together[name], rel=0.03), name
    assert first["kl"] == pytest.approx(0.0, abs=2e-3), "no step was taken: the policy is its reference"


def test_sharding_is_refused_where_nothing_is_sharded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"fsdp_config\.version is 1.*set 2"):
        LearnerConfig(trl={"fsdp": True, "fsdp_config": {"fsdp_version": 1}})
    with pytest.raises(ValueError, match="write its fields here"):
        LearnerConfig(trl={"fsdp": True, "fsdp_config": "fsdp.json"})


@pytest.mark.slow
def test_the_benchmark_of_the_step_runs(tmp_path: Path) -> None:
    figures = learner_step.main(["--smoke", "--json", str(tmp_path / "figures.json")])
    assert figures == json.loads((tmp_path / "figures.json").read_text())
    assert set(figures["seconds"]) == {"waymark", "waymark_probed", "trl_own", "trl_packed"}
