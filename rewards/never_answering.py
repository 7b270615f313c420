"""A price for an episode that ends without an answer."""

from agent.trajectory import Trajectory
from envs.question import Question
from rewards.answer import has_answer
from rewards.bounds import Bounds
from rewards.per_trajectory import OutcomeReward
from rewards.reward import RewardContext, finite_parameter


class NeverAnsweringReward(OutcomeReward):
    """Going on for ever must not pay.

    Formula: outcome = -`price` where the episode ended `no_answer`, `turn_limit`, `token_limit` or `malformed`, or
    with a blank answer; 0 where it answered. Range: {-price, 0}. Source: this project; hop rewards alone can teach a
    policy to search until the turn limit, because going on pays more than answering (docs/claims.md). Needs: no
    annotation. An episode that ended in an outage has NaN, like everywhere: it was not the policy's choice.
    """

    name = "never_answering"
    needs = frozenset()

    def __init__(self, context: RewardContext, *, price: float = 1.0) -> None:
        del context
        self.price = finite_parameter(self.name, "price", price)

    def outcome(self, trajectory: Trajectory, question: Question) -> float:
        """-price or 0.0."""
        return 0.0 if has_answer(trajectory) else -self.price

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """0 for right answers, [-price, 0] for the others."""
        return Bounds(low=0.0 if correct else -self.price, high=0.0)
