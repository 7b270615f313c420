"""Gates, schedules and the product in real runs: what is learnt from follows the step taken, after a resume too."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.trajectory import Trajectory
from envs.question import Question
from evaluation.trajectory_store import read_trajectories
from rewards.compose import RewardTerm, build_rewards
from rewards.reward import RewardContext
from tests.train.conftest import run_settings
from tests.train.fakes import EvenTokens
from tests.train.test_judge import QUESTIONS, unit
from tests.train.test_judge_outage import FlakyJudge
from tests.train.test_resume import assert_same_run, reproducible
from train.checkpoint import list_checkpoints, read_state
from train.config import check_config
from train.config_file import ConfigError
from train.credit import load_estimator
from train.judge import UnitJudge
from train.outage import RolloutFailure
from train.progress import Progress
from train.run import train
from train.testbed import Testbed

EVEN = {"use": "tests.train.fakes:EvenTokens"}
FADING = {**EVEN, "weight": 0.5, "schedule": {"kind": "linear", "end": 0.2, "steps": 4}}
REWARDS = {
    "fading": FADING,
    "even": {**EVEN, "weight": 0.3, "gate": "em_first"},
    "exact_match": {"weight": 1.0},
}


class AFewEvenTokens(EvenTokens):
    """So little a turn that the sum over an episode stays below 1, where the product clips it."""

    def turns(self, trajectory: Trajectory, question: Question) -> NDArray[np.float64]:
        return super().turns(trajectory, question) / 10


def test_a_resumed_run_goes_on_with_the_weights_of_its_step(testbed: Testbed, tmp_path: Path) -> None:
    settings = {"rewards": REWARDS, "learner": {"learning_rate": 1e-2}}
    whole = train(check_config(run_settings(testbed, **settings)), tmp_path / "whole")
    train(check_config(run_settings(testbed, steps=2, **settings)), tmp_path / "parts")
    train(check_config(run_settings(testbed, **settings)), tmp_path / "parts", resume=True)
    assert whole.steps == 4
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    lines = reproducible(tmp_path / "parts")[1:]
    assert [line["rewards/fading/schedule"] for line in lines] == pytest.approx([1.0, 0.8, 0.6, 0.4])
    for line in lines:
        weight = 0.5 * line["rewards/fading/schedule"]
        assert line["rewards/fading/weighted_mean"] == pytest.approx(weight * line["rewards/fading/mean"])
        assert 0 <= line["rewards/even/gate_open"] <= 1
        assert "rewards/exact_match/gate_open" not in line and "rewards/even/schedule" not in line
    assert read_state(list_checkpoints(tmp_path / "parts")[-1]).rewards["step"] == 4


def test_every_component_is_stored_raw_and_weighted_per_turn_and_per_trajectory(
    testbed: Testbed, tmp_path: Path
) -> None:
    train(check_config(run_settings(testbed, steps=2, evaluate_every=0, rewards=REWARDS)), tmp_path / "run")
    stored = list(read_trajectories(tmp_path / "run" / "trajectories"))
    assert len(stored) == 24
    for one in stored:
        extra: dict[str, Any] = dict(one.extra)
        factor = 0.5 * (1.0 if one.step == 1 else 0.8)
        raw, weighted = extra["rewards"], extra["weighted"]
        assert set(raw) == set(weighted) == set(REWARDS)
        assert weighted["fading"]["turn"] == pytest.approx([factor * value for value in raw["fading"]["turn"]])
        is_open = raw["exact_match"]["outcome"] == 0
        assert weighted["even"]["turn"] == pytest.approx([0.3 * is_open * value for value in raw["even"]["turn"]])
        total = sum(sum(weighted[name]["turn"]) for name in ("fading", "even")) + weighted["exact_match"]["outcome"]
        assert extra["reward"] == pytest.approx(total)


def test_a_run_on_the_product_learns_from_it_and_logs_its_parts(testbed: Testbed, tmp_path: Path) -> None:
    composition = {"combine": "gated_product", "bottom_line": ["format"], "smoothing": 0.1}
    rewards = {"format": {}, "even": {"use": f"{__name__}:AFewEvenTokens"}, "exact_match": {"weight": 2.0}}
    settings = run_settings(testbed, steps=1, evaluate_every=0, rewards=rewards, composition=composition)
    train(check_config({**settings, "credit": {"estimator": "outcome"}}), tmp_path / "run")
    line = reproducible(tmp_path / "run")[-1]
    assert line["grad_norm"] > 0
    assert {"rewards/format/mean", "rewards/even/mean", "rewards/gated_product/mean"} <= line.keys()
    extra: dict[str, Any] = dict(next(iter(read_trajectories(tmp_path / "run" / "trajectories"))).extra)
    assert extra["reward"] == pytest.approx(extra["rewards"]["gated_product"]["outcome"])


def test_a_group_scored_ahead_is_learnt_from_with_the_weights_of_the_step_that_takes_it() -> None:
    terms = {"tests.train.test_judge:FirstToken": RewardTerm(schedule={"kind": "linear", "steps": 4})}  # type: ignore[arg-type]
    rewards = build_rewards(terms, RewardContext(passage=lambda id: None, corpus=lambda: None))
    judge = UnitJudge(rewards, load_estimator("outcome_mean"), QUESTIONS)
    assert judge.teaches(unit(1, 3)) and judge.teaches(unit(1, 3))
    rewards.advance()
    rewards.advance()
    late = judge.judge(unit(1, 3))
    assert [row.advantages[0] for row in late.rows] == [-0.5, 0.5], "half the weight, however early it was scored"
    rewards.advance()
    assert [row.advantages[0] for row in judge.judge(unit(1, 3)).rows] == [-0.25, 0.25]
    assert np.array_equal(late.raw["tests.train.test_judge:FirstToken"].turn[1], [3.0])


def test_what_may_change_on_resume(testbed: Testbed, tmp_path: Path) -> None:
    share = {"fading": {**FADING, "schedule": {"kind": "linear", "end": 0.2, "share": 1.0}}}
    base = {"evaluate_every": 0, "composition": {"judge_window": 50}}
    train(check_config(run_settings(testbed, steps=1, rewards=share, **base)), tmp_path / "run")
    with pytest.raises(ConfigError, match="steps: was 1, now 2"):
        train(check_config(run_settings(testbed, steps=2, rewards=share, **base)), tmp_path / "run", resume=True)
    steeper = {"fading": {**share["fading"], "weight": 0.4}}
    with pytest.raises(ConfigError, match=r"rewards\.fading\.weight: was 0\.5, now 0\.4"):
        train(check_config(run_settings(testbed, steps=1, rewards=steeper, **base)), tmp_path / "run", resume=True)
    base["composition"] = {"judge_window": 70, "max_judge_failure_share": 0.5}
    assert train(check_config(run_settings(testbed, steps=1, rewards=share, **base)), tmp_path / "run", resume=True)
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 1


class Breaking(EvenTokens):
    """A reward that asks a judge, which fails every request from its 13th on while `is_broken`."""

    is_broken = True

    def __init__(self, context: RewardContext) -> None:
        super().__init__(context)
        self.judge = FlakyJudge()

    def turns(self, trajectory: Trajectory, question: Question) -> NDArray[np.float64]:
        self.judge.failures = int(Breaking.is_broken and self.judge.asked >= 12)
        return super().turns(trajectory, question) * (np.nan if self.judge.ask(1) else 1.0)


def test_a_run_whose_judge_fails_pauses_ends_and_goes_on(testbed: Testbed, tmp_path: Path) -> None:
    rewards = {"even": EVEN, "breaking": {"use": f"{__name__}:Breaking"}}
    settings = run_settings(testbed, steps=3, evaluate_every=0, rewards=rewards)
    settings["rollout"] = {**settings["rollout"], "outage_patience_s": 0.3}
    config, told = check_config(settings), Told()
    Breaking.is_broken = True
    with pytest.raises(RolloutFailure, match=r"step 1: 12 of the newest 12 requests.*then go on .train: --resume"):
        train(config, tmp_path / "run", progress=told)
    assert [line.split(":")[0] for line in told.stages if line.startswith("paused")] == ["paused"]
    assert [line["step"] for line in reproducible(tmp_path / "run")] == [1], "what fails is not learnt from"
    Breaking.is_broken = False
    assert train(config, tmp_path / "run", resume=True).steps == 3
    lines = reproducible(tmp_path / "run")
    assert [(line["judge/asked"], line["judge/failed"], line["judge/cost"]) for line in lines] == [(12, 0, 6.0)] * 3


class Told(Progress):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, text: str) -> None:
        self.stages.append(text)
