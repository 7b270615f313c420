"""Gold hops found as a potential: progress is paid when it is made and taken back at the end."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Trajectory
from envs.question import Question
from rewards.answer import exact_match, has_answer
from rewards.bounds import Bounds
from rewards.per_trajectory import TurnReward
from rewards.relevance import first_shown
from rewards.reward import RewardContext, finite_parameter

Terminal = Literal["zero", "keep", "answer"]


class HopPotentialReward(TurnReward):
    """Differences of a potential, the share of gold supports shown so far.

    Formula: turn[t] = `discount` * F(s_t+1) - F(s_t), where s_t is the state before turn t and F(s) = `value` *
    #{gold supports shown up to s} / #{gold supports}. The state after the last turn is terminal and has, by `terminal`,
    F = 0 (`zero`, the default), F as everywhere (`keep`), or F = `value` for an exact match and 0 otherwise (`answer`).
    A candidate that the sampler cut did not end: its last state keeps F. Range of the sum over a finished trajectory
    with discount 1: 0 (`zero`), [0, value] (`keep`), {0, value} (`answer`).
    Source: Ng, Harada and Russell 1999; the potential is this project's. Needs: `supporting_ids`, and `golden_answers`
    with `terminal: answer`; without them NaN.

    What it means in GRPO. With `zero` and discount 1 the sum telescopes to nothing, so a baseline of whole trajectories
    sees no difference: no cheat can earn from it. With per-turn returns the sum from turn t on is -F(s_t), the same
    whatever is done from there: a baseline by state, which changes no ranking of actions in one state and takes out of
    the advantage what earlier turns had achieved. That holds for returns to go with the same discount. Credit that
    takes each turn's own number alone, or divides by a group's standard deviation, sees a dense reward, with a price at
    the end for what was found. `keep` pays each support once, as `hop_relevance` does; `answer` pays the right answer.
    """

    name = "hop_potential"
    needs = frozenset({"supporting_ids"})

    def __init__(
        self, context: RewardContext, *, value: float = 0.5, discount: float = 1.0, terminal: Terminal = "zero"
    ) -> None:
        del context
        self.value = finite_parameter(self.name, "value", value)
        self.discount = finite_parameter(self.name, "discount", discount)
        if self.discount > 1.0:
            raise ValueError(f"reward {self.name}: discount must be in [0, 1], got {discount!r}")
        if terminal not in get_args(Terminal):
            raise ValueError(f"reward {self.name}: terminal must be one of {get_args(Terminal)}, got {terminal!r}")
        self.terminal = terminal
        self.needs = frozenset({"supporting_ids"} | ({"golden_answers"} if terminal == "answer" else set()))

    def turns(self, trajectory: Trajectory, question: Question) -> NDArray[np.float64]:
        """`[num_turns]`."""
        supports = set(question.supporting_ids)
        potential = np.zeros(trajectory.num_turns + 1)
        for passage_id, turn in first_shown(trajectory).items():
            if passage_id in supports:
                potential[turn + 1 :] += self.value / len(supports)
        if trajectory.finish_reason != "cut":
            potential[-1] = self._terminal_potential(trajectory, question, potential[-1])
        return self.discount * potential[1:] - potential[:-1]

    def _terminal_potential(self, trajectory: Trajectory, question: Question, found: float) -> float:
        if self.terminal == "keep":
            return found
        if self.terminal == "zero" or not has_answer(trajectory):
            return 0.0
        return self.value * exact_match(trajectory.final_answer, question.golden_answers)

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """Of discount * F(last) - (1 - discount) * the sum of F over the states between first and last.

        A wrong one may have been cut, and then keeps what it found in its last turn.
        """
        kept, lost = self.discount * self.value, (1.0 - self.discount) * self.value
        between = lost * (max_turns - 1)
        if correct and self.terminal == "answer":
            return Bounds(low=kept - between, high=kept)
        if correct and self.terminal == "keep":  # what was found is found by the turn before the answer
            found = kept - lost if max_turns > 1 else 0.0
            return Bounds(low=min(0.0, kept - between if max_turns > 1 else 0.0), high=max(0.0, found))
        low = kept - between if self.terminal == "keep" else -between
        return Bounds(low=min(0.0, low), high=0.0 if correct else kept)

    def bounds_to_go(self, *, correct: bool, max_turns: int) -> Bounds:
        """What is left at a turn before which everything was found is the price of having found it."""
        whole = self.bounds(correct=correct, max_turns=max_turns)
        if max_turns < 2:
            return whole
        ends_found = self.terminal == "keep" or (correct and self.terminal == "answer")
        kept = self.discount * self.value if ends_found else 0.0
        between = (1.0 - self.discount) * self.value * (max_turns - 2)
        return Bounds(low=min(whole.low, kept - self.value - between), high=whole.high)
