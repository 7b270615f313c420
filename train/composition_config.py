"""The section `composition` of a run: how rewards are combined, what is guaranteed of them, and when a judge fails.

Gates and schedules are settings of the single components (`rewards.NAME.gate`, `rewards.NAME.schedule`).
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from rewards.combine import GATED_PRODUCT, GatedProduct
from rewards.term import RewardTerm
from train.config_file import Section

ADDS_RAW_VALUES = frozenset({"outcome", "outcome_mean", "rloo", "ps_grpo", "tree", "turn", "state"})
"""Built-in estimators that compare weighted sums of rewards as they are, on which an order of sums is visible."""

COMPARES_RETURNS_TO_GO = frozenset({"turn", "state"})
"""Those of them that compare what is left to earn from a turn on, and can discount it: a far outcome weighs less."""


class CompositionConfig(Section):
    """How components are combined and watched."""

    combine: Literal["sum", "gated_product"] = Field(
        "sum",
        description="sum: components stay apart, and the credit estimator adds them with their weights; gated_product: "
        "one outcome B x U of bottom line and utilities.",
    )
    bottom_line: tuple[str, ...] = Field(
        (), description="With gated_product: components whose geometric mean is B; the others, by weight, are U."
    )
    smoothing: float = Field(
        1e-3, gt=0, description="With gated_product: added to each bottom line, so that one 0 leaves a spread."
    )
    ordering: Literal["correct_above_wrong"] | None = Field(
        None, description="Refuse rewards under which some wrong episode can earn as much as some correct one."
    )
    max_judge_failure_share: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="Above this share of failed verdicts the run pauses and scores the step again, for at most "
        "rollout.outage_patience_s.",
    )
    judge_window: int = Field(200, ge=1, description="Newest requests to judges over which that share is taken.")

    @property
    def rule(self) -> GatedProduct | None:
        """The combining rule as the rewards have it; None leaves the components apart."""
        if self.combine == "sum":
            return None
        return GatedProduct(bottom_line=self.bottom_line, smoothing=self.smoothing)


def composition_problems(
    config: CompositionConfig,
    terms: Mapping[str, RewardTerm],
    estimator: str,
    discount: object,
    steps: int,
    *,
    unit_kind: str = "group",
) -> list[str]:
    """What does not fit together in a run's rewards, in words; empty where all does.

    `estimator` and `discount` are those of the section `credit`; `steps` are the run's, `unit_kind` its `rollout.unit`.
    """
    problems = []
    if terms and all(term.weight == 0 for term in terms.values()):
        problems.append("every reward has weight 0: nothing would be learned")
    elif terms and all(term.weight_at(steps - 1, steps) == 0 for term in terms.values()):
        problems.append(
            "every reward is annealed to 0 before the last step: nothing would be learned from then on; leave one "
            "without a schedule, or give its schedule an `end` above 0"
        )
    elif (step := _first_step_without(terms, steps)) is not None:
        problems.append(
            f"every reward has weight 0 at step {step}, which would have nothing to learn and end the run; leave one "
            "without a schedule, or give its schedule a `start` above 0"
        )
    problems += _rule_problems(config, terms, steps)
    if config.rule and unit_kind == "branch":
        problems.append(
            "composition.combine is gated_product, which is of whole episodes, and of the candidates of rollout.unit "
            "branch all but those that answer are cut: their products would be of other parts; use combine: sum"
        )
    if config.ordering:
        problems += _estimator_problems(estimator, discount)
    return problems


def _rule_problems(config: CompositionConfig, terms: Mapping[str, RewardTerm], steps: int) -> list[str]:
    if config.combine == "sum":
        if config.bottom_line:
            return ["composition.bottom_line is set, but composition.combine is sum: set combine: gated_product"]
        return []
    problems = []
    if GATED_PRODUCT in terms:
        problems.append(f"rewards.{GATED_PRODUCT} has the name of the product under composition.combine; rename it")
    unknown = [name for name in config.bottom_line if name not in terms]
    if unknown:
        problems.append(f"composition.bottom_line names {', '.join(unknown)}; rewards has {', '.join(sorted(terms))}")
    if len(set(config.bottom_line)) < len(config.bottom_line):
        problems.append("composition.bottom_line names a component twice; name each once")
    if not config.bottom_line:
        problems.append("composition.combine is gated_product: name its bottom line, for example [format]")
    weighed = [name for name in config.bottom_line if name in terms and not _is_plain(terms[name])]
    if weighed:
        problems.append(
            f"{', '.join(weighed)} in composition.bottom_line has a weight or a schedule: all of a bottom line count "
            "alike; leave them out, or make it a utility"
        )
    utilities = {name: term for name, term in terms.items() if name not in config.bottom_line}
    negative = [name for name, term in utilities.items() if term.weight < 0]
    if negative:
        problems.append(f"{', '.join(negative)} has a negative weight: utilities of gated_product have a weighted mean")
    if utilities and all(term.weight_at(steps - 1, steps) <= 0 for term in utilities.values()):
        problems.append("no utility of gated_product has a weight above 0 at the last step")
    elif (step := _first_step_without(utilities, steps)) is not None:
        problems.append(
            f"no utility of gated_product has a weight above 0 at step {step}, which would have nothing to learn and "
            "end the run; leave one without a schedule"
        )
    if not utilities:
        problems.append("composition.bottom_line names every reward: gated_product needs a utility beside them")
    return problems


def _first_step_without(terms: Mapping[str, RewardTerm], steps: int) -> int | None:
    """The first of the run's steps at which no component has a weight; None where there is none."""
    if not terms or any(term.weight != 0 and term.schedule is None for term in terms.values()):
        return None
    return next((s for s in range(steps) if all(term.weight_at(s, steps) == 0 for term in terms.values())), None)


def _is_plain(term: RewardTerm) -> bool:
    return term.weight == 1.0 and term.schedule is None


def _estimator_problems(estimator: str, discount: object) -> list[str]:
    allowed = ", ".join(sorted(ADDS_RAW_VALUES))
    if estimator in COMPARES_RETURNS_TO_GO and discount != 1.0:
        return [
            f"composition.ordering speaks of undiscounted sums, but credit.params.discount is {discount}: leave the "
            "discount out, or the ordering"
        ]
    if estimator in ADDS_RAW_VALUES or ":" in estimator:
        return []
    return [
        f"composition.ordering is set, but credit.estimator {estimator} does not compare sums of raw rewards (it "
        "normalises them apart, or places them on its own), so an order of the sums means nothing there: use one of "
        f"{allowed}, or leave the ordering out"
    ]
