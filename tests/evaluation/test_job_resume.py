"""An evaluation that is killed goes on from what is stored, asks each question once, and gives the same figures."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from envs.search_env import EpisodeLimits
from evaluation.job import EvaluationJob, JobResult, run_job
from evaluation.trajectory_store import read_trajectories
from tests.evaluation.conftest import SmallWorld

ROOT = Path(__file__).resolve().parents[2]


class Killed(RuntimeError):
    """What a kill looks like from inside."""


@pytest.fixture
def job(small_world: SmallWorld, tmp_path: Path) -> EvaluationJob:
    return EvaluationJob(
        policy="scripted:noisy",
        index=small_world.index,
        questions=small_world.questions_file,
        out=tmp_path / "out",
        limits=EpisodeLimits(top_k=2, max_new_tokens_per_turn=60, max_trajectory_tokens=700),
        controls=True,
        robustness=True,
        noise_curve=(0.5, 1.0),
        max_batch=1,
        outage_pause_s=0.0,
    )


def stop_at(stage: str, done: int):
    def progress(name: str, finished: int, total: int) -> None:
        del total
        if name == stage and finished == done:
            raise Killed

    return progress


def figures(result: JobResult) -> dict[str, object]:
    """What must come again; a commit that somebody makes meanwhile is no part of it."""
    record = {name: v for name, v in result.record().items() if name not in ("latency", "resumed_trajectories")}
    return {**record, "comparability": {**result.comparability, "commit": None}}


@pytest.mark.parametrize(
    ("stage", "done", "stored"), [("oracle_passages", 0, 5), ("one word: add", 0, 5), ("evaluating", 0, 0)]
)
def test_a_killed_evaluation_goes_on_and_gives_the_same_figures(
    job: EvaluationJob, tmp_path: Path, stage: str, done: int, stored: int
) -> None:
    whole = run_job(replace(job, out=tmp_path / "whole"))
    with pytest.raises(Killed):
        run_job(job, progress=stop_at(stage, done))
    assert not (job.out / "evaluation.json").exists(), "a half-written evaluation must not pass for a whole one"
    asked: list[tuple[str, int, int]] = []
    resumed = run_job(job, progress=lambda *told: asked.append(told))
    assert figures(resumed) == figures(whole)
    assert resumed.figures["resumed_trajectories"] == stored
    if stored:
        assert ("evaluating", 5, 5) in asked, "progress begins with what is there"
    ids = [entry.id for entry in read_trajectories(job.out / "trajectories").entries]
    assert len(ids) == len(set(ids)) == 5


def test_a_process_that_is_killed_in_the_middle_loses_what_was_in_flight_and_nothing_else(
    small_world: SmallWorld, tmp_path: Path
) -> None:
    out, played = tmp_path / "out", tmp_path / "played.txt"
    command = [
        *(sys.executable, "-m", "scripts.evaluate", "scripted:tests.evaluation.slow_policy:SlowPolicy"),
        *("--index", str(small_world.index), "--questions", str(small_world.questions_file), "--out", str(out)),
        *("--top-k", "2", "--no-controls", "--max-batch", "1", "--json", str(tmp_path / "figures.json")),
    ]
    environ = {**os.environ, "SLOW_POLICY_LOG": str(played)}
    process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    index = out / "trajectories" / "index.jsonl"
    while not index.is_file() or len(index.read_text().splitlines()) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    stored = len(index.read_text().splitlines())
    assert 2 <= stored < 5 and not (out / "evaluation.json").exists()
    subprocess.run(command, cwd=ROOT, env=environ, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["n"] == 5 and figures["em"] == 1.0 and figures["resumed_trajectories"] == stored
    asked = played.read_text().split()
    assert len(set(asked)) == 5 and len(asked) <= 6, "at most the one in flight is asked twice"


def test_a_torn_trajectory_is_played_again(job: EvaluationJob) -> None:
    job = replace(job, controls=False, robustness=False, noise_curve=())
    whole = run_job(job)
    (job.out / "evaluation.json").unlink()
    data = job.out / "trajectories" / "trajectories.jsonl.zst"
    data.write_bytes(data.read_bytes()[:-7])
    again = run_job(job)
    assert figures(again)["em"] == figures(whole)["em"]
    assert again.figures["resumed_trajectories"] == 4
    assert len(read_trajectories(job.out / "trajectories")) == 5


def test_another_evaluation_does_not_go_on_in_its_place(job: EvaluationJob) -> None:
    with pytest.raises(Killed):
        run_job(job, progress=stop_at("closed_book", 0))
    with pytest.raises(ValueError, match="interrupted evaluation that differs in limits, seeds"):
        run_job(replace(job, seed=1, limits=EpisodeLimits(top_k=1, max_trajectory_tokens=700)))
    assert run_job(replace(job, seed=1, overwrite=True)).figures["resumed_trajectories"] == 0


def test_the_state_and_the_figures_are_json_and_the_folder_holds_nothing_else(job: EvaluationJob) -> None:
    run_job(job)
    assert json.loads((job.out / "evaluation.state.json").read_text())["limits"]["top_k"] == 2
    assert {path.name for path in job.out.iterdir()} >= {"evaluation.json", "trajectories", "conditions", "report.html"}
    assert not list(job.out.glob("*.new"))
