"""Which of the learner's processes this is, and how the first one learns what the others have."""

from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process's number among the learner's; rank 0 logs, stores, saves and publishes."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """True on the rank that speaks for all."""
        return self.rank == 0

    def gather(self, dealt: list[Part]) -> list[Part]:
        """What was dealt out one by one (`everything[rank::world_size]`) is whole again, in its order, on rank 0; the
        others get their own. All ranks call it.
        """
        if self.world_size == 1:
            return dealt
        parts: list[list[Part]] | None = [[] for _ in range(self.world_size)] if self.is_first else None
        torch.distributed.gather_object(dealt, parts)
        if parts is None:
            return dealt
        return [part[i] for i in range(max(map(len, parts))) for part in parts if i < len(part)]

    def everywhere(self, value: Part) -> list[Part]:
        """This value of every rank, in order, on every rank. All ranks call it."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait for every rank."""
        if self.world_size > 1:
            torch.distributed.barrier()
