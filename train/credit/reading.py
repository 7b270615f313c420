"""What an estimator that reads rewards by name asks of them, seen before anything is sampled.

An estimator has `reads`, the names by the parameter that names them, and may have `check_rewards(rewards)`, which
refuses what it could not make sense of: it gets the composition, with its gates, weights and combining rule.
"""

from rewards.compose import Composition
from train.credit.row import CreditEstimator


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
