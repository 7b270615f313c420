"""A method: what one row of the comparison is, as a YAML file of dotted overrides over a setting's training config.

A method says only how trajectories are scored, credited and sampled (`rewards`, `composition`, `credit`, `rollout`);
what it learns from (world, policy, limits, learner, cold start) is the setting's, so that rows differ in nothing else.
The built-in ones lie in configs/methods and configs/candidates; a path names a file of one's own.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from train.config_file import ConfigError, Section, check_fields, near_or_all, read_mapping

BASELINE = "outcome"
"""The method that every other one is compared with."""

FOLDERS = ("methods", "candidates")
"""Folders of configs/ that hold methods by name, in the order in which a name is looked up."""

OWNED = frozenset({"rewards", "composition", "credit", "rollout"})
"""Sections of the training config that a method may override; the rest is the setting's."""

Need = Literal["supports", "hops", "paraphrases", "stating"]
"""What a method asks of a setting: annotations of its questions, or a protocol in which the policy states its goal and
its judgement of what it read."""

NAME = re.compile(r"[a-z0-9][a-z0-9_]*")


class MethodConfig(Section):
    """A method as its YAML file says it."""

    title: str = Field(min_length=1, description="The row's name, such as `StepSearch's reward under GRPO`.")
    source: str = Field(min_length=1, description="Where the formula comes from.")
    summary: str = Field(min_length=1, description="What is rewarded and how it becomes credit, in a sentence or two.")
    tier: Literal["baseline", "first", "second", "candidate", "default"] = Field(
        "candidate", description="first: a row of the table; second: no row yet; candidate: all others, yours too."
    )
    needs: tuple[Need, ...] = Field((), description="What its questions and its protocol must have.")
    chosen: str = Field("", description="What was chosen where the source is silent, or left out.")
    overrides: dict[str, Any] = Field(min_length=1, description="Dotted overrides over the setting's `train`.")

    @field_validator("overrides")
    @classmethod
    def _check_owned(cls, overrides: dict[str, Any]) -> dict[str, Any]:
        if whole := overrides.keys() & {"rollout", "rollout.noise"}:
            raise ValueError(
                f"{min(whole)} replaces the setting's whole section; name its fields, such as rollout.unit or "
                "rollout.noise.end"
            )
        if "rollout.noise.evaluation" in overrides:
            raise ValueError("rollout.noise.evaluation is the setting's: all methods are evaluated alike")
        foreign = sorted(key for key in overrides if key.split(".", 1)[0] not in OWNED)
        if foreign:
            raise ValueError(
                f"{', '.join(foreign)}: a method sets {', '.join(sorted(OWNED))} and nothing else, or rows would not "
                "be comparable; put it into the setting"
            )
        return overrides


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method with the name under which its runs and records lie."""

    name: str
    config: MethodConfig

    @property
    def title(self) -> str:
        """The row's name."""
        return self.config.title


def configs_folder() -> Path:
    """The recipes as they are installed with the package."""
    return Path(str(resources.files("configs")))


def method_names(folder: str = "methods") -> list[str]:
    """Names of the built-in methods of a folder, sorted, the baseline first."""
    names = sorted(path.stem for path in (configs_folder() / folder).glob("*.yaml"))
    return sorted(names, key=lambda name: name != BASELINE)


def load_method(reference: str) -> Method:
    """A built-in method by its name, or a YAML file of one's own.

    Raises:
        ConfigError: there is no such method (the message names near ones), or its file does not validate.
    """
    path = _path_of(reference)
    if not NAME.fullmatch(path.stem):
        raise ConfigError(
            f"{path}: a method is named after its file, which becomes a folder: use lower-case letters, digits and _"
        )
    return Method(name=path.stem, config=check_fields(MethodConfig, read_mapping(path), source=str(path)))


def load_methods(references: Iterable[str]) -> list[Method]:
    """Several methods, each once, in the order given.

    Raises:
        ConfigError: as `load_method`, or two files of one name.
    """
    found: dict[str, Method] = {}
    for reference in references:
        method = load_method(reference)
        if found.setdefault(method.name, method) != method:
            raise ConfigError(f"two methods are named {method.name}; rename one of the files")
    return list(found.values())


def _path_of(reference: str) -> Path:
    if reference.endswith((".yaml", ".yml")):
        return Path(reference)
    for folder in FOLDERS:
        path = configs_folder() / folder / f"{reference}.yaml"
        if NAME.fullmatch(reference) and path.is_file():
            return path
    known = [name for folder in FOLDERS for name in method_names(folder)]
    here = Path(f"{reference}.yaml")
    own = (
        f"{here} in this folder is named with its ending"
        if here.is_file()
        else "A path to a YAML file names one of your own"
    )
    raise ConfigError(f"no method {reference!r}: {near_or_all(reference, known)} {own}.")
