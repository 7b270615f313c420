"""A suite: one policy on several question sets, an evaluation in a folder for each, and their mean.

Sets are found in a data folder (`DATA/hotpotqa/questions.jsonl.gz`, `DATA/nq/test.jsonl`, ...) or, without one, on the
hub as FlashRAG's copies (`RUC-NLPIR/FlashRAG_datasets`), which are those that Search-R1 and its successors evaluate on.
The index may differ by set: `{set}` in its name stands for the set. A set whose evaluation is there already is not
played again, and a killed one goes on where it was.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from envs.datasets.rows import PACKED, SUFFIXES
from evaluation.comparability import describe_model
from evaluation.job import Progress, run_job
from evaluation.job_settings import EvaluationJob, check_job, read_request, request_of
from evaluation.paired_resampling import interval_over_sets
from evaluation.report_parts import Measure, Table
from evaluation.trajectory_record import plain

SUITES: Mapping[str, tuple[str, ...]] = {
    "multihop": ("hotpotqa", "2wikimultihopqa", "musique", "bamboogle"),
    "search_r1": ("nq", "triviaqa", "popqa", "hotpotqa", "2wikimultihopqa", "musique", "bamboogle"),
}
"""The question sets of each suite."""

HUB = "RUC-NLPIR/FlashRAG_datasets"
MACRO = ("em", "f1", "subem", "support_recall", "citation_precision", "citation_recall", "searches_per_question")
"""Figures whose mean over the sets is given."""

_FOLDERS: Mapping[str, tuple[str, ...]] = {
    "2wikimultihopqa": ("2wikimultihopqa", "2WikiMultihopQA", "2wiki", "2WikiMultiHopQA"),
    "hotpotqa": ("hotpotqa", "HotpotQA", "hotpot_qa"),
    "musique": ("musique", "MuSiQue"),
    "bamboogle": ("bamboogle", "Bamboogle"),
    "nq": ("nq", "NQ", "natural_questions", "nq_open"),
    "triviaqa": ("triviaqa", "TriviaQA", "trivia_qa"),
    "popqa": ("popqa", "PopQA"),
}
_STEMS = ("questions", "questions.test", "test", "dev", "validation")


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteResult:
    """What came out: the figures of each set as `evaluate --json` has them, and their means over the sets."""

    suite: str
    sets: dict[str, dict[str, Any]]
    macro: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """The object of `suite.json`."""
        return {"suite": self.suite, "macro": self.macro, "sets": self.sets}

    def told(self) -> list[str]:
        """The warnings of every set, each once."""
        return [f"{name}: {line}" for name, figures in self.sets.items() for line in figures.get("warnings", ())]

    def table(self) -> Table:
        """The figures by set, the mean in the last row."""
        keys = [key for key in MACRO if any(figures.get(key) is not None for figures in self.sets.values())]
        rows = [[name, figures["n"], *(_measure(figures, key) for key in keys)] for name, figures in self.sets.items()]
        rows.append(
            ["mean of the sets", sum(f["n"] for f in self.sets.values()), *(_measure(self.macro, k) for k in keys)]
        )
        return Table(title=f"Suite {self.suite}", columns=["set", "questions", *keys], rows=rows)


def suite_sources(suite: str, data: Path | None) -> dict[str, str | Path]:
    """Where each set's questions are: a file in `data`, or the name of a set on the hub where `data` is None.

    Raises:
        ValueError: no such suite.
        FileNotFoundError: the data folder lacks a set; all that it lacks are named.
    """
    if suite not in SUITES:
        raise ValueError(f"no suite is named {suite!r}; there are {', '.join(SUITES)}")
    if data is None:
        return {name: f"{HUB}:{name}" for name in SUITES[suite]}
    found = {name: _file_of(data, name) for name in SUITES[suite]}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise FileNotFoundError(
            f"{data} lacks {', '.join(missing)} of the suite {suite}: put each set into a folder of its name, as "
            f"{data}/{missing[0]}/questions.jsonl (or test, dev; .json, .jsonl, .csv, .tsv, .parquet; text also packed)"
        )
    return {name: path for name, path in found.items() if path is not None}


def run_suite(
    job: EvaluationJob,
    suite: str,
    *,
    data: Path | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> SuiteResult:
    """Evaluate every set of a suite into a folder of its own, and write `suite.json` beside them.

    `job.questions` is not looked at. All sets are found, and what is there already is looked at, before the first is
    played.

    Raises:
        ValueError, FileNotFoundError: as `suite_sources` and `run_job`, or a set's folder holds another evaluation.
    """
    sources = suite_sources(suite, data)
    jobs = {
        name: replace(job, questions=source, index=_index_of(job.index, name), out=job.out / name)
        for name, source in sources.items()
    }
    found = {name: None if job.overwrite else _finished(one) for name, one in jobs.items()}
    for name, one in jobs.items():
        if found[name] is None:
            check_job(one)
    records: dict[str, dict[str, Any]] = {}
    for name, one in jobs.items():
        record = found[name]
        if record is None:
            run_job(one, progress=partial(_named, progress, name))
            record = _read(one.out)
        records[name] = record
    per_question = [record.pop("per_question") for record in records.values()]
    for record in records.values():
        record.pop("consistency_per_question", None)
    result = SuiteResult(suite=suite, sets=records, macro=plain(_macro(per_question, job.seed)))
    text = json.dumps(result.record(), ensure_ascii=False, allow_nan=False, indent=1)
    (job.out / "suite.json").write_text(text + "\n", encoding="utf-8", errors="replace")
    return result


def _named(progress: Progress, name: str, stage: str, done: int, total: int) -> None:
    """Tell a stage with its set's name."""
    progress(f"{name}: {stage}", done, total)


