"""The supervised start's optimiser: Muon for the matrices inside the blocks, AdamW for all other weights.

On a policy made from nothing, matrices that Muon orthogonalises learn to copy names from passages in fewer steps. Both
parts are torch's own; this file only steps them as one, with one state, so that trainers and schedulers see an ordinary
optimiser.
Source: Jordan et al. 2024 (Muon); Liu et al. 2025 (arXiv:2502.16982) for the update's scale, which makes its learning
rate comparable with AdamW's.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel


class MuonAdamW(torch.optim.Optimizer):
    """Steps Muon on `matrices` and AdamW on `others`; its two parameter groups stand in that order.

    Args:
        matrices: weights with two dimensions.
        others: embeddings, norms and biases.
        learning_rate: AdamW's.
        muon_scale: Muon's learning rate as a multiple of AdamW's.

    Raises:
        ValueError: no matrices, or one of them does not have two dimensions.
    """

    def __init__(
        self,
        matrices: list[torch.nn.Parameter],
        others: list[torch.nn.Parameter],
        *,
        learning_rate: float,
        muon_scale: float,
    ) -> None:
        self._muon = torch.optim.Muon(
            matrices, lr=learning_rate * muon_scale, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
        )
        self._adamw = torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.muon_scale = muon_scale
        super().__init__([*self._muon.param_groups, *self._adamw.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # A loaded state replaces groups and state, so the parts are pointed at the present ones each time.
        for part, group in zip((self._muon, self._adamw), self.param_groups, strict=True):
            part.param_groups, part.state = [group], self.state
            part.step()
        return loss

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set AdamW's learning rate, and Muon's to its multiple; moments stay. A schedule starts over from here."""
        for group, scale in zip(self.param_groups, (self.muon_scale, 1.0), strict=True):
            group.pop("initial_lr", None)
            group["lr"] = learning_rate * scale


def optimizer_for(model: PreTrainedModel, *, learning_rate: float, muon_scale: float) -> MuonAdamW:
    """The optimiser of a model's trainable weights; embeddings and output head are no matrices in Muon's sense."""
    ends = {id(m.weight) for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m is not None}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [p for p in trained if p.ndim == 2 and id(p) not in ends]
    inner = {id(p) for p in matrices}
    others = [p for p in trained if id(p) not in inner]
    return MuonAdamW(matrices, others, learning_rate=learning_rate, muon_scale=muon_scale)
