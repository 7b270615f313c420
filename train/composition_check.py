"""What is checked of a run's composition once its rewards are made, for it takes what they say of themselves."""

import math

from rewards.bounds import Bounds, bounds_of, bounds_to_go_of
from rewards.compose import Composition
from rewards.gates import bounds_behind
from rewards.ordering import OrderingViolated, check_ordering
from train.composition_config import ADDS_RAW_VALUES, COMPARES_RETURNS_TO_GO
from train.config import TrainConfig
from train.config_file import ConfigError


def check_composition(config: TrainConfig, rewards: Composition) -> tuple[str, ...]:
    """See that the guaranteed ordering holds, and that no part of a product is thrown away; returns warnings.

    Raises:
        ConfigError: the ordering can be violated (the message has the case), or a part of the product is never above 0.
    """
    _refuse_closed_gates(config, rewards)
    warnings = _clipped_in_a_product(config, rewards) + _untold_of_candidates(config, rewards)
    if not config.composition.ordering:
        return warnings
    try:
        to_go = config.credit.estimator in COMPARES_RETURNS_TO_GO
        check_ordering(rewards, max_turns=config.limits.max_turns, to_go=to_go)
    except OrderingViolated as error:
        raise ConfigError(str(error)) from error
    if config.credit.estimator in ADDS_RAW_VALUES:
        return warnings
    return (
        *warnings,
        f"composition.ordering holds for sums of raw rewards; whether credit.estimator {config.credit.estimator} "
        "compares those is not known here",
    )


def _refuse_closed_gates(config: TrainConfig, rewards: Composition) -> None:
    """A gate that is closed wherever its component pays leaves nothing of it."""
    turns = config.limits.max_turns
    for name, reward in rewards.rewards.items():
        gates = rewards.terms[name].gate
        if not gates:
            continue
        pays = pays_behind = False
        for stated in (bounds_of, bounds_to_go_of):
            for correct in (True, False):
                bounds = stated(reward, correct=correct, max_turns=turns)
                pays |= _pays(bounds)
                pays_behind |= _pays(bounds_behind(gates, bounds, correct=correct))
        if pays and not pays_behind:
            raise ConfigError(
                f"rewards.{name}.gate is {' and '.join(gates)}, which is closed in every episode in which {name} is "
                "other than 0: take the gate off, choose another, or leave the reward out"
            )


def _pays(bounds: Bounds) -> bool:
    return bounds.low != 0.0 or bounds.high != 0.0


def _untold_of_candidates(config: TrainConfig, rewards: Composition) -> tuple[str, ...]:
    """Warnings of gates over how an episode ends, where most episodes are cut before their end."""
    if config.rollout.unit.kind != "branch":
        return ()
    return tuple(
        f"rewards.{name}.gate is {' and '.join(term.gate)}, which cannot be told of candidates that were cut: of all "
        "but those that answer this component says nothing"
        for name, term in rewards.terms.items()
        if set(term.gate) - {"well_formed"}
    )


def _clipped_in_a_product(config: TrainConfig, rewards: Composition) -> tuple[str, ...]:
    """Warnings of parts that can add up to more than 1: beyond it all of them look alike."""
    if not rewards.rule:
        return ()
    turns = config.limits.max_turns
    best = {
        name: max(bounds_of(reward, correct=correct, max_turns=turns).high for correct in (True, False))
        for name, reward in rewards.rewards.items()
        if rewards.terms[name].weight != 0
    }
    prices = sorted(name for name, high in best.items() if high <= 0)
    if prices:
        raise ConfigError(
            f"composition.combine is gated_product, whose parts are clipped to [0, 1], and {', '.join(prices)} never "
            "pays more than 0: set its weight to 0, leave it out, or use combine: sum"
        )
    return tuple(
        f"composition.combine is gated_product, and {name} can add up to "
        f"{f'{high:.4g}' if math.isfinite(high) else 'more'} in {turns} turns: its sum is clipped to 1, beyond which "
        "no episode is told from another"
        for name, high in best.items()
        if high > 1
    )
