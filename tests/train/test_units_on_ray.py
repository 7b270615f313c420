"""Units that branch are the same units where their episodes are played by workers in other processes."""

from pathlib import Path
from typing import Any

import pytest

from evaluation.trajectory_store import read_trajectories
from tests.train.ray_runs import ray_settings
from tests.train.test_ray_run import first_step
from train.config import check_config
from train.ledger import audit
from train.run import train
from train.testbed import Testbed


@pytest.mark.slow
def test_workers_go_on_from_the_turns_of_episodes_that_others_have_played(
    testbed: Testbed, searching: Path, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"steps": 2, "credit": {"estimator": "branch"}}
    settings = ray_settings(testbed, searching, **changes)
    settings["rollout"] = {"questions_per_step": 2, "unit": {"kind": "branch", "candidates": 3, "eta": 0.1}}
    train(check_config(settings), tmp_path / "ray")
    train(check_config({**settings, "runtime": "local"}), tmp_path / "local")
    for name in ("ray", "local"):
        assert audit(tmp_path / name / "ledger.jsonl", steps=2, units_per_step=2, samples=None) == []
    ray_run, local = (first_step(tmp_path / name) for name in ("ray", "local"))
    assert ray_run.keys() == local.keys()
    assert {name: told for name, (told, _) in ray_run.items()} == {name: told for name, (told, _) in local.items()}
    known = {one.trajectory.id: one.trajectory for one in read_trajectories(tmp_path / "ray" / "trajectories")}
    branches = [t for t in known.values() if t.parent_id is not None]
    assert branches
    for t in branches:
        assert t.turns[: t.fork_turn] == known[t.parent_id or ""].turns[: t.fork_turn]
