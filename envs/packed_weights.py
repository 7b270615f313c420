"""Weights as numpy arrays, for a way between processes that shares memory: Ray maps arrays, and copies tensors."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedWeights:
    """Names, torch's names of the precisions, and the arrays. numpy has no bfloat16: it travels as 16-bit integers."""

    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    arrays: tuple[NDArray[np.generic], ...]

    @property
    def num_bytes(self) -> int:
        """Of all arrays."""
        return sum(array.nbytes for array in self.arrays)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedWeights:
    """Packed weights that Ray's object store holds already, as `[reference]`: in a list, so that whoever passes it on
    does not fetch what it refers to. They live as long as the process that put them there.
    """

    reference: list[Any]


def pack(named: Iterable[tuple[str, "torch.Tensor"]]) -> PackedWeights:
    """Copy weights from wherever they are to arrays of this process."""
    import torch

    names, dtypes, arrays = [], [], []
    for name, tensor in named:
        plain = tensor.detach().to("cpu").contiguous()
        names.append(name)
        dtypes.append(str(plain.dtype).removeprefix("torch."))
        arrays.append((plain.view(torch.int16) if plain.dtype == torch.bfloat16 else plain).numpy())
    return PackedWeights(names=tuple(names), dtypes=tuple(dtypes), arrays=tuple(arrays))


def unpack(packed: PackedWeights) -> Iterator[tuple[str, "torch.Tensor"]]:
    """The tensors, one at a time, sharing the arrays' memory: they are to be read only."""
    import torch

    for name, dtype, array in zip(packed.names, packed.dtypes, packed.arrays, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch warns of memory that cannot be written to
            shared = torch.from_numpy(array)
        yield name, shared.view(torch.bfloat16) if dtype == "bfloat16" else shared
