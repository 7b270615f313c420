"""The supervised start: which tokens weigh what, and that TRL's trainer follows the weights."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.train.fakes import random_trajectories, trajectory, turn
from train.cold_start import cold_start, demonstration_dataset
from train.config import ColdStartConfig, ColdStartPhase

EPISODE = trajectory("e", [turn((4, 5), (6,)), turn((7,), (8, 9)), turn((10, 11))])


def test_actions_weigh_one_and_what_is_read_weighs_less() -> None:
    row = demonstration_dataset([EPISODE], context_weight=0.25)[0]
    assert row["input_ids"] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert row["weights"] == [0.25] * 3 + [1.0, 1.0, 0.25, 1.0, 0.25, 0.25, 1.0, 1.0]


def test_first_actions_are_cut_after_the_last_of_them() -> None:
    row = demonstration_dataset([EPISODE], max_turns=2)[0]
    assert row["input_ids"] == [1, 2, 3, 4, 5, 6, 7]
    assert row["weights"] == [0.0] * 3 + [1.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("context_weight", [0.0, 0.3])
def test_the_loss_is_the_weighted_mean_over_tokens(policy: Path, tmp_path: Path, context_weight: float) -> None:
    model = AutoModelForCausalLM.from_pretrained(policy, attention_dropout=0.0)
    model.save_pretrained(tmp_path / "plain")
    demonstrations = random_trajectories(6, seed=3)
    expected = weights_sum = 0.0
    for row in demonstration_dataset(demonstrations, context_weight=context_weight):
        ids, weights = torch.tensor(row["input_ids"]), torch.tensor(row["weights"])[1:]
        with torch.no_grad():
            logprobs = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
        expected -= float((logprobs.gather(1, ids[1:, None])[:, 0] * weights).sum())
        weights_sum += float(weights.sum())
    phase = ColdStartPhase(steps=1, batch_size=6, context_weight=context_weight)
    told: list[str] = []
    cold_start(
        str(tmp_path / "plain"),
        AutoTokenizer.from_pretrained(policy),
        lambda _: demonstrations,
        tmp_path / "out",
        ColdStartConfig(phases=(phase,)),
        seed=0,
        say=told.append,
    )
    assert f"step 1/1, loss {expected / weights_sum:.3f}," in told[-1]


def test_phases_learn_and_the_folder_is_an_ordinary_model(policy: Path, tmp_path: Path) -> None:
    demonstrations = random_trajectories(4, seed=5)
    told: list[str] = []
    phases = (ColdStartPhase(steps=30, batch_size=4, max_turns=1), ColdStartPhase(steps=30, batch_size=4))
    out = cold_start(
        str(policy),
        AutoTokenizer.from_pretrained(policy),
        lambda _: demonstrations,
        tmp_path / "out",
        ColdStartConfig(phases=phases),
        seed=0,
        say=told.append,
    )
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in told if "loss" in line]
    assert len(losses) >= 4 and losses[-1] < 0.5 * losses[0]
    assert AutoModelForCausalLM.from_pretrained(out).num_parameters() > 0


def test_demonstrations_without_an_action_are_refused(policy: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cold start 1/1: no demonstration has an action in it"):
        cold_start(
            str(policy),
            AutoTokenizer.from_pretrained(policy),
            lambda _: [trajectory("e", [])],
            tmp_path / "out",
            ColdStartConfig(),
            seed=0,
        )
