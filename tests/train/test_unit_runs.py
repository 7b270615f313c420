"""Training runs over units of every kind: equal after a resume, booked to the last trajectory, ended by budget."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.trajectory import Trajectory
from envs.question import Question
from evaluation.trajectory_store import read_trajectories
from rewards.reward import RewardContext
from tests.train.conftest import run_settings
from tests.train.fakes import EvenTokens
from tests.train.test_resume import assert_same_run
from train.config import check_config
from train.ledger import audit
from train.run import train
from train.testbed import Testbed
from train.tracking import METRICS_FILE, read_metrics

REWARDS = {"even_tokens": {"use": "tests.train.fakes:EvenTokens"}, "exact_match": {"weight": 1.0}}
UNITS: dict[str, tuple[dict[str, Any], str]] = {
    "paraphrase_set": ({"kind": "paraphrase_set", "wordings": 2, "samples_per_wording": 2}, "outcome"),
    "branch": ({"kind": "branch", "candidates": 3}, "branch"),
    "branch, winners retrieve": ({"kind": "branch", "candidates": 2, "retrieve": "winner"}, "branch"),
    "refine": ({"kind": "refine", "component": "even_tokens", "seeds": 2, "bad_below": 0.6}, "branch"),
    "tree": ({"kind": "tree", "leaves": 4, "roots": 2}, "tree"),
}


class SlowEvenTokens(EvenTokens):
    """The same after a time that nobody can foresee."""

    def __init__(self, context: RewardContext) -> None:
        super().__init__(context)
        self._pauses = np.random.default_rng()

    def turns(self, trajectory: Trajectory, question: Question) -> np.ndarray:
        time.sleep(self._pauses.uniform(0, 0.002))
        return super().turns(trajectory, question)


def settings(testbed: Testbed, searching: Path, unit: dict[str, Any], estimator: str, **changes: Any) -> dict[str, Any]:
    return run_settings(
        testbed,
        policy={"model": str(searching)},
        cold_start=None,
        rollout={"questions_per_step": 2, "unit": unit},
        credit={"estimator": estimator},
        learner={"learning_rate": 1e-2},
        **{"rewards": REWARDS, "steps": 3, "evaluate_every": 0, **changes},
    )


@pytest.mark.parametrize("name", UNITS)
def test_a_run_over_units_is_booked_and_its_resume_is_the_same_run(
    testbed: Testbed, searching: Path, tmp_path: Path, name: str
) -> None:
    unit, estimator = UNITS[name]
    slow = {**REWARDS, "even_tokens": {"use": "tests.train.test_unit_runs:SlowEvenTokens"}}
    whole = settings(testbed, searching, unit, estimator)
    parts = settings(testbed, searching, unit, estimator, rewards=slow)
    result = train(check_config(whole), tmp_path / "whole")
    train(check_config({**parts, "steps": 2}), tmp_path / "parts")
    again = train(check_config(parts), tmp_path / "parts", resume=True)
    assert again.trajectories == result.trajectories
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    samples = 4 if name in ("paraphrase_set", "tree") else None
    for folder in ("whole", "parts"):
        assert audit(next((tmp_path / folder).rglob("ledger.jsonl")), steps=3, units_per_step=2, samples=samples) == []
    stored = [t for record in read_trajectories(tmp_path / "whole" / "trajectories") for t in [record.trajectory]]
    known = {t.id: t for t in stored}
    branches = [t for t in stored if t.parent_id is not None]
    assert bool(branches) == (name != "paraphrase_set")
    for t in branches:
        parent = known[t.parent_id]
        assert t.turns[: t.fork_turn] == parent.turns[: t.fork_turn]
    figures = read_metrics(tmp_path / "whole" / METRICS_FILE)
    assert figures[-1]["trajectories"] == result.trajectories
    if name == "paraphrase_set":
        assert result.trajectories == 3 * 2 * 4 and {t.view for t in stored} == {0, 1}
    elif name.startswith("branch"):
        assert result.trajectories == 3 * 2 * unit["candidates"], "k candidates a step cost k episodes"
    else:
        assert result.trajectories <= len(stored)


def test_a_run_ends_with_the_step_that_reaches_its_budget_and_a_resume_adds_nothing(
    testbed: Testbed, searching: Path, tmp_path: Path
) -> None:
    config = settings(testbed, searching, {"kind": "group"}, "turn", steps=6, max_trajectories=17)
    config["rollout"]["samples_per_question"] = 4
    result = train(check_config(config), tmp_path / "run")
    assert (result.steps, result.trajectories) == (3, 24), "two steps have 16, the third reaches 17"
    lines = read_metrics(tmp_path / "run" / METRICS_FILE)
    assert [line["trajectories"] for line in lines] == [8, 16, 24]
    again = train(check_config(config), tmp_path / "run", resume=True)
    assert (again.steps, again.trajectories) == (3, 24)
    assert len(read_metrics(tmp_path / "run" / METRICS_FILE)) == 3
    more = train(check_config({**config, "max_trajectories": 32}), tmp_path / "run", resume=True)
    assert (more.steps, more.trajectories) == (4, 32)


def test_what_is_sampled_for_nothing_counts_against_the_budget(
    testbed: Testbed, searching: Path, tmp_path: Path
) -> None:
    config = settings(testbed, searching, {"kind": "group"}, "turn", steps=2)
    config["rollout"].update(samples_per_question=4, zero_variance="resample", max_resampled=200)
    config["rewards"] = {"sometimes": {"use": "tests.train.test_unit_runs:Sometimes"}}
    train(check_config(config), tmp_path / "run")
    for line in read_metrics(tmp_path / "run" / METRICS_FILE):
        assert line["trajectories"] == 4 * (line["groups/rejected"] + 2 * line["step"])
    assert line["groups/rejected"] > 0
    state = json.loads((tmp_path / "run" / "checkpoints" / "step-000002" / "state.json").read_text())
    assert state["trajectories"] == state["admission"]["spent"] == line["trajectories"]


class Sometimes(EvenTokens):
    """Says nothing that differs about every second question."""

    def turns(self, trajectory: Trajectory, question: Question) -> np.ndarray:
        scores = super().turns(trajectory, question)
        return scores if trajectory.unit_id[-1] in "02468" else np.zeros_like(scores)


def test_evaluations_compare_wordings_where_that_is_asked_for(
    testbed: Testbed, searching: Path, tmp_path: Path
) -> None:
    config = settings(testbed, searching, {"kind": "group"}, "turn", steps=1, evaluate_every=1, evaluate_wordings=2)
    train(check_config(config), tmp_path / "run")
    for line in read_metrics(tmp_path / "run" / METRICS_FILE):
        assert line["dev/consistency_n"] == 8 and line["dev/consistency_wordings"] == 2
        assert 0 <= line["dev/consistency_end_to_end_low"] <= line["dev/consistency_end_to_end_high"] <= 1
        assert 0 <= line["dev/consistency_generator"] <= 1
