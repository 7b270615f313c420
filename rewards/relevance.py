"""Pays a turn for the gold supports that it was the first to show."""

import math

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Trajectory
from envs.question import Question
from rewards.bounds import Bounds
from rewards.per_trajectory import TurnReward
from rewards.reward import RewardContext, finite_parameter


def first_shown(trajectory: Trajectory) -> dict[str, int]:
    """The turn, counted from 0, whose observation first showed each passage id."""
    first: dict[str, int] = {}
    for i, turn in enumerate(trajectory.turns):
        for shown in turn.shown:
            first.setdefault(shown.passage_id, i)
    return first


class HopRelevanceReward(TurnReward):
    """A turn is paid for each gold support that it brings before the policy's eyes for the first time.

    Formula: turn[t] = v * #{gold supports first shown at turn t} - search_price * #{searches carried out at turn t},
    with v = `value` (not normalised: a question with n supports pays up to n * value), or v = `value` / n with
    `normalise` (every question pays up to `value`). n counts distinct `supporting_ids`. Every turn has a number; one
    that brings nothing has 0. "Shown" is `Turn.shown`, what the token budget let through, not what the retriever
    returned. Range of the sum over a trajectory: [0, n * v] with the default `search_price` of 0.
    Source: this project; a 0/1 form of StepSearch's coverage gain (Wang et al. 2025). Needs: `supporting_ids`; without
    them NaN.

    Each support is paid once, so repeating a search earns nothing, and no number of searches earns more than all the
    supports: with the default price a cheat that spams queries ties with the honest path, and with any price it earns
    less. It does not say when to stop: put an answer reward and `never_answering` beside it.
    """

    name = "hop_relevance"
    needs = frozenset({"supporting_ids"})

    def __init__(
        self, context: RewardContext, *, value: float = 0.5, normalise: bool = False, search_price: float = 0.0
    ) -> None:
        del context
        self.value = finite_parameter(self.name, "value", value)
        self.search_price = finite_parameter(self.name, "search_price", search_price)
        if not isinstance(normalise, bool):
            raise ValueError(f"reward {self.name}: normalise must be true or false, got {normalise!r}")
        self.normalise = normalise

    def turns(self, trajectory: Trajectory, question: Question) -> NDArray[np.float64]:
        """`[num_turns]`, 0 where a turn brought no new support."""
        supports = set(question.supporting_ids)
        per_support = self.value / len(supports) if self.normalise else self.value
        values = np.zeros(trajectory.num_turns)
        for passage_id, turn in first_shown(trajectory).items():
            if passage_id in supports:
                values[turn] += per_support
        if self.search_price:
            values -= self.search_price * np.array([len(turn.calls) for turn in trajectory.turns], dtype=np.float64)
        return values

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """[0, value] with `normalise`; else there is no upper bound, as a question may have any number of supports.

        There is no lower bound with a `search_price`: a turn may hold any number of searches. 0 where there is no turn
        to search in: the one that gives the right answer is none.
        """
        if correct and max_turns == 1:
            return Bounds(low=0.0, high=0.0)
        highest = self.value if self.normalise else math.inf
        return Bounds(low=-math.inf if self.search_price else 0.0, high=highest if self.value else 0.0)
