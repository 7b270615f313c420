"""One run of a comparison, in a process of its own: train, evaluate on the test questions, write the record.

    python -m train.ablation_job < JOB.json        # how `waymark ablate` starts one

A run that was interrupted goes on from its last checkpoint; when its record is written, its folder is deleted unless it
is to be kept. What a run that fails prints ends with a line that says why.
"""

import os
import platform
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from envs.datasets import read_questions
from evaluation.comparability import checkout_commit, describe_model, hardware, package_versions
from evaluation.consistency import Consistency
from evaluation.metrics import Evaluation
from evaluation.trajectory_record import plain
from train.ablation_record import (
    PER_QUESTION,
    RecordedCosts,
    RecordedPoint,
    RecordedSettings,
    RunRecord,
    questions_sha256,
    record_path,
    write_record,
)
from train.config_file import ConfigError, Section
from train.final_evaluation import evaluate_model, evaluate_model_consistency, retriever_of
from train.progress import Progress, RunStopped
from train.recorded_sources import source_hashes
from train.study import ArmRun, Study, StudyConfig

KEPT = (
    *("trajectories", "em", "turns", "searches", "retriever_calls", "sampled_tokens", "valid_action"),
    *("loss", "grad_norm", "finish_ratio/", "rewards/", "groups/", "judge/", "rows"),
)
"""Training metrics that a record keeps: names, and beginnings of names that end in a slash."""

DIGITS = 4

LAST_WORDS = "waymark: "
"""Begins the last line of a run that failed."""


class AblationJob(Section):
    """What one run needs to know; plain data, so that it can go to another process or machine."""

    setting: str
    study: StudyConfig = Field(description="With the method's overrides as its only arm.")
    method: str
    seed: int
    budget: int
    consistency_limit: int = 0
    consistency_wordings: int = 5
    folder: Path = Field(description="With testbed and cold start; the run is made in runs/ under it.")
    records: Path
    keep_run: bool = False


def run_job(job: AblationJob, progress: Progress | None = None) -> RunRecord:
    """Make a run, or go on with it, and return its record; nothing is written outside `job.folder`.

    Raises:
        ValueError: settings that cannot be run.
        RunStopped: the run cannot go on; its folder is as the last checkpoint left it.
    """
    study = Study(job.study, job.folder)
    sources = source_hashes(study.arm_config(job.method, job.seed).model_dump(mode="json"))
    run = study.run_arm(job.method, job.seed, progress)
    questions = read_questions(study.testbed.questions("test"))[: job.study.test_limit]
    started = time.perf_counter()
    with retriever_of(run.config) as index:
        evaluation, _ = evaluate_model(run.folder / "model", run.config, index, questions)
        consistency = (
            evaluate_model_consistency(
                run.folder / "model",
                run.config,
                index,
                questions[: job.consistency_limit],
                wordings=job.consistency_wordings,
            )
            if job.consistency_limit
            else None
        )
    seconds = time.perf_counter() - started
    settings = RecordedSettings.of(job.study.testbed, job.study.test_limit, run.config)
    return RunRecord(
        method=job.method,
        setting=job.setting,
        seed=job.seed,
        budget=job.budget,
        settings=settings,
        config_sha256=settings.sha256,
        sources=sources,
        cold_start_sha256=(describe_model(study.cold_start) or {})["weights_sha256"],
        questions_sha256=questions_sha256(questions),
        curve=_curve(run),
        training=_training(run.metrics),
        test=evaluation.summary,
        per_question=_per_question(evaluation, consistency),
        consistency=consistency.summary if consistency else None,
        costs=_costs(run, seconds),
        environment=_environment(),
    )


def finish_job(job: AblationJob, progress: Progress | None = None) -> None:
    """`run_job`, with its record written, and then its folder deleted unless it is to be kept."""
    write_record(record_path(job.records, job.method, job.seed), run_job(job, progress))
    if not job.keep_run:
        shutil.rmtree(run_folder(job.folder, job.method, job.seed), ignore_errors=True)


