"""A setting: what all methods of a comparison share, as a YAML file.

World and untrained policy, the base of the training config with its cold start, the budget of sampled trajectories, and
the questions of the final evaluation. A method's overrides are laid over `train`; everything else is equal by
construction. The built-in settings lie in configs/ablation; a path names a file of one's own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from train.config_file import ConfigError, Section, check_fields, near_or_all, read_mapping
from train.method import Method, Need, configs_folder
from train.testbed import TestbedConfig

DEFAULT_BUDGET = 3840


class SettingConfig(Section):
    """A setting as its YAML file says it."""

    title: str = Field(min_length=1, description="Heading of its table.")
    provides: tuple[Need, ...] = Field((), description="What its questions and its protocol have.")
    testbed: TestbedConfig = Field(description="World and policy that all methods share.")
    train: dict[str, Any] = Field(description="Fields of TrainConfig; model, data paths, seed and steps are filled in.")
    start: str | None = Field(
        None, description="Folder of configs/ablation/starts with the policy that `train` describes; null: it is made."
    )
    budget: int = Field(DEFAULT_BUDGET, ge=1, description="Sampled trajectories of a run.")
    threshold: float = Field(0.8, gt=0, le=1, description="Dev EM up to which trajectories are counted.")
    test_limit: int = Field(250, ge=1, description="First so many test questions of the final evaluation.")
    consistency_limit: int = Field(
        100, ge=0, description="First so many test questions that are asked in all their wordings too; 0: none."
    )
    consistency_wordings: int = Field(
        5, ge=2, description="Wordings of each, itself included; asking n costs 2 n - 1 episodes."
    )

    @field_validator("train")
    @classmethod
    def _check_train(cls, train: dict[str, Any]) -> dict[str, Any]:
        filled = sorted({"policy", "seed", "steps", "max_trajectories"} & train.keys())
        if filled:
            raise ValueError(f"{', '.join(filled)}: filled in from the testbed, the seeds and the budget; leave it out")
        if not train.get("cold_start"):
            raise ValueError("cold_start is missing: every method starts from one supervised policy; give its phases")
        return train


def setting_names() -> list[str]:
    """Names of the built-in settings."""
    return sorted(path.stem for path in (configs_folder() / "ablation").glob("*.yaml"))


def load_setting(reference: str, overrides: Sequence[str] = ()) -> SettingConfig:
    """A built-in setting by its name, or a YAML file of one's own, with dotted overrides.

    Raises:
        ConfigError: there is no such setting (the message names near ones), or it does not validate.
    """
    path = Path(reference)
    if not reference.endswith((".yaml", ".yml")):
        known = setting_names()
        if reference not in known:
            hint = near_or_all(reference, known)
            raise ConfigError(f"no setting {reference!r}: {hint} A path to a YAML file names one of your own.")
        path = configs_folder() / "ablation" / f"{reference}.yaml"
    return check_fields(SettingConfig, read_mapping(path, overrides), source=str(path))


def refuse_unmet(method: Method, setting: SettingConfig, name: str) -> None:
    """See that a setting has what a method needs.

    Raises:
        ConfigError: it lacks something; the message names both.
    """
    lacking = [need for need in method.config.needs if need not in setting.provides]
    if lacking:
        fitting = [other for other in setting_names() if set(method.config.needs) <= set(load_setting(other).provides)]
        where = f"run it under --setting {' or '.join(fitting)}" if fitting else "give a setting that provides it"
        raise ConfigError(f"method {method.name} needs {', '.join(lacking)}, which setting {name} lacks: {where}")
