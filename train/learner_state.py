"""Everything that an interrupted learner needs to go on bit for bit, as tensors and JSON: no pickle.

A state folder holds `learner.safetensors` (trainable weights, optimiser moments, random states) and `learner.json`
(the rest). The model that training started from is not in it: a learner is made from that one again, so a reference
model stays what it was, and then loads its state. Weights that a Hugging Face folder beside it holds, bit for bit, are
not written twice: `learner.json` says where they lie.
"""

import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from train.shards import as_held, whole

TENSORS_FILE = "learner.safetensors"
PLAIN_FILE = "learner.json"
_WEIGHT = "weight."
_ELSEWHERE = "weights_elsewhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerState:
    """tensors: by name, on the CPU, copies; plain: JSON values."""

    tensors: dict[str, torch.Tensor]
    plain: dict[str, Any]

    def save(self, folder: Path, *, beside: Path | None = None) -> None:
        """Write both files into a folder, which is made if need be.

        `beside` is a Hugging Face folder of the same model, which must be read from the same place relative to this
        one. Weights that it holds are left out here. Those of adapters, and those that it holds under another name or
        in another precision, are not.
        """
        folder.mkdir(parents=True, exist_ok=True)
        tensors, plain = self.tensors, self.plain
        if beside is not None and (held := self._held_by(beside)):
            tensors = {name: tensor for name, tensor in tensors.items() if name not in held}
            plain = {**plain, _ELSEWHERE: {"folder": os.path.relpath(beside, folder), "weights": held}}
        save_file(tensors, folder / TENSORS_FILE)
        (folder / PLAIN_FILE).write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> "LearnerState":
        """Read a folder that `save` wrote, and the folder beside it if some of the weights lie there.

        Raises:
            FileNotFoundError: one of the two files, or a weight, is missing.
            ValueError: the JSON file is broken.
        """
        for name in (TENSORS_FILE, PLAIN_FILE):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder} is not a learner state: it has no {name}")
        try:
            plain = json.loads((folder / PLAIN_FILE).read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{folder / PLAIN_FILE} is not JSON ({error}); take an older checkpoint") from error
        state = LearnerState(tensors=load_file(folder / TENSORS_FILE), plain=plain)
        elsewhere = state.plain.pop(_ELSEWHERE, None)
        if elsewhere is None:
            return state
        model = folder / elsewhere["folder"]
        names = set(elsewhere["weights"])
        weights = {f"{_WEIGHT}{name}": tensor for name, tensor in _folder_weights(model) if f"{_WEIGHT}{name}" in names}
        if missing := sorted(names - set(weights)):
            raise FileNotFoundError(
                f"{folder} leaves {len(names)} weights to {model}, which lacks {len(missing)} of them (the first is "
                f"{missing[0].removeprefix(_WEIGHT)}); copy a checkpoint as a whole, or take an older one"
            )
        return replace(state, tensors={**state.tensors, **weights})

    def _held_by(self, model: Path) -> list[str]:
        """Names of the tensors that a model folder holds, compared as they were written."""
        return sorted(
            f"{_WEIGHT}{name}"
            for name, written in _folder_weights(model)
            if _is_same(self.tensors.get(f"{_WEIGHT}{name}"), written)
        )


def _is_same(tensor: torch.Tensor | None, other: torch.Tensor) -> bool:
    """True if two tensors are equal bit for bit, NaN included."""
    if tensor is None or tensor.dtype != other.dtype or tensor.shape != other.shape:
        return False
    return torch.equal(tensor.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


def _folder_weights(model: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and tensor of every weight in a folder's safetensors, one at a time."""
    for file in sorted(model.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  (no mapping)
                yield name, opened.get_tensor(name)


def _trained_tensors(model: nn.Module, optimiser: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Trainable weights and what the optimiser keeps of each, no copies; equally ordered on every rank."""
    tensors = {f"{_WEIGHT}{name}": p.detach() for name, p in model.named_parameters() if p.requires_grad}
    for index, entries in optimiser["state"].items():
        named = {name: value for name, value in entries.items() if isinstance(value, torch.Tensor)}
        tensors.update({f"optimizer.{index}.{name}": value for name, value in named.items()})
    return tensors


def attend_capture(model: nn.Module, optimizer: Any) -> None:
    """What a rank calls while another one captures a state of which each holds a shard: gives its shards."""
    for tensor in _trained_tensors(model, optimizer.state_dict()).values():
        whole(tensor)


def capture_state(model: nn.Module, optimizer: Any, scheduler: Any, *, plain: dict[str, Any]) -> LearnerState:
    """Copy trainable weights, optimiser, schedule and the random states of this process; `plain` is added as it is."""
    optimiser = optimizer.state_dict()
    tensors = _trained_tensors(model, optimiser)
    scalars: dict[str, dict[str, Any]] = {}
    for index, entries in optimiser["state"].items():
        of_weight = {name: value for name, value in entries.items() if not isinstance(value, torch.Tensor)}
        if of_weight:
            scalars[str(index)] = of_weight
    numpy_state: dict[str, Any] = np.random.get_state(legacy=False)  # type: ignore[assignment]
    tensors["random.torch"] = torch.get_rng_state()
    tensors["random.numpy"] = torch.from_numpy(numpy_state["state"]["key"].astype(np.int64))
    for device in range(torch.cuda.device_count()):
        tensors[f"random.cuda.{device}"] = torch.cuda.get_rng_state(device)
    version, internal, gauss = random.getstate()
    groups = optimiser["param_groups"]
    return LearnerState(
        tensors={name: whole(tensor.detach()).cpu().clone().contiguous() for name, tensor in tensors.items()},
        plain={
            **plain,
            "optimizer": {"scalars": scalars, "param_groups": groups},
            "scheduler": scheduler.state_dict(),
            "random": {
                "python": [version, list(internal), gauss],
                "numpy": {
                    "bit_generator": numpy_state["bit_generator"],
                    "pos": int(numpy_state["state"]["pos"]),
                    "has_gauss": int(numpy_state["has_gauss"]),
                    "gauss": float(numpy_state["gauss"]),
                },
            },
        },
    )


def restore_state(state: LearnerState, model: nn.Module, optimizer: Any, scheduler: Any) -> None:
    """Put back what `capture_state` copied, in place.

    Raises:
        ValueError: the state belongs to another model (names or shapes of the trainable weights differ).
    """
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    saved = {n.removeprefix(_WEIGHT): t for n, t in state.tensors.items() if n.startswith(_WEIGHT)}
    differing = sorted(set(weights) ^ set(saved)) or sorted(n for n in saved if saved[n].shape != weights[n].shape)
    if differing:
        raise ValueError(
            f"this learner state belongs to another model: {len(differing)} weights differ by name or shape, the first "
            f"is {differing[0]}; create the learner from the model and settings that the run started with"
        )
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(as_held(saved[name], parameter))
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    entries: dict[int, dict[str, Any]] = {}
    for name, tensor in state.tensors.items():
        if name.startswith("optimizer."):
            _, index, field = name.split(".", 2)
            entries.setdefault(int(index), {})[field] = as_held(tensor.clone(), trained[int(index)])
    for index, fields in state.plain["optimizer"]["scalars"].items():
        entries.setdefault(int(index), {}).update(fields)
    groups = [
        {name: tuple(value) if name == "betas" else value for name, value in group.items()}
        for group in state.plain["optimizer"]["param_groups"]
    ]
    optimizer.load_state_dict({"state": entries, "param_groups": groups})
    scheduler.load_state_dict(state.plain["scheduler"])
    _restore_random(state)


def _restore_random(state: LearnerState) -> None:
    version, internal, gauss = state.plain["random"]["python"]
    random.setstate((version, tuple(internal), gauss))
    numpy_state = state.plain["random"]["numpy"]
    key = state.tensors["random.numpy"].numpy().astype(np.uint32)
    np.random.set_state(
        {
            "bit_generator": numpy_state["bit_generator"],
            "state": {"key": key, "pos": numpy_state["pos"]},
            "has_gauss": numpy_state["has_gauss"],
            "gauss": numpy_state["gauss"],
        }
    )
    torch.set_rng_state(state.tensors["random.torch"])
    for device in range(torch.cuda.device_count()):
        if f"random.cuda.{device}" in state.tensors:
            torch.cuda.set_rng_state(state.tensors[f"random.cuda.{device}"], device)