def run_folder(folder: Path, method: str, seed: int) -> Path:
    """Where a run is made."""
    return folder / "runs" / method / f"seed-{seed}"


def _curve(run: ArmRun) -> list[RecordedPoint]:
    points, calls = [], 0.0
    for metrics in run.metrics:
        calls += metrics.get("retriever_calls", 0.0)
        if "dev/em" in metrics:
            points.append(
                RecordedPoint(
                    step=metrics["step"],
                    trajectories=metrics["trajectories"],
                    retriever_calls=int(calls),
                    em=metrics["dev/em"],
                    low=metrics["dev/em_low"],
                    high=metrics["dev/em_high"],
                )
            )
    return points


def _training(metrics: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    """What rewards, searches and endings were like while training, from the first step on."""
    steps = [line for line in metrics if line["step"] > 0]
    names = dict.fromkeys(name for line in steps for name in line if _is_kept(name))
    columns = {name: [_number(line.get(name)) for line in steps] for name in names}
    return {name: values for name, values in columns.items() if any(values) or _is_told_of_0(name)}


def _is_told_of_0(name: str) -> bool:
    """That a reward was always 0 is what its author has to see."""
    return name in KEPT or (name.startswith("rewards/") and name.endswith("/mean"))


def _is_kept(name: str) -> bool:
    return name in KEPT or name.startswith(tuple(beginning for beginning in KEPT if beginning.endswith("/")))


def _number(value: Any) -> float | None:
    return round(value, DIGITS) if isinstance(value, int | float) else None


def _per_question(evaluation: Evaluation, consistency: Consistency | None) -> dict[str, list[float | None]]:
    figures = {name: evaluation.per_question[name] for name in PER_QUESTION}
    if consistency:
        figures["consistency_end_to_end"] = consistency.per_question["consistency_end_to_end_f1"]
    return {name: plain(values.round(3)) for name, values in figures.items()}


def _costs(run: ArmRun, final_seconds: float) -> RecordedCosts:
    def total(name: str) -> int:
        return int(sum(line.get(name) or 0 for line in run.metrics))

    last = run.metrics[-1]
    return RecordedCosts(
        trajectories=last["trajectories"],
        steps=last["step"],
        retriever_calls=total("retriever_calls"),
        sampled_tokens=total("sampled_tokens") or None,
        judge_calls=total("judge/asked"),
        seconds=round(run.seconds, 1),
        final_evaluation_seconds=round(final_seconds, 1),
    )


def _environment() -> dict[str, Any]:
    return {
        "commit": checkout_commit(),
        "hardware": hardware(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "python": platform.python_version(),
        "packages": package_versions(),
    }


def leave_with_parent(environment: Mapping[str, str] = os.environ) -> None:
    """End this process when the one that started it is gone: nobody would read what it does."""
    parent = int(environment.get("WAYMARK_PARENT", "0"))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    if parent:
        threading.Thread(target=watch, daemon=True).start()


def last_words(error: Exception) -> str:
    """Why a run failed, with the notes of whoever saw it pass, in one line.

    >>> last_words(KeyError("em"))
    "waymark: KeyError: 'em'"
    """
    told = str(error) if isinstance(error, ValueError | RunStopped) and str(error) else ""
    told = told or ": ".join(filter(None, (type(error).__name__, str(error))))
    lines = "\n".join([told, *getattr(error, "__notes__", ())]).splitlines()
    return LAST_WORDS + "; ".join(line.strip() for line in lines if line.strip())


def main() -> None:
    """Read a job from standard input and finish it."""
    from transformers.utils import logging

    from train.console import ConsoleProgress

    leave_with_parent()
    logging.disable_progress_bar()
    job = AblationJob.model_validate_json(sys.stdin.read())
    try:
        finish_job(job, ConsoleProgress(f"{job.method}/{job.seed}"))
    except Exception as error:
        if not isinstance(error, ConfigError | RunStopped) or os.environ.get("WAYMARK_TRACEBACK"):
            traceback.print_exc()
        print(last_words(error), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
