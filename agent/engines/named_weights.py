"""New weights for a model, by name: checked as a whole before the first one is copied."""

from collections.abc import Iterable

import torch


def match_weights(
    model: torch.nn.Module, named_tensors: Iterable[tuple[str, torch.Tensor]]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Pairs of a model's own weight and the tensor to copy into it; nothing is copied here.

    Names are those of `model.named_parameters()`; tied weights may come under either name, or both.

    Raises:
        ValueError: unknown, missing or doubled names, a wrong shape, or two different tensors for one tied weight.
    """
    given: dict[str, torch.Tensor] = {}
    for name, tensor in named_tensors:
        if name in given:
            raise ValueError(f"weight {name!r} was given twice")
        given[name] = tensor
    own = dict(model.named_parameters(remove_duplicate=False))
    unknown = sorted(set(given) - set(own))
    covered = {id(own[name]) for name in given if name in own}
    missing = sorted(name for name, weight in own.items() if id(weight) not in covered)
    if unknown or missing:
        raise ValueError(
            f"these weights do not fit the model: {_some('unknown', unknown)}{_some('missing', missing)}"
            f"expected are the {len({id(weight) for weight in own.values()})} names of model.named_parameters()"
        )
    pairs: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for name, tensor in given.items():
        weight = own[name]
        if tensor.shape != weight.shape:
            raise ValueError(f"weight {name!r} has shape {tuple(tensor.shape)}; the model's has {tuple(weight.shape)}")
        _, other = pairs.setdefault(id(weight), (weight, tensor))
        if other.data_ptr() != tensor.data_ptr() and not torch.equal(other, tensor):
            raise ValueError(f"weight {name!r} is tied to another of these names, but their values differ")
    return list(pairs.values())


def _some(what: str, names: list[str]) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{what} {shown}; " if names else ""
