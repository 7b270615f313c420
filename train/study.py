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

from envs.episode_limits import EpisodeLimits
from retrieval.spec import short_form
from train.assembly import assemble
from train.config import TrainConfig, check_config, load_config
from train.config_file import ConfigError, Section, apply_override, check_fields, read_mapping
from train.policy_start import make_cold_start
from train.progress import Progress
from train.run import train
from train.testbed import Testbed, TestbedConfig, prepare_testbed
from train.tracking import METRICS_FILE, flatten, read_metrics


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
            with assemble(base) as parts:
                make_cold_start(base, parts, self.cold_start, self._say)
            self._cold_start_record.write_text(json.dumps(_behind_cold_start(base)), encoding="utf-8")
        return self.testbed

    @property
    def cold_start(self) -> Path:
        """The cold-started policy that all arms and seeds start from."""
        return self.folder / "cold_start"

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

    @property
    def _cold_start_record(self) -> Path:
        return self.folder / "cold_start.json"

    def _check_cold_start(self, base: TrainConfig) -> None:
        if self._cold_start_record.exists():
            recorded = json.loads(self._cold_start_record.read_text(encoding="utf-8"))
            # A record of before a limit was there: the limit's default changes nothing of what was made.
            recorded = flatten({"limits": EpisodeLimits().model_dump(mode="json")}) | recorded
            refuse_changes(recorded, _behind_cold_start(base), f"{self.cold_start} was made with")

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


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """What a run's figures depend on, with dotted names: all but paths, addresses and bookkeeping."""
    paths = {"policy": {"model"}, "data": {"index", "corpus_index", "train_questions", "dev_questions"}}
    bookkeeping = dict.fromkeys(("checkpoint_every", "keep_checkpoints", "save_trajectories", "tracker"), True)
    return flatten({**config.model_dump(mode="json", exclude={**paths, **bookkeeping}), **retrieval_of(config)})


def retrieval_of(config: TrainConfig) -> dict[str, Any]:
    """How the index is searched, without where it lies: nothing for an index folder or a server as they are."""

    def without_places(value: Any) -> Any:
        match value:
            case str():
                return "index"
            case {"index": _, "settings": settings}:
                return {"settings": settings} if settings else "index"
            case {"url": _}:
                return "index"
            case {"hybrid": parts}:
                return {**value, "hybrid": [without_places(part) for part in parts]}
            case {"rerank": first, "model": model}:
                return {**value, "rerank": without_places(first), "model": Path(model).name}
        return value

    found = without_places(short_form(config.data.index))
    return {} if found == "index" else {"retrieval of data.index": json.dumps(found, sort_keys=True)}


def _behind_cold_start(base: TrainConfig) -> dict[str, Any]:
    """What the cold start depends on besides the testbed, with dotted names."""
    kept = base.model_dump(mode="json", include={"seed", "protocol", "limits", "cold_start"})
    return flatten({**kept, "precision": base.learner.precision, **retrieval_of(base)})


def refuse_changes(before: dict[str, Any], now: dict[str, Any], made: str) -> None:
    """Raises ConfigError, naming the first three, where two sets of dotted settings differ."""
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if changed:
        pairs = "; ".join(f"{made} {key}={before.get(key)!r}, now it is {now.get(key)!r}" for key in changed[:3])
        raise ConfigError(f"{pairs}: give another --out, or delete what was made")
