"""Schedules: the weight of a component over the steps of a run.

A schedule is a factor of the component's weight, a pure function of how many optimiser steps have been taken. So it is
the same on every learner, in every process that samples ahead, and after a resume: what is kept is the count alone.
"""

import math
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Schedule(BaseModel):
    """How a component's weight goes from `start` to `end`, both factors of `weight`.

    With p = min(1, steps taken / length), length being `steps`, or `share` of the run's steps:

    - constant: `start`
    - linear: start + (end - start) p
    - cosine: end + (start - end) (1 + cos(pi p)) / 2
    - exponential: start (end / start)^p

    The first step has `start`; after `length` steps, and from then on, the factor is `end`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["constant", "linear", "cosine", "exponential"] = Field(description="The curve.")
    start: float = Field(default=1.0, ge=0, allow_inf_nan=False, description="Factor at the first step.")
    end: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="Factor at its end; 0 anneals the component away."
    )
    share: float | None = Field(
        default=None, gt=0, le=1, description="Length as a share of the run's steps; default: the whole run."
    )
    steps: int | None = Field(default=None, ge=1, description="Length in steps, in place of a share.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.share is not None and self.steps is not None:
            raise ValueError(f"share is {self.share} and steps {self.steps}; give the length once")
        if self.kind == "constant" and self.model_fields_set & {"end", "share", "steps"}:
            raise ValueError("a constant schedule has a start alone; leave end, share and steps out, or choose linear")
        if self.kind == "exponential" and not (self.start > 0 and self.end > 0):
            raise ValueError(
                f"an exponential schedule from {self.start:g} to {self.end:g} neither reaches nor leaves 0: give "
                "an end such as 0.01, or choose linear or cosine"
            )
        return self

    @property
    def needs_total_steps(self) -> bool:
        """True if its length is a share of the run's."""
        return self.kind != "constant" and self.steps is None

    def length(self, total_steps: int | None) -> float:
        """Steps until `end` is reached.

        Raises:
            ValueError: it is a share of a run whose steps are not known.
        """
        if not self.needs_total_steps:
            return float(self.steps or 1)
        if total_steps is None:
            raise ValueError("a schedule over a share of the run needs to know the run's steps; give it `steps`")
        return (1.0 if self.share is None else self.share) * total_steps

    def factor(self, step: int, total_steps: int | None = None) -> float:
        """The factor after `step` optimiser steps, 0 before the first.

        >>> [Schedule(kind="linear", steps=4).factor(step) for step in (0, 1, 4, 9)]
        [1.0, 0.75, 0.0, 0.0]
        """
        if self.kind == "constant":
            return self.start
        progress = min(1.0, step / self.length(total_steps))
        if progress == 1.0:
            return self.end
        if self.kind == "linear":
            return self.start + (self.end - self.start) * progress
        if self.kind == "cosine":
            return self.end + (self.start - self.end) * (1.0 + math.cos(math.pi * progress)) / 2.0
        return float(self.start * (self.end / self.start) ** progress)
