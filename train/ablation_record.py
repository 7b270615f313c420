"""The record of one finished run: small, self-contained, and enough for every figure of a comparison.

A run folder is heavy and can be deleted; its record is one JSON file, `METHOD/seed-N.json`, that can be copied between
machines and committed. It holds no path and no address. What a run depends on stands in it whole, so that a record of
other settings is refused with what differs; a field that is newer than the record counts with its default.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field

from envs.question import Question
from train.changed_settings import SHOWN, refuse_changes
from train.config import TrainConfig, check_config
from train.config_file import ConfigError, Section, check_fields
from train.run_settings import retrieval_of, settings_of
from train.testbed import TestbedConfig
from train.tracking import flatten

FORMAT = 1

PER_QUESTION = ("em", "f1", "support_recall", "citation_precision", "citation_recall")
"""Figures of the final evaluation that are kept for each question, for paired tests and intervals."""


class RecordedPoint(Section):
    """One evaluation while training: what the run had cost by then, and its greedy dev EM."""

    step: int
    trajectories: float = Field(description="In whole episodes; of branches a fraction may be left.")
    retriever_calls: int
    em: float
    low: float
    high: float


class RecordedCosts(Section):
    """What the run cost besides its trajectories. Tokens are those sampled; evaluations are not counted but in time."""

    trajectories: float
    steps: int
    retriever_calls: int
    sampled_tokens: int | None
    judge_calls: int
    seconds: float = Field(description="Wall time of the training steps, dev evaluations included.")
    final_evaluation_seconds: float


class RecordedSettings(Section):
    """Everything that a run's figures depend on. `config` has placeholders where paths were."""

    testbed: TestbedConfig
    test_limit: int
    config: dict[str, Any]
    retrieval: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(cls, testbed: TestbedConfig, test_limit: int, config: TrainConfig) -> "RecordedSettings":
        """The settings of a run that is about to be made."""
        plain = config.model_dump(mode="json")
        del plain["watch"]  # no figure of a finished run depends on it
        plain["policy"]["model"] = "cold_start"
        plain["data"] |= {"corpus_index": None, "index": "index", "train_questions": "questions.train.jsonl"}
        if config.data.dev_questions is not None:
            plain["data"]["dev_questions"] = "questions.dev.jsonl"
        return cls(testbed=testbed, test_limit=test_limit, config=plain, retrieval=retrieval_of(config))

    def flat(self) -> dict[str, Any]:
        """With dotted names, as two runs are compared."""
        return {
            **flatten({"testbed": self.testbed.model_dump(mode="json")}),
            "test_limit": self.test_limit,
            **settings_of(check_config(self.config, source="the recorded config")),
            **self.retrieval,
        }

    @property
    def sha256(self) -> str:
        """Equal for equal settings, as this version reads them."""
        return hashlib.sha256(json.dumps(self.flat(), sort_keys=True).encode()).hexdigest()


class RunRecord(Section):
    """One method with one seed, finished."""

    format: int = FORMAT
    method: str
    setting: str
    seed: int
    budget: int
    settings: RecordedSettings
    config_sha256: str
    sources: dict[str, str] = Field(
        default_factory=dict, description="`train.recorded_sources.source_hashes`; empty in older records."
    )
    cold_start_sha256: str | None
    questions_sha256: str = Field(description="Of the test questions in their order; equal ones can be paired.")
    curve: list[RecordedPoint]
    training: dict[str, list[float | None]] = Field(description="Metrics of every step, by name: `[num_steps]` each.")
    test: dict[str, Any] = Field(description="Summary of the final evaluation, as `evaluate --json` has it.")
    per_question: dict[str, list[float | None]] = Field(
        description="`[num_questions]` each, three decimals; consistency is of the first ones alone."
    )
    consistency: dict[str, Any] | None = None
    costs: RecordedCosts
    environment: dict[str, Any] = Field(description="Commit, hardware, threads, Python and package versions.")


def questions_sha256(questions: Sequence[Question]) -> str:
    """Of ids and texts, in order."""
    text = json.dumps([[question.id, question.text] for question in questions], ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def record_path(records: Path, method: str, seed: int) -> Path:
    """Where a run's record lies."""
    return records / method / f"seed-{seed}.json"


def write_record(path: Path, record: RunRecord) -> None:
    """Write a record so that it is there whole or not at all; one line for each entry."""
    entries = record.model_dump(mode="json")
    lines = [f" {json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in entries.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    unfinished.replace(path)


def read_record(path: Path) -> RunRecord:
    """Read a record.

    Raises:
        ConfigError: it is not JSON, of another format, or not a record; the message names the file.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a record: {error}; delete it to have the run made again") from error
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        given = data.get("format") if isinstance(data, Mapping) else type(data).__name__
        raise ConfigError(f"{path} is a record of format {given!r}; this version reads format {FORMAT}")
    return check_fields(RunRecord, dict(data), source=str(path))


def refuse_other_settings(
    path: Path,
    record: RunRecord,
    method: str,
    seed: int,
    wanted: RecordedSettings,
    sources: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """See that a record is of the run that is asked for. `sources` are the hashes of now.

    Raises:
        ConfigError: it is of another method or seed, or was run with other settings, or with another source of an
            object that they name; the message names the first three that differ.
    """
    if (record.method, record.seed) != (method, seed):
        raise ConfigError(
            f"{path} is the record of {record.method} with seed {record.seed}: it lies where that of {method} with "
            f"seed {seed} belongs; put it back, or delete it"
        )
    refuse_changes(record.settings.flat(), wanted.flat(), f"{path} was run with")
    changed = [name for name, found in sources.items() if record.sources.get(name, found) != found]
    if changed:
        raise ConfigError(
            f"{path} was run with another content of {', '.join(changed[:SHOWN])} than there is now: delete the record "
            "to have the run made again, or give another --records"
        )
