"""Everything that an interrupted learner needs to go on bit for bit, as tensors and JSON: no pickle.

A state folder holds `learner.safetensors` (trainable weights, optimiser moments, random states) and `learner.json`
(the rest). The model that training started from is not in it: a learner is made from that one again, so a reference
model stays what it was, and then loads its state.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

TENSORS_FILE = "learner.safetensors"
PLAIN_FILE = "learner.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerState:
    """tensors: by name, on the CPU, copies; plain: JSON values."""

    tensors: dict[str, torch.Tensor]
    plain: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write both files into a folder, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.tensors, folder / TENSORS_FILE)
        (folder / PLAIN_FILE).write_text(json.dumps(self.plain, indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> "LearnerState":
        """Read a folder that `save` wrote.

        Raises:
            FileNotFoundError: one of the two files is missing.
            ValueError: the JSON file is broken.
        """
        for name in (TENSORS_FILE, PLAIN_FILE):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder} is not a learner state: it has no {name}")
        try:
            plain = json.loads((folder / PLAIN_FILE).read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{folder / PLAIN_FILE} is not JSON ({error}); take an older checkpoint") from error
        return LearnerState(tensors=load_file(folder / TENSORS_FILE), plain=plain)


def capture_state(model: nn.Module, optimizer: Any, scheduler: Any, *, plain: dict[str, Any]) -> LearnerState:
    """Copy trainable weights, optimiser, schedule and the random states of this process; `plain` is added as it is."""
    tensors = {f"weight.{name}": p.detach() for name, p in model.named_parameters() if p.requires_grad}
    optimiser = optimizer.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    for index, entries in optimiser["state"].items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                scalars.setdefault(str(index), {})[name] = value
    numpy_state: dict[str, Any] = np.random.get_state(legacy=False)  # type: ignore[assignment]
    tensors["random.torch"] = torch.get_rng_state()
    tensors["random.numpy"] = torch.from_numpy(numpy_state["state"]["key"].astype(np.int64))
    for device in range(torch.cuda.device_count()):
        tensors[f"random.cuda.{device}"] = torch.cuda.get_rng_state(device)
    version, internal, gauss = random.getstate()
    groups = optimiser["param_groups"]
    return LearnerState(
        tensors={name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()},
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
    saved = {n.removeprefix("weight."): t for n, t in state.tensors.items() if n.startswith("weight.")}
    differing = sorted(set(weights) ^ set(saved)) or sorted(n for n in saved if saved[n].shape != weights[n].shape)
    if differing:
        raise ValueError(
            f"this learner state belongs to another model: {len(differing)} weights differ by name or shape, the first "
            f"is {differing[0]}; create the learner from the model and settings that the run started with"
        )
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(saved[name])
    entries: dict[int, dict[str, Any]] = {}
    for name, tensor in state.tensors.items():
        if name.startswith("optimizer."):
            _, index, field = name.split(".", 2)
            entries.setdefault(int(index), {})[field] = tensor.clone()
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
