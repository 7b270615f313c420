"""An accelerator for code that must not talk to the other ranks."""

from typing import Any

import torch


class OnThisRank:
    """An accelerator whose collectives stay on this rank.

    TRL gathers each micro-batch's metrics and expects as many rows on every rank. Ours differ, and the loss itself
    needs no collective: its sizes are gathered once a step.
    """

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._accelerator, name)

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor itself."""
        return tensor

    gather_for_metrics = gather

    def reduce(self, tensor: torch.Tensor, reduction: str = "sum") -> torch.Tensor:
        """The tensor itself."""
        return tensor
