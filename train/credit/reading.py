"""What an estimator that reads rewards by name asks of them, seen before anything is sampled.

An estimator has `reads`, the names by the parameter that names them, and may have `check_rewards(rewards)`, which
refuses what it could not make sense of: it gets the composition, with its gates, weights and combining rule.
"""

from rewards.bounds import Bounded
from rewards.compose import Composition
from rewards.placing import scores_trajectories_alone
from train.credit.row import CreditEstimator

MOST_TURNS = 32
"""So long are the longest episodes whose bounds are looked at."""
FEWEST_TURNS = 2
"""So long is the shortest episode that can search and answer."""
TOLERANCE = 1e-9
"""Bounds that are sums of shares may be this far off."""


def check_rewards(estimator: CreditEstimator, rewards: Composition) -> None:
    """Refuse rewards among which an estimator does not find one that it names, or not one that it can read.

    Raises:
        ValueError: the message has the parameter or the reward, and the way out.
    """
    names = rewards.rewards
    for role, name in getattr(estimator, "reads", {}).items():
        if name not in names:
            raise ValueError(f"credit.params.{role} is {name!r}, but the rewards are {sorted(names)}; name one of them")
    if check := getattr(estimator, "check_rewards", None):
        check(rewards)


def refuse_product(estimator: str, rewards: Composition) -> None:
    """See that rewards come apart to an estimator that mixes them itself.

    Raises:
        ValueError: they are combined to a product, of whose parts credit gets none.
    """
    if rewards.rule:
        raise ValueError(
            f"credit.estimator {estimator} mixes rewards by a rule of its own, and composition.combine is "
            "gated_product, which leaves it none of them: set composition.combine: sum, or "
            "use another estimator, such as outcome"
        )


def refuse_gate(role: str, name: str, rewards: Composition, *, because: str) -> None:
    """See that a reward comes as it was given.

    Raises:
        ValueError: it is behind a gate, which makes it 0 in some trajectories.
    """
    if gate := rewards.terms[name].gate:
        raise ValueError(
            f"credit.params.{role} is {name!r}, which is behind gate {' and '.join(gate)}: {because}; take the gate "
            "off (a second component with `use` can have it)"
        )


def largest_weight(name: str, rewards: Composition) -> float:
    """The largest weight that a reward has at any step of the run."""
    term = rewards.terms[name]
    return max(term.weight_at(step, rewards.total_steps) for step in range(rewards.total_steps or 1))


def refuse_whole(role: str, name: str, rewards: Composition) -> None:
    """See that a reward scores turns.

    Raises:
        ValueError: it is known to score trajectories alone.
    """
    if scores_trajectories_alone(rewards.rewards[name]):
        raise ValueError(
            f"credit.params.{role} is {name!r}, which scores trajectories; name one of turns, such as hop_relevance"
        )


def refuse_outside_unit_interval(role: str, name: str, rewards: Composition, *, by_turn: bool) -> None:
    """See that a reward stays in [0, 1] as far as its stated bounds tell: as a whole, or at each turn.

    Bounds are of whole sums: n turns in [0, 1] add up to n at most, and never to less than 0.

    Raises:
        ValueError: it can leave that; a reward without bounds is looked at when it scores.
    """
    reward = rewards.rewards[name]
    if not isinstance(reward, Bounded):
        return
    for turns in range(1, MOST_TURNS + 1) if by_turn else (FEWEST_TURNS,):
        for correct in (True, False):
            bounds = reward.bounds(correct=correct, max_turns=turns)
            if bounds.low < -TOLERANCE or bounds.high > (turns if by_turn else 1) + TOLERANCE:
                raise ValueError(
                    f"credit.params.{role} is {name!r}, which can {'give a turn' if by_turn else 'come to'} less than "
                    f"0 or more than 1: within {turns} turns it adds up to {bounds.low:g} to {bounds.high:g}, and what "
                    "is centred at 1/2 must stay in [0, 1]; change its params (`normalise: true` or `value` where it "
                    "has them), or name another"
                )