def _file_of(data: Path, name: str) -> Path | None:
    folders = [data / folder for folder in _FOLDERS.get(name, (name,)) if (data / folder).is_dir()]
    for folder in folders:
        for stem in _STEMS:
            for path in sorted(folder.glob(f"{stem}.*")):
                rest = path.name.removeprefix(f"{stem}.").split(".")
                if f".{rest[0]}" in SUFFIXES and all(f".{end}" in PACKED for end in rest[1:]):
                    return path
    return None


def _index_of(index: Any, name: str) -> Any:
    return str(index).replace("{set}", name) if "{set}" in str(index) else index


def _finished(job: EvaluationJob) -> dict[str, Any] | None:
    """The record of a set that was evaluated before; None where it was not.

    Raises:
        ValueError: it was evaluated under another setting, or of another policy.
    """
    if not (job.out / "evaluation.json").is_file():
        return None
    record = _read(job.out)
    before, asked = read_request(job.out), request_of(job)
    if before is None:
        raise ValueError(f"{job.out} holds an evaluation that does not say what it was asked; give another --out")
    different = sorted(name for name in {*before, *asked} if before.get(name) != asked.get(name))
    if Path(job.policy).is_dir() and asked["engine"]["kind"] != "openai" and "policy" not in different:
        weights = describe_model(job.policy)
        different += ["the model's weights"] if record["comparability"]["model"] != weights else []
    if different:
        raise ValueError(
            f"{job.out} holds an evaluation that differs in {', '.join(different)}; give another --out, or --overwrite "
            "to replace it"
        )
    return record


def _read(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    return record


def _macro(per_question: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """Mean of the sets' means, and its 95 % bootstrap over the questions of every set, sets kept as they are."""
    macro: dict[str, Any] = {"n": sum(len(rows["question_id"]) for rows in per_question)}
    if not per_question:
        return macro | dict.fromkeys(MACRO)
    sets = [np.asarray([rows[key] for key in MACRO], dtype=np.float64).T for rows in per_question]
    for key, columns, (low, high) in zip(
        MACRO, zip(*(own.T for own in sets), strict=True), interval_over_sets(sets, seed=seed), strict=True
    ):
        if any(np.isnan(column).all() for column in columns):
            macro[key] = None  # a mean over some of the sets would be another figure under the same name
        else:
            mean = float(np.mean([np.nanmean(column) for column in columns]))
            macro |= {key: mean, f"{key}_low": float(low), f"{key}_high": float(high)}
    return macro


def _measure(figures: Mapping[str, Any], key: str) -> Measure:
    return Measure(value=figures.get(key), low=figures.get(f"{key}_low"), high=figures.get(f"{key}_high"))
