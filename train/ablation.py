"""A comparison of methods: every method and seed is a run under one setting, at equal sampled trajectories.

What has a record is not run again, wherever it was run; so a comparison can be interrupted, moved to another machine
with its records alone, and extended by methods and seeds. Everything is checked before anything is made, but what only
a corpus, a policy or a sentence encoder can tell.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from train.ablation_budget import has_one_size, own_size, spend, step_size
from train.ablation_job import AblationJob, run_folder
from train.ablation_record import (
    RecordedSettings,
    RunRecord,
    read_record,
    record_path,
    refuse_other_settings,
)
from train.ablation_setting import SettingConfig, refuse_unmet
from train.ablation_start import lay_start
from train.cold_start_record import ColdStartRecord
from train.config import TrainConfig
from train.config_file import ConfigError
from train.method import Method
from train.recorded_sources import source_hashes
from train.study import Study, StudyConfig
from train.without_index import check_without_index

Say = Callable[[str], None]


class Ablation:
    """Methods, seeds, a setting and a budget, in a folder: `testbed/`, `cold_start/`, `runs/`, `records/`, `logs/`.

    `records` may lie elsewhere, for example in a checkout. `overrides` are those that `setting` was read with.

    Raises:
        ConfigError: a method that the setting cannot run, a budget that buys no step, or a config that does not
            validate.
    """

    def __init__(
        self,
        *,
        name: str,
        setting: SettingConfig,
        methods: Sequence[Method],
        seeds: Sequence[int],
        out: Path,
        overrides: Sequence[str] = (),
        budget: int | None = None,
        records: Path | None = None,
        say: Say = lambda text: None,
    ) -> None:
        if not methods or not seeds:
            raise ConfigError(f"{len(methods)} methods and {len(seeds)} seeds: a comparison needs at least one of both")
        self.name, self.setting, self.out = name, setting, out
        self.overrides = tuple(overrides)
        self.methods = {method.name: method for method in methods}
        self.seeds = tuple(seeds)
        self.budget = setting.budget if budget is None else budget
        self.records = records or out / "records"
        self._say = say
        for method in methods:
            refuse_unmet(method, setting, name)
        try:
            setting.testbed.world_settings()
        except ValidationError as error:
            told = [f"testbed.world.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            raise ConfigError(f"setting {name}: {'; '.join(told)}") from error
        except ValueError as error:
            raise ConfigError(f"setting {name}: testbed.world: {error}") from error
        arms = {method.name: dict(method.config.overrides) for method in methods}
        self._study = self._study_of(arms, say)
        spending = {name: self._spend(method, say) for name, method in self.methods.items()}
        self._study = self._study_of({arm: {**arms[arm], **spending[arm]} for arm in arms}, say)

    @property
    def study(self) -> Study:
        """The study in whose folder runs are made, with methods as its arms."""
        return self._study

    def config(self, method: str, seed: int) -> TrainConfig:
        """The resolved config of a run."""
        return self._config(method, seed)

    def settings(self, method: str, seed: int) -> RecordedSettings:
        """What a run's record has to be of."""
        return RecordedSettings.of(self.setting.testbed, self.setting.test_limit, self.config(method, seed))

    def read(self) -> dict[str, dict[int, RunRecord]]:
        """Records of the comparison that are there, by method and seed.

        Raises:
            ConfigError: one that cannot be read, or of a run with other settings or sources.
        """
        found: dict[str, dict[int, RunRecord]] = {name: {} for name in self.methods}
        for method, by_seed in found.items():
            sources = source_hashes(self.config(method, self.seeds[0]).model_dump(mode="json"))
            for seed in self.seeds:
                path = record_path(self.records, method, seed)
                if path.exists():
                    record = read_record(path)
                    refuse_other_settings(path, record, method, seed, self.settings(method, seed), sources)
                    by_seed[seed] = record
        return found

    def missing(self) -> list[tuple[str, int]]:
        """Runs without a record, seed by seed, so that an interrupted comparison has all methods at few seeds."""
        found = self.read()
        return [(method, seed) for seed in self.seeds for method in self.methods if seed not in found[method]]

    def check(self, methods: Iterable[str]) -> None:
        """See that these methods' rewards and credit can be made, as far as that is told without testbed and policy.

        Raises:
            ConfigError: one's cannot; the message names the method.
        """
        for method in dict.fromkeys(methods):
            config = self._config(method, self.seeds[0])
            try:
                check_without_index(config)
            except (ValueError, FileNotFoundError) as error:
                raise ConfigError(f"method {method} under setting {self.name}: {error}") from error

    def prepare(self) -> None:
        """Make testbed and cold start where they are missing; a start that the setting names is copied.

        Raises:
            ConfigError: the folder holds those of other settings.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        study, start = self._study, self.setting.start
        record = ColdStartRecord.of(study.base_config())
        if start and lay_start(start, self.setting.testbed, record, study.cold_start, self._say):
            record.write(study.cold_start_record)
        study.prepare()

    def job(self, method: str, seed: int, *, keep_run: bool = False) -> AblationJob:
        """One run, as another process is told of it."""
        return AblationJob(
            setting=self.name,
            study=self._study.config.model_copy(update={"arms": {method: self._study.config.arms[method]}}),
            method=method,
            seed=seed,
            budget=self.budget,
            consistency_limit=self.setting.consistency_limit if "paraphrases" in self.setting.provides else 0,
            consistency_wordings=self.setting.consistency_wordings,
            folder=self.out,
            records=self.records,
            keep_run=keep_run,
        )

    def run_folder(self, method: str, seed: int) -> Path:
        """Where a run is made."""
        return run_folder(self.out, method, seed)

    def _spend(self, method: Method, say: Say) -> dict[str, object]:
        """`spend` of a method; where its steps are of its own size, that is told."""
        config, own = self._config(method.name, self.seeds[0]), own_size(method)
        try:
            spending = spend(config, self.budget)
        except ConfigError as error:
            advice = (
                f", or have a recipe of your own with smaller steps: {method.name} sets {own} itself" if own else ""
            )
            raise ConfigError(f"method {method.name} under setting {self.name}: {error}{advice}") from error
        base = self._study.base_config().trajectories_per_step
        if own and has_one_size(config) and config.trajectories_per_step != base:
            say(f"{method.name}: steps of {step_size(config)}, by its own {own}; the setting's steps have {base}")
        return spending

    def _config(self, method: str, seed: int) -> TrainConfig:
        try:
            return self._study.arm_config(method, seed)
        except ConfigError as error:
            raise ConfigError(f"method {method} under setting {self.name}: {error}") from error

    def _study_of(self, arms: Mapping[str, Mapping[str, object]], say: Say) -> Study:
        config = StudyConfig(
            testbed=self.setting.testbed,
            train=self.setting.train,
            arms={arm: dict(overrides) for arm, overrides in arms.items()},
            seeds=self.seeds,
            test_limit=self.setting.test_limit,
        )
        return Study(config, self.out, say)
