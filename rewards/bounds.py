"""What a reward can pay at most and at least, so that orders between right and wrong answers can be checked beforehand.

The bounds are those of one scored trajectory's whole sum, outcome and turns together, before any weight. They are told
apart by whether the final answer is an exact match, because that is what ordering guarantees speak of.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """A closed interval; infinite where nothing is known."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if math.isnan(self.low) or math.isnan(self.high) or self.low > self.high:
            raise ValueError(f"bounds from {self.low} to {self.high}: the lower one must be a number below the upper")


UNBOUNDED = Bounds(low=-math.inf, high=math.inf)


@runtime_checkable
class Bounded(Protocol):
    """A reward that knows what it can pay."""

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """Bounds of outcome plus the sum over turns of one scored trajectory with 1 to `max_turns` turns.

        `correct` True: of those whose final answer is an exact match of a gold answer; False: of all others.
        """
        ...


@runtime_checkable
class BoundedToGo(Protocol):
    """A reward of turns that, from some turn on, can pay less or more than over a whole trajectory."""

    def bounds_to_go(self, *, correct: bool, max_turns: int) -> Bounds:
        """Bounds of outcome plus the sum over turns t, t + 1, ... to the end, for every t; else as `Bounded.bounds`."""
        ...


def bounds_of(reward: object, *, correct: bool, max_turns: int) -> Bounds:
    """The reward's own bounds, or `UNBOUNDED` where it does not state any."""
    return reward.bounds(correct=correct, max_turns=max_turns) if isinstance(reward, Bounded) else UNBOUNDED


def bounds_to_go_of(reward: object, *, correct: bool, max_turns: int) -> Bounds:
    """Bounds of what is left to earn at any turn. A reward that does not state them is taken to keep to `bounds_of`
    from every turn on, as all do that score trajectories.
    """
    if isinstance(reward, BoundedToGo):
        return reward.bounds_to_go(correct=correct, max_turns=max_turns)
    return bounds_of(reward, correct=correct, max_turns=max_turns)
