"""The folder of a run: what lies where, and who may write into it.

`config.yaml` (resolved), `retriever.json` (what is searched, by its hashes), `metrics.jsonl`, `trajectories/`,
`checkpoints/`, `cold_start/`, `model/` (the trained policy), and a lock that a second run into the same folder meets at
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import yaml

from train.checkpoint import list_checkpoints, remove_unfinished
from train.config import TrainConfig, check_config, dump_config
from train.config_file import ConfigError
from train.tracking import flatten

MAY_CHANGE_ON_RESUME = frozenset(
    {
        "max_trajectories",
        "steps",
        "evaluate_every",
        "checkpoint_every",
        "keep_checkpoints",
        "tracker",
        "trajectories_gb",
        "watch",
        "runtime",
        "engine",
        "retrieval",
        "rollout.max_concurrent_episodes",
        "rollout.max_outage_share",
        "rollout.outage_patience_s",
        "rollout.max_resampled",
        "composition.max_judge_failure_share",
        "composition.judge_window",
        "learner.max_tokens_per_micro_batch",
        "learner.gradient_checkpointing",
    }
)
"""Fields, and sections with all theirs, that say how and where a step is computed and not what it learns from: what a
person changes who goes on after an outage, on other machines, or with less memory. `steps` only while neither the rate
nor a reward's weight follows the length of the run."""

JUDGES_MAY_CHANGE = frozenset(
    {
        "url",
        "api_key_env",
        "timeout_s",
        "retries",
        "first_pause_s",
        "most_pause_s",
        "max_concurrency",
        "max_requests",
        "max_tokens",
        "max_cost",
        "price_per_million_prompt_tokens",
        "price_per_million_answer_tokens",
        "cache",
    }
)
"""Settings of a reward's judge (`rewards.NAME.params.judge`) that say where and how often it is asked, and not what it
says: what a person changes who goes on after a judge has failed, or has spent its budget."""


RETRIEVER_FILE = "retriever.json"


class RunFolder:
    """An opened run folder; close it to release the lock, where this process holds it."""

    def __init__(self, path: Path, lock: TextIO | None) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def open(
        cls, path: Path, config: TrainConfig, *, resume: bool, searched: Mapping[str, Any] | None = None
    ) -> "RunFolder":
        """Create the folder, or open it to go on.

        `searched` is the identity of the run's retriever. It must be the one that the run began with, wherever it is
        now: a run that goes on may take its index from a server, or from another one.

        Raises:
            ConfigError: the folder holds a run and `resume` is off; `resume` is on and there is none, or its config
                or retriever differs; or another process is writing to it.
        """
        written = path / "config.yaml"
        if resume and not written.exists():
            raise ConfigError(f"--resume: {path} holds no run (no config.yaml); start it without --resume")
        if not resume and (written.exists() or (path.is_dir() and any(path.iterdir()))):
            raise ConfigError(f"{path} is not empty: go on with --resume, or choose another --out")
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / ".lock").open("a+", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise ConfigError(f"another process is writing to {path}: wait for it, or choose another --out") from error
        try:
            if resume:
                same_retriever = _is_same_retriever(path / RETRIEVER_FILE, searched)
                _refuse_changes(yaml.safe_load(written.read_text(encoding="utf-8")), config, same_retriever)
                remove_unfinished(path)
            if searched is not None:
                (path / RETRIEVER_FILE).write_text(_as_text(searched), encoding="utf-8")
            temporary = path / f".config.{os.getpid()}.yaml"
            dump_config(config, temporary)
            temporary.replace(written)
        except BaseException:
            lock.close()
            raise
        return cls(path, lock)

    @classmethod
    def attach(cls, path: Path) -> "RunFolder":
        """The folder of a run that another process has opened, whose lock that process holds."""
        return cls(path, None)

    @property
    def cold_start(self) -> Path:
        """The supervised start's model folder; it exists only when whole."""
        return self.path / "cold_start"

    @property
    def model(self) -> Path:
        """The trained policy; it exists only when the run has ended."""
        return self.path / "model"

    @property
    def trajectories(self) -> Path:
        """The store of sampled trajectories."""
        return self.path / "trajectories"

    def latest_checkpoint(self) -> Path | None:
        """The newest whole checkpoint, if any."""
        found = list_checkpoints(self.path)
        return found[-1] if found else None

    def write_model(self, save: Callable[[Path], None]) -> None:
        """Let `save` write the trained policy to a folder, which gets its name when it is whole."""
        unfinished = self.path / ".model.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        save(unfinished)
        shutil.rmtree(self.model, ignore_errors=True)
        unfinished.rename(self.model)

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.close()


def _as_text(searched: Mapping[str, Any]) -> str:
    return json.dumps(searched, indent=1, sort_keys=True) + "\n"


def _is_same_retriever(recorded: Path, searched: Mapping[str, Any] | None) -> bool:
    """True if the run began with the retriever that it has now; False where that is not known.

    Raises:
        ConfigError: it began with another one.
    """
    if searched is None or not recorded.is_file():
        return False
    began = json.loads(recorded.read_text(encoding="utf-8"))
    now = json.loads(_as_text(searched))
    changed = sorted(key for key in began.keys() | now.keys() if began.get(key) != now.get(key))
    if changed:
        pairs = "; ".join(f"{key}: was {began.get(key)!r:.120}, now {now.get(key)!r:.120}" for key in changed)
        raise ConfigError(
            f"--resume with another retriever ({pairs}): a resumed run repeats the interrupted one; serve or name the "
            "index that it began with, or start a new --out"
        )
    return True


def _as_read_now(old: Mapping[str, Any]) -> Mapping[str, Any]:
    """A recorded config with the fields that it did not have yet, at their defaults: those change nothing of before.

    One that is no config any more stays as it was written, so that its fields are named as changed.
    """
    try:
        return check_config(dict(old)).model_dump(mode="json")
    except ConfigError:
        return old


def _set(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are not None, which in a config is the same as absent."""
    return {
        key: _set(value) if isinstance(value, Mapping) else value for key, value in fields.items() if value is not None
    }


def _is_where_a_judge_is_asked(key: str) -> bool:
    section, _, setting = key.rpartition(".")
    return section.startswith("rewards.") and section.endswith(".params.judge") and setting in JUDGES_MAY_CHANGE


def _refuse_changes(old: Mapping[str, Any], config: TrainConfig, same_retriever: bool) -> None:
    follows = config.learner.schedule != "constant" or any(
        term.schedule and term.schedule.needs_total_steps for term in config.rewards.values()
    )
    may_change = MAY_CHANGE_ON_RESUME - ({"steps", "max_trajectories"} if follows else set())
    before, now = flatten(_set(_as_read_now(old))), flatten(_set(config.model_dump(mode="json")))
    changed = sorted(
        key
        for key in before.keys() | now.keys()
        if not any(f"{key}.".startswith(f"{field}.") for field in may_change)
        and not _is_where_a_judge_is_asked(key)
        and not (same_retriever and f"{key}.".startswith(("data.index.", "data.corpus_index.")))
        and before.get(key) != now.get(key)
    )
    if changed:
        pairs = "; ".join(f"{key}: was {before.get(key)!r}, now {now.get(key)!r}" for key in changed)
        raise ConfigError(
            f"--resume with another config ({pairs}): a resumed run repeats the interrupted one, so only "
            f"{', '.join(sorted(may_change))} and where a judge is asked may change; start a new --out for the rest"
        )
