"""A comparison's budget of sampled trajectories, as what ends a run.

Where every step has as many trajectories as the settings say, it is a number of steps; elsewhere what a unit costs is
seen only as it is sampled, and the budget itself ends the run.
"""

from train.config import TrainConfig
from train.config_file import ConfigError
from train.method import Method
from train.unit_config import GroupUnit, ParaphraseSetUnit

SIZES = ("rollout.questions_per_step", "rollout.samples_per_question", "rollout.unit")
"""Fields whose product a step is."""


def spend(config: TrainConfig, budget: int) -> dict[str, object]:
    """Overrides that make a run sample `budget` trajectories, or as many as whole steps make of them.

    Groups and paraphrase sets have a known size. Branches, refinements, groups that are sampled again, and sets that
    may have fewer wordings have not.

    Raises:
        ConfigError: the budget buys no step.
    """
    if has_one_size(config):
        steps = budget // config.trajectories_per_step
        if steps < 1:
            raise ConfigError(
                f"a budget of {budget} trajectories is less than one step of {step_size(config)}: raise --budget to at "
                f"least {config.trajectories_per_step}"
            )
        return {"steps": steps}
    unit = config.rollout.unit
    # No unit costs less, so no run of the budget has more steps.
    least = unit.samples_per_wording if isinstance(unit, ParaphraseSetUnit) else 1
    return {"steps": max(1, budget // (config.rollout.questions_per_step * least)), "max_trajectories": budget}


def has_one_size(config: TrainConfig) -> bool:
    """True if every step has as many trajectories as the settings say."""
    unit = config.rollout.unit
    is_known = isinstance(unit, GroupUnit) or (isinstance(unit, ParaphraseSetUnit) and not unit.allow_fewer)
    return is_known and config.rollout.zero_variance != "resample"


def step_size(config: TrainConfig) -> str:
    """The trajectories of a step, with what they are the product of."""
    rollout = config.rollout
    each = str(config.trajectories_per_unit)
    if isinstance(rollout.unit, ParaphraseSetUnit):
        each = f"{rollout.unit.wordings} wordings x {rollout.unit.samples_per_wording} samples"
    return f"{config.trajectories_per_step} (questions_per_step {rollout.questions_per_step} x {each})"


def own_size(method: Method) -> str:
    """The fields of a step's size that are the method's own and not the setting's, in words; empty where none is."""
    return " and ".join(key for key in method.config.overrides if key.startswith(SIZES))
