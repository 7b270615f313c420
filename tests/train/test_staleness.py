"""Rollouts ahead of the learner: at staleness 0 they are the synchronous loop to the bit, above it their age has a
bound, is recorded and weighed. If this fails, nobody knows which policy the gradient is of.
"""

import asyncio
import json
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from agent.engines.opening import open_engine
from agent.trajectory import Trajectory, Unit
from envs.actor import EngineActor, stable_seed
from envs.episode import EpisodeSpec
from envs.episode_pool import run_episodes
from evaluation.trajectory_store import read_trajectories
from retrieval.batcher import MicroBatcher
from tests.train.conftest import run_settings
from tests.train.ray_runs import ray_settings, whole
from train.assembly import assemble
from train.config import TrainConfig, check_config
from train.learner import Learner
from train.question_order import QuestionOrder
from train.run import train
from train.step_metrics import rollout_metrics
from train.testbed import Testbed
from train.tracking import METRICS_FILE, WALL_CLOCK_PREFIX, read_metrics

ALL_DIFFER = {"even_tokens": {"use": "tests.train.fakes:EvenTokens"}, "exact_match": {"weight": 1.0}}
STEPS = 5


def plain_settings(testbed: Testbed, **changes: Any) -> dict[str, Any]:
    defaults = {"steps": STEPS, "cold_start": None, "evaluate_every": 0, "rewards": ALL_DIFFER}
    return run_settings(testbed, **{**defaults, "learner": {"learning_rate": 1e-2}, **changes})


async def plain_loop(config: TrainConfig, folder: Path) -> tuple[list[Trajectory], list[dict[str, Any]]]:
    """The algorithm without doors, ledgers and threads: sample, score, credit, step, weights; nothing overlaps."""
    everything, metrics = [], []
    with assemble(config) as parts:
        settings = config.learner.model_copy(update={"seed": config.seed})
        learner = Learner.create(
            config.policy.model, parts.tokenizer, settings, folder / "learner", total_steps=config.steps
        )
        engine = open_engine(config.engine, config.policy.model, purpose="rollouts", dtype=config.engine_dtype)
        batcher = MicroBatcher(parts.index, **config.retrieval.model_dump())
        per_step, samples = config.rollout.questions_per_step, config.rollout.samples_per_question
        order = QuestionOrder(parts.train_questions, seed=config.seed)
        for step in range(config.steps):
            engine.update_weights(learner.named_weights(), step)
            specs = [
                EpisodeSpec(
                    id=f"step{step:06d}-unit{place:03d}-sample{sample:02d}",
                    question=order[step * per_step + place],
                    unit_id=f"step{step:06d}-unit{place:03d}",
                    group_id=f"step{step:06d}-unit{place:03d}",
                    sample=sample,
                    seed=stable_seed(config.seed, step, place, sample),
                )
                for place in range(per_step)
                for sample in range(samples)
            ]
            played = await run_episodes(
                specs,
                actor=EngineActor(engine, temperature=config.rollout.temperature),
                search=batcher.search,
                protocol=parts.protocol,
                tokenizer=parts.tokenizer,
                limits=config.limits,
            )
            groups = [played[i : i + samples] for i in range(0, len(played), samples)]
            units = [Unit(kind="group", trajectories=tuple(group)) for group in groups]
            scores = [parts.rewards.score(unit, parts.questions_by_id) for unit in units]
            rows = [
                row
                for unit, of_unit in zip(units, scores, strict=True)
                for row in parts.estimator(unit, of_unit, parts.rewards.weights)
            ]
            learned = learner.update(rows, {t.id: t for t in played}, config.rollout.temperature, version=step)
            learned.pop("seconds")
            everything += played
            metrics.append(rollout_metrics(units, scores, parts.questions_by_id, version=step) | learned)
        await batcher.close()
        await engine.close()
        learner.save_model_folder(folder / "model")
    return everything, metrics


def test_at_staleness_0_the_run_is_the_synchronous_loop_bit_for_bit(testbed: Testbed, tmp_path: Path) -> None:
    config = check_config(plain_settings(testbed))
    played, metrics = asyncio.run(plain_loop(config, tmp_path / "plain"))
    train(config, tmp_path / "run")
    stored = {one.trajectory.id: one.trajectory for one in read_trajectories(tmp_path / "run" / "trajectories")}
    assert len(stored) == len(played) == STEPS * config.trajectories_per_step
    for expected in played:
        assert told(stored[expected.id]) == told(expected)
    logged = [line for line in read_metrics(tmp_path / "run" / METRICS_FILE) if line["step"]]
    for expected, line in zip(metrics, logged, strict=True):
        assert json.dumps({name: line.get(name) for name in expected}) == json.dumps(expected)
        beyond = {name.split("/")[0] for name in line.keys() - expected.keys()}
        assert beyond <= {"step", "trajectories", "groups", "watch", "update", WALL_CLOCK_PREFIX.rstrip("/")}, beyond
        assert line["grad_norm"] > 0, "nothing was learned, so nothing is shown"
    a, b = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("plain", "run"))
    assert a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def told(trajectory: Trajectory) -> tuple:
    return (
        trajectory.question_id,
        trajectory.unit_id,
        trajectory.sample,
        trajectory.prompt_ids,
        trajectory.finish_reason,
        [
            (turn.action_ids, turn.action_logprobs, turn.action_versions, turn.observation_ids)
            for turn in trajectory.turns
        ],
    )


def ahead(max_staleness: int, cap: float) -> dict[str, Any]:
    return {
        "rollout": {"questions_per_step": 2, "samples_per_question": 4, "max_staleness": max_staleness},
        "learner": {"learning_rate": 3e-4, "importance_weight_cap": cap},
    }


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["local", "ray"])
def test_rollouts_ahead_are_never_older_than_allowed_and_are_weighed(
    testbed: Testbed, searching: Path, tmp_path: Path, runtime: str
) -> None:
    steps, cap, at_most = 10, 1.002, 2
    changes = {"steps": steps, "rewards": ALL_DIFFER, **ahead(at_most, cap)}
    make = plain_settings if runtime == "local" else partial(ray_settings, model=searching)
    settings = make(testbed, **changes)
    train(check_config(settings), tmp_path / "run")
    assert whole(tmp_path / "run", settings, max_staleness=at_most) == []
    ages: dict[int, Counter[int]] = defaultdict(Counter)
    for stored in read_trajectories(tmp_path / "run" / "trajectories"):
        for turn in stored.trajectory.turns:
            assert len(turn.action_versions) == len(turn.action_ids)
            ages[stored.step].update(stored.step - 1 - version for version in turn.action_versions)
    assert all(0 <= age <= at_most for of_step in ages.values() for age in of_step)
    assert any(age > 0 for of_step in ages.values() for age in of_step), "nothing ran ahead: nothing is shown"
    logged = [line for line in read_metrics(tmp_path / "run" / METRICS_FILE) if line["step"]]
    for line in logged:
        of_step = ages[line["step"]]
        assert line["staleness/max"] == max(of_step)
        assert {age: line[f"ratio/age_{age}/tokens"] for age in of_step} == of_step
        assert sum(line["ratio/histogram"]["counts"]) == line["ratio/tokens"] == of_step.total()
        assert line["importance_weight_mean"] <= cap, "weights are truncated"
    assert any(line["ratio/max"] > cap and line["importance_weight_mean"] < line["ratio/mean"] for line in logged)
