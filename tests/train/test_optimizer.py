"""Muon and AdamW as one optimiser: the parts step exactly as they would alone, and its state survives a round trip."""

import copy
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from train.optimizer import MuonAdamW, optimizer_for


def two_weights() -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.nn.Parameter(torch.randn(6, 4, generator=generator)),
        torch.nn.Parameter(torch.randn(5, generator=generator)),
    )


def loss_of(matrix: torch.nn.Parameter, vector: torch.nn.Parameter) -> torch.Tensor:
    return (matrix**2).sum() + ((vector - 1) ** 3).abs().sum()


def take_steps(optimizers: list[torch.optim.Optimizer], weights: tuple[torch.nn.Parameter, ...], count: int) -> None:
    for _ in range(count):
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss_of(*weights).backward()
        for optimizer in optimizers:
            optimizer.step()


def test_it_steps_as_the_two_parts_would_alone() -> None:
    together, apart = two_weights(), two_weights()
    take_steps([MuonAdamW([together[0]], [together[1]], learning_rate=0.01, muon_scale=3.0)], together, 5)
    muon = torch.optim.Muon([apart[0]], lr=0.03, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW([apart[1]], lr=0.01, betas=(0.9, 0.98), weight_decay=0.0)
    take_steps([muon, adamw], apart, 5)
    assert torch.equal(together[0], apart[0]) and torch.equal(together[1], apart[1])
    assert not torch.equal(together[0], two_weights()[0])


def test_a_loaded_state_goes_on_where_the_other_stood() -> None:
    straight = two_weights()
    take_steps([first := MuonAdamW([straight[0]], [straight[1]], learning_rate=0.01, muon_scale=3.0)], straight, 3)
    resumed = tuple(torch.nn.Parameter(w.detach().clone()) for w in straight)
    second = MuonAdamW([resumed[0]], [resumed[1]], learning_rate=0.5, muon_scale=3.0)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    take_steps([first], straight, 3)
    take_steps([second], resumed, 3)
    assert torch.equal(straight[0], resumed[0]) and torch.equal(straight[1], resumed[1])


def test_a_new_learning_rate_reaches_both_parts() -> None:
    weights = two_weights()
    optimizer = MuonAdamW([weights[0]], [weights[1]], learning_rate=0.01, muon_scale=2.0)
    optimizer.set_learning_rate(0.0)
    take_steps([optimizer], weights, 1)
    assert torch.equal(weights[0], two_weights()[0]) and torch.equal(weights[1], two_weights()[1])
    optimizer.set_learning_rate(0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.1]


def test_every_weight_of_a_model_is_in_one_group_and_embeddings_are_no_matrices(policy: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(policy)
    optimizer = optimizer_for(model, learning_rate=0.01, muon_scale=3.0)
    matrices, others = ({id(p) for p in group["params"]} for group in optimizer.param_groups)
    assert matrices | others == {id(p) for p in model.parameters()} and not matrices & others
    assert id(model.get_input_embeddings().weight) in others
    assert len(matrices) == 7 * model.config.num_hidden_layers
