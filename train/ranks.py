"""Which of the learner's processes this is, and how the first one learns what the others have."""

from dataclasses import dataclass
from typing import TypeVar

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

    def gather(self, part: list[Part]) -> list[Part]:
        """The lists of all ranks in order, one after the other, on rank 0; its own on the others. All ranks call it."""
        if self.world_size == 1:
            return part
        parts: list[list[Part]] | None = [[] for _ in range(self.world_size)] if self.is_first else None
        torch.distributed.gather_object(part, parts)
        return part if parts is None else [item for of_rank in parts for item in of_rank]

    def barrier(self) -> None:
        """Wait for every rank."""
        if self.world_size > 1:
            torch.distributed.barrier()
