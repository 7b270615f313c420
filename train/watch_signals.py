"""What the collapse watch looks at: sixteen signals, each a figure of `metrics.jsonl`, a direction and a reference."""

import math
from dataclasses import dataclass
from typing import Literal

MOST = 8.0
"""Largest deviation of one step; that of a figure which is not finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What is watched: a figure, which way it must not go, and what it is compared with.

    Attributes:
        limit: field of `WatchLimits`, and the signal's name.
        metric: figure of a line; where a line lacks it, the step says nothing.
        bad: the direction of collapse.
        against: reference: mean of the first steps, best value so far, median of the last ones, or none.
        measure: `by`: the limit is a difference; `times`: a factor; `above`: a value, and there is no reference.
        least: reference below which a factor means nothing.
        words: what a person reads: `{value}`, `{reference}`, `{limit}`.
        alone: `stop` ends the run for this one, whatever `stop_signals` says.
    """

    limit: str
    metric: str
    bad: Literal["rise", "fall"]
    against: Literal["start", "best", "recent", "nothing"]
    measure: Literal["by", "times", "above"]
    words: str
    least: float = 0.0
    alone: bool = False

    def deviation(self, value: float, reference: float, limit: float) -> float:
        """How far `value` is beyond `reference`, in limits; below 0 on the good side."""
        if not math.isfinite(value):
            return MOST
        if self.measure == "above":
            return value / limit
        if self.measure == "by":
            return (value - reference if self.bad == "rise" else reference - value) / limit
        if value <= 0:
            return MOST if self.bad == "fall" else -MOST
        return math.log(value / reference) / math.log(limit)


HELD_OUT = "dev/em"
HELD_OUT_HIGH = "dev/em_high"
"""Upper end of the interval of `HELD_OUT`: a best EM within it is not lost."""
GRADIENT = "grad_norm"
"""The one figure that says something where it is not finite."""
UPDATE_TAIL = "update/tail_share"
"""Known before the engines get the update."""
SIGNALS: tuple[Signal, ...] = (
    Signal(
        limit="likelihood_fall",
        metric="logprob/correct",
        bad="fall",
        against="best",
        measure="by",
        words="right answers have {value} nats a token",
    ),
    Signal(
        limit="confidence_fall",
        metric="logprob/mean",
        bad="fall",
        against="best",
        measure="by",
        words="sampled tokens have {value} nats each",
    ),
    Signal(
        limit="valid_action_fall",
        metric="valid_action",
        bad="fall",
        against="best",
        measure="times",
        words="{value} of the actions are valid",
        least=0.1,
    ),
    Signal(
        limit="thinking_shrink",
        metric="thoughts/words",
        bad="fall",
        against="start",
        measure="times",
        words="a thought has {value} words",
        least=1.0,
    ),
    Signal(
        limit="thinking_growth",
        metric="thoughts/words",
        bad="rise",
        against="start",
        measure="times",
        words="a thought has {value} words",
        least=1.0,
    ),
    Signal(
        limit="thought_repetition_rise",
        metric="thoughts/repetition",
        bad="rise",
        against="start",
        measure="by",
        words="thoughts repeat {value} of their 4-grams",
    ),
    Signal(
        limit="action_repetition_rise",
        metric="actions/repetition",
        bad="rise",
        against="start",
        measure="by",
        words="actions repeat {value} of their 4-grams",
    ),
    Signal(
        limit="duplicate_query_rise",
        metric="duplicate_query_rate",
        bad="rise",
        against="start",
        measure="by",
        words="{value} of the searches repeat a query",
    ),
    Signal(
        limit="answer_rate_fall",
        metric="answer_rate",
        bad="fall",
        against="best",
        measure="times",
        words="{value} of the episodes end with an answer",
        least=0.1,
    ),
    Signal(
        limit="ratio_tail",
        metric="ratio/tail_share",
        bad="rise",
        against="nothing",
        measure="above",
        words="on {value} of the tokens learner and engine differ by 2 or more",
    ),
    Signal(
        limit="update_tail",
        metric=UPDATE_TAIL,
        bad="rise",
        against="nothing",
        measure="above",
        words="one update has made {value} of the tokens half or twice as likely",
        alone=True,  # it is no chance, and the next step comes too late
    ),
    Signal(
        limit="entropy_rise",
        metric="entropy",
        bad="rise",
        against="start",
        measure="times",
        words="the entropy is {value}",
        least=0.001,
    ),
    Signal(
        limit="entropy_fall",
        metric="entropy",
        bad="fall",
        against="start",
        measure="times",
        words="the entropy is {value}",
        least=0.001,
    ),
    Signal(
        limit="held_out_em_fall",
        metric=HELD_OUT,
        bad="fall",
        against="best",
        measure="times",
        words="EM on dev is {value}",
    ),
    Signal(
        limit="reward_without_em",
        metric=HELD_OUT,
        bad="fall",
        against="best",
        measure="times",
        words="EM on dev is {value} while the reward has risen",
    ),
    Signal(
        limit="grad_norm_rise",
        metric=GRADIENT,
        bad="rise",
        against="recent",
        measure="times",
        words="the gradient's norm is {value}",
        least=1e-3,  # less is the KL term or the bonus alone, of steps whose groups have no spread
    ),
)
"""In the order in which they are told."""
