"""A run is the same run wherever its processes are, and leaves none of them behind."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from evaluation.trajectory_store import read_trajectories
from tests.train.ray_runs import (
    Does,
    DrivenRun,
    actor,
    all_end,
    at_this_load,
    ray_settings,
    wait_until,
    whole,
)
from train.config import check_config
from train.run import train
from train.testbed import Testbed
from train.tracking import METRICS_FILE, read_metrics

ENDS_WITHIN_S = 10.0


@pytest.mark.slow
def test_local_and_ray_sample_the_same_first_step_and_leave_the_same_files(
    testbed: Testbed, searching: Path, tmp_path: Path
) -> None:
    """Rows of another batch differ by 3e-7 in their logits, which no token of these seeds is close enough to notice."""
    changes: dict[str, Any] = {"steps": 2, "evaluate_every": 1}
    settings = ray_settings(testbed, searching, **changes)
    train(check_config(settings), tmp_path / "ray")
    train(check_config({**settings, "runtime": "local"}), tmp_path / "local")
    assert whole(tmp_path / "ray", settings) == whole(tmp_path / "local", settings) == []
    ray_run, local = (first_step(tmp_path / name) for name in ("ray", "local"))
    assert ray_run.keys() == local.keys() and len(local) == 8
    for name, (told, logprobs) in local.items():
        assert ray_run[name][0] == told, name
        assert ray_run[name][1] == pytest.approx(logprobs, abs=1e-4), name
    assert files(tmp_path / "ray") == files(tmp_path / "local")
    lines = [read_metrics(tmp_path / name / METRICS_FILE) for name in ("ray", "local")]
    for of_ray, of_local in zip(*lines, strict=True):
        assert {name for name in of_ray if not name.startswith("ray/")} == set(of_local)
    assert lines[0][0] == lines[1][0], "the evaluation before the first step is greedy, of the same policy"


def first_step(folder: Path) -> dict[str, tuple[Any, list[float]]]:
    """What was asked, sampled and shown, by id, and the logprobs."""
    return {
        one.trajectory.id: (
            (
                one.trajectory.question_id,
                one.trajectory.prompt_ids,
                one.trajectory.finish_reason,
                [(turn.action_ids, turn.action_versions, turn.observation_ids) for turn in one.trajectory.turns],
            ),
            [value for turn in one.trajectory.turns for value in turn.action_logprobs],
        )
        for one in read_trajectories(folder / "trajectories")
        if one.step == 1
    }


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_ctrl_c_ends_a_run_within_ten_seconds_and_says_so_in_a_word(
    testbed: Testbed, searching: Path, tmp_path: Path
) -> None:
    with DrivenRun(ray_settings(testbed, searching, steps=10_000), tmp_path / "run") as run:
        run.reaches(2)
        assert len(run.actors("RayEngine")) == 1 and len(run.actors("RayWorker")) == 2
        started = time.monotonic()
        os.killpg(run.driver.pid, signal.SIGINT)  # as a terminal does
        assert run.ended() == 130, run.said()[-3000:]
        wait_until(lambda: not run.left_over(), "the end of every process", within_s=at_this_load(ENDS_WITHIN_S))
        assert time.monotonic() - started < at_this_load(ENDS_WITHIN_S)
        assert run.said().rstrip().endswith("interrupted")
        assert "Traceback" not in run.said() and "died" not in run.said()


def break_engine() -> None:
    """Let the engine raise what is nobody's fault but its own."""

    def break_it(server: Any) -> None:
        async def broken(*_: Any, **__: Any) -> None:
            raise RuntimeError("the sampler's table is broken")

        server._engine.generate = broken

    ray.get(actor("engine-0").__ray_call__.remote(break_it))


@pytest.mark.slow
def test_what_an_actor_raises_reaches_the_user_and_ends_everything(
    testbed: Testbed, searching: Path, tmp_path: Path
) -> None:
    others = set(psutil.Process().children(recursive=True))  # helpers of this process live as long as it does
    progress = Does({2: break_engine})
    with pytest.raises(Exception, match="the sampler's table is broken"):
        train(check_config(ray_settings(testbed, searching, steps=50)), tmp_path / "run", progress=progress)
    started = progress.processes - others
    assert started and not ray.is_initialized()
    all_end(started, within_s=at_this_load(ENDS_WITHIN_S) - (time.monotonic() - progress.done_at))


@pytest.mark.slow
def test_what_an_actor_cannot_be_started_with_reaches_the_user(
    testbed: Testbed, searching: Path, tmp_path: Path
) -> None:
    settings = ray_settings(testbed, searching, steps=50, engine={"kind": "transformers", "device": "cuda:7"})
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(Exception, match=r"(?i)cuda"):
        train(check_config(settings), tmp_path / "run")
    assert not ray.is_initialized()
    all_end(set(psutil.Process().children(recursive=True)) - before, within_s=at_this_load(ENDS_WITHIN_S))
