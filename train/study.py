"""A study: the same testbed, cold start and budget for several arms (reward and credit settings) and seeds.

The quickstart is a study of two arms and one seed; a claim is one of many seeds. Arms differ only in what they name:
each is a set of dotted overrides over the study's training config. Every finished part is kept, so a study that was
interrupted goes on where it was.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from train.assembly import assemble
from train.changed_settings import refuse_changes
from train.cold_start_record import ColdStartRecord
from train.config import TrainConfig, check_config, load_config
from train.config_file import Section, apply_override, check_fields, read_mapping
from train.policy_start import make_cold_start
from train.progress import Progress
from train.run import train
from train.run_settings import settings_of
from train.testbed import Testbed, TestbedConfig, prepare_testbed
from train.tracking import METRICS_FILE, read_metrics


class StudyConfig(Section):
    """A study as its YAML file says it."""

    testbed: TestbedConfig = Field(description="World and policy that all arms share.")
    train: dict[str, Any] = Field(description="Fields of TrainConfig; model and data paths are filled in.")
    arms: dict[str, dict[str, Any]] = Field(description="Dotted overrides of each arm; a null reward removes it.")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="Seeds of data order and sampling.")
    test_limit: int = Field(300, ge=1, description="First so many test questions of the final evaluation.")

    @model_validator(mode="after")
    def _check_arms(self) -> "StudyConfig":
        if not self.arms:
            raise ValueError("a study needs at least one arm")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRun:
    """One arm with one seed, finished: its folder, resolved config and the metrics of every step."""

    arm: str
    seed: int
    folder: Path
    config: TrainConfig
    metrics: list[dict[str, Any]]

    @property
    def curve(self) -> list[tuple[int, int, float, float, float]]:
        """Held-out greedy EM while training: (step, trajectories, em, low, high)."""
        return [
            (m["step"], m["trajectories"], m["dev/em"], m["dev/em_low"], m["dev/em_high"])
            for m in self.metrics
            if "dev/em" in m
        ]

    def trajectories_to(self, em: float) -> int | None:
        """Sampled trajectories at the first evaluation that reached this EM, or None."""
        return next((trajectories for _, trajectories, value, _, _ in self.curve if value >= em), None)

    @property
    def seconds(self) -> float:
        """Wall time of its steps."""
        return sum(m.get("seconds/step", 0.0) for m in self.metrics)


def load_study(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study.

    Raises:
        ConfigError: no such file, or fields that do not validate.
    """
    return check_fields(StudyConfig, read_mapping(path, overrides), source=str(path))


class Study:
    """A study in its folder: `testbed/`, `cold_start/`, and `runs/ARM/seed-N/`."""

    def __init__(self, config: StudyConfig, folder: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self.config = config
        self.folder = folder
        self.testbed = Testbed(folder=folder / "testbed")
        self._say = say

    def prepare(self) -> Testbed:
        """Make testbed and cold start; every arm's config is checked first.

        Raises:
            ConfigError: a config that cannot be run, or a folder whose parts were made with other settings.
        """
        base = self.base_config()
        for arm in self.config.arms:
            self._check_finished(arm, self.config.seeds[0])
        self._check_cold_start(base)
        prepare_testbed(self.config.testbed, self.testbed.folder, self._say)
        if not self.cold_start.exists():
            # Written first: a cold start that is there is never without its record, whenever this was interrupted.
            ColdStartRecord.of(base).write(self.cold_start_record)
            with assemble(base) as parts:
                make_cold_start(base, parts, self.cold_start, self._say)
        return self.testbed

    @property
    def cold_start(self) -> Path:
        """The cold-started policy that all arms and seeds start from."""
        return self.folder / "cold_start"

    @property
    def cold_start_record(self) -> Path:
        """What the cold start was made with."""
        return self.folder / "cold_start.json"

    def base_config(self) -> TrainConfig:
        """The resolved config that the cold start is made with, from the testbed's untrained policy."""
        return check_config(self._base_data(str(self.testbed.policy)), source="train")

    def arm_config(self, arm: str, seed: int) -> TrainConfig:
        """The resolved config of an arm with a seed."""
        data = self._base_data(str(self.cold_start))
        data["cold_start"] = None
        data["seed"] = seed
        for key, value in self.config.arms[arm].items():
            apply_override(data, f"{key}={json.dumps(value)}")
        data["rewards"] = {name: term for name, term in data["rewards"].items() if term is not None}
        return check_config(data, source=f"arm {arm!r}")

    def run_arm(self, arm: str, seed: int, progress: Progress | None = None) -> ArmRun:
        """Train an arm with a seed, or read it if it is finished, or go on if it was interrupted.

        Raises:
            ConfigError: the run is finished, and was run with other settings.
        """
        config = self._check_finished(arm, seed)
        folder = self._run_folder(arm, seed)
        if not (folder / "model").exists():
            with progress or Progress() as shown:
                train(config, folder, resume=(folder / "config.yaml").exists(), progress=shown)
        return ArmRun(arm=arm, seed=seed, folder=folder, config=config, metrics=read_metrics(folder / METRICS_FILE))

    def _run_folder(self, arm: str, seed: int) -> Path:
        return self.folder / "runs" / arm / f"seed-{seed}"

    def _check_finished(self, arm: str, seed: int) -> TrainConfig:
        """The arm's config, which a finished run of it must have been run with; where the study lies may change."""
        config, folder = self.arm_config(arm, seed), self._run_folder(arm, seed)
        if (folder / "model").exists():
            recorded = settings_of(load_config(folder / "config.yaml"))
            refuse_changes(recorded, settings_of(config), f"{folder} was run with")
        return config

    def _check_cold_start(self, base: TrainConfig) -> None:
        if self.cold_start.exists() and self.cold_start_record.exists():
            recorded, wanted = ColdStartRecord.read(self.cold_start_record), ColdStartRecord.of(base)
            refuse_changes(
                recorded.model_dump(mode="json"), wanted.model_dump(mode="json"), f"{self.cold_start} was made with"
            )

    def _base_data(self, model: str) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(json.dumps(self.config.train))
        data["policy"] = {"model": model}
        given = data.get("data", {})
        data["data"] = {
            "index": str(self.testbed.index),
            "train_questions": str(self.testbed.questions("train")),
            "dev_questions": str(self.testbed.questions("dev")),
            **({"corpus_index": str(self.testbed.index)} if "index" in given else {}),
            **given,
        }
        return data
