"""What an episode is worth under a recipe: rewards with their parameters, weights and gates, as its credit adds them.

A recipe is read as a run reads it, resolved under a setting. Its composition scores whole episodes, and the worth of an
episode is what the estimator makes of the scores before it compares episodes: the weighted sum of all turns and
outcomes, or the product, where it has no rule of its own. Those that have one:

- `c_grpo`: (1 - alpha) EM + alpha EM R. R is raw, as beside a member of the group that has all of its rubrics.
- `renorm`: turns recentred with the outcome; their mean (with `variant: paper` their sum).
- `step_tokens`: turns times `step_scale`, plus outcomes.

What comparing does afterwards (z-scores of each component apart, of one turn's candidates) is not in it; nor is noise
in the searches. Episodes are as long as the setting lets them be: `as_trained`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.red_team.arena import Arena, Played
from rewards.compose import Composition, build_rewards
from rewards.reward import RewardContext
from train.ablation import Ablation
from train.ablation_setting import SettingConfig, load_setting
from train.config import TrainConfig
from train.credit import CreditEstimator, load_estimator
from train.credit.baseline import without_nan
from train.credit.c_grpo import CGrpo, c_grpo_returns
from train.credit.group import Group, group_of
from train.credit.renorm import ReNorm
from train.credit.step_tokens import StepTokens
from train.method import load_methods, method_names

STATING = "2hops_stating"
"""The setting that provides what every recipe needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A method of configs/methods as a run under a setting has it."""

    name: str
    config: TrainConfig

    def build(self, context: RewardContext) -> Composition:
        """The composition of its first step."""
        config = self.config
        return build_rewards(config.rewards, context, rule=config.composition.rule, total_steps=config.planned_steps)

    def earned(self, arena: Arena, played: Played) -> NDArray[np.float64]:
        """The worth of each episode: `[num_trajectories]`. What does not apply adds nothing."""
        composition = self.build(arena.context)
        estimator = load_estimator(self.config.credit.estimator, **self.config.credit.params)
        scored = arena.scored(composition, played)
        return np.concatenate(
            [
                np.nan_to_num(
                    worth(estimator, group_of(unit, scores, composition.weights, range(len(unit.trajectories))))
                )
                for unit, scores in zip(played.units, scored, strict=True)
            ]
        )


def load_recipes(setting: str | SettingConfig = STATING) -> list[Recipe]:
    """All methods of configs/methods that a setting has everything for, the baseline first.

    Raises:
        ConfigError: one does not validate, or there is no such setting.
    """
    found = load_setting(setting) if isinstance(setting, str) else setting
    methods = [m for m in load_methods(method_names()) if set(m.config.needs) <= set(found.provides)]
    opened = Ablation(name="recipes", setting=found, methods=methods, seeds=(0,), out=Path("recipes"))
    return [Recipe(name=method.name, config=opened.config(method.name, 0)) for method in methods]


def as_trained(arena: Arena, setting: str | SettingConfig = STATING) -> Arena:
    """The arena with the setting's number of turns. Tokens stay as they are: cheats copy whole passages.

    Raises:
        ConfigError: there is no such setting.
    """
    found = load_setting(setting) if isinstance(setting, str) else setting
    return arena.with_limits(arena.limits.model_copy(update={"max_turns": found.train["limits"]["max_turns"]}))


def worth(estimator: CreditEstimator, group: Group) -> NDArray[np.float64]:
    """What each trajectory comes to before it is compared: `[num_trajectories]`, NaN where nothing applies."""
    if isinstance(estimator, CGrpo):
        outcome = group.component(estimator.outcome, role="outcome")
        rubric = group.component(estimator.rubric, role="rubric")
        mixed = c_grpo_returns(outcome.total, rubric.total, alpha=estimator.alpha * rubric.weight, normalise=False)
        others = group.without(estimator.outcome, estimator.rubric)
        return outcome.weight * mixed + without_nan(others.returns)
    if isinstance(estimator, ReNorm):
        return estimator.returns(group)[:, 0]
    if isinstance(estimator, StepTokens):
        return np.nansum(group.rewards_with(turn_scale=estimator.step_scale), axis=1)
    return group.returns
