"""A killed run, resumed, must be the run that was not killed: if this fails, nobody can trust --resume."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.numpy import load_file

from evaluation.trajectory_store import read_trajectories
from tests.train.conftest import run_settings
from train.config import check_config
from train.run import train
from train.testbed import Testbed
from train.tracking import METRICS_FILE, WALL_CLOCK_PREFIX, read_metrics


def reproducible(folder: Path) -> list[dict[str, Any]]:
    """A run's metrics without its wall-clock fields."""
    return [
        {k: v for k, v in line.items() if not k.startswith(WALL_CLOCK_PREFIX)}
        for line in read_metrics(folder / METRICS_FILE)
    ]


REWARDS = {"even_tokens": {"use": "tests.train.fakes:EvenTokens"}, "exact_match": {"weight": 1.0}}
"""The policy is too raw to earn anything else, and without a gradient all runs are equal."""


def assert_same_run(resumed: Path, uninterrupted: Path) -> None:
    assert json.dumps(reproducible(resumed)) == json.dumps(reproducible(uninterrupted))
    assert all(line["grad_norm"] > 0 for line in reproducible(resumed)[1:]), "nothing was learned, so nothing is shown"
    a, b = (load_file(folder / "model" / "model.safetensors") for folder in (resumed, uninterrupted))
    assert a.keys() == b.keys()
    assert all((a[name] == b[name]).all() for name in a)


@pytest.mark.parametrize(
    "learner",
    [{}, {"beta": 0.5}, {"peft": {"rank": 4}, "beta": 0.5}],
    ids=["all weights", "against a reference", "adapters against a reference"],
)
def test_going_on_with_more_steps_equals_one_run(testbed: Testbed, tmp_path: Path, learner: dict[str, Any]) -> None:
    """With `beta` the reference must still be the starting policy, with adapters they must not be merged twice."""
    settings = {"rewards": REWARDS, "learner": {"learning_rate": 1e-2, **learner}}
    whole = train(check_config(run_settings(testbed, **settings)), tmp_path / "whole")
    train(check_config(run_settings(testbed, steps=2, **settings)), tmp_path / "parts")
    parts = train(check_config(run_settings(testbed, **settings)), tmp_path / "parts", resume=True)
    assert parts.trajectories == whole.trajectories == 48
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "schedule"),
    [("between steps", "deterministic"), ("during a step", "deterministic"), ("during a step", "eager")],
)
def test_a_run_killed_by_sigkill_goes_on_as_if_nothing_had_happened(
    testbed: Testbed, tmp_path: Path, moment: str, schedule: str
) -> None:
    config = tmp_path / "config.yaml"
    engine = {"kind": "transformers", "schedule": schedule}
    settings = run_settings(testbed, steps=8, checkpoint_every=3, rewards=REWARDS, engine=engine)
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    rng = random.Random(moment)
    kills = 0
    for wanted in (2, 4, 6):
        process = _start(config, tmp_path / "killed")
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and process.poll() is None and _steps_logged(tmp_path / "killed") < wanted:
            time.sleep(0.005)
        if moment == "during a step":
            time.sleep(rng.uniform(0.02, 0.3))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 2, "the run ended before it could be killed; the test has to be made longer"
    assert _start(config, tmp_path / "killed").wait(timeout=300) == 0
    if schedule == "deterministic":
        assert _start(config, tmp_path / "whole").wait(timeout=300) == 0
        assert_same_run(tmp_path / "killed", tmp_path / "whole")
    assert [line["step"] for line in reproducible(tmp_path / "killed")] == list(range(9))
    ids = [stored.trajectory.id for stored in read_trajectories(tmp_path / "killed" / "trajectories")]
    assert len(ids) == len(set(ids)) == 8 * 12, "the ledger: every trajectory accepted exactly once"


def _start(config: Path, out: Path) -> subprocess.Popen[bytes]:
    """The same command for every run: thread counts are part of what makes two runs equal to the bit."""
    command = [sys.executable, "-m", "scripts.train", str(config), "--out", str(out)]
    if (out / "config.yaml").exists():
        command.append("--resume")
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "WAYMARK_THREADS": "1"})


def _steps_logged(folder: Path) -> int:
    path = folder / METRICS_FILE
    return read_metrics(path)[-1]["step"] if path.exists() and path.stat().st_size else 0
