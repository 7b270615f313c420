"""The estimators that TRL has too give the numbers that TRL's own trainers give, missing rewards included."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from numpy.typing import NDArray
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
from trl.trainer.utils import nanstd

from agent.trajectory import Unit
from rewards.score import Scores
from tests.train.fakes import unit_of
from train.credit import load_estimator

FIRST = [1.0, 0.25, None, 0.5, 0.0, 0.0, 1.0, 0.0]
SECOND = [2.0, 1.0, None, None, 0.5, -1.0, 0.25, 0.5]
WEIGHTS = {"first": 1.0, "second": 0.5}
PER_GROUP = 4


@pytest.fixture(scope="module")
def advantages_of_trl(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., NDArray[np.float64]]:
    """Runs TRL's own rollout and scoring on two groups of four, with rewards that are given."""

    def first(completions: list[str], **_: Any) -> list[float | None]:
        return FIRST

    def second(completions: list[str], **_: Any) -> list[float | None]:
        return SECOND

    def run(trainer: Any, config: Any, **settings: Any) -> NDArray[np.float64]:
        rows = [{"prompt": "w1 w2"}] * PER_GROUP + [{"prompt": "w3"}] * PER_GROUP
        arguments = config(
            output_dir=str(tmp_path_factory.mktemp("trl")),
            num_generations=PER_GROUP,
            per_device_train_batch_size=len(rows),
            max_completion_length=2,
            use_cpu=True,
            report_to=[],
            beta=0.0,
            reward_weights=list(WEIGHTS.values()),
            **settings,
        )
        made = trainer(
            model=str(policy), args=arguments, reward_funcs=[first, second], train_dataset=Dataset.from_list(rows)
        )
        made.model.train()
        advantages: torch.Tensor = made._generate_and_score_completions(rows)["advantages"]
        return advantages.double().numpy()

    return run


def ours(name: str, **params: Any) -> NDArray[np.float64]:
    """The same two groups through an estimator; 0 where it yields no row, as TRL does."""
    result = []
    for start in range(0, len(FIRST), PER_GROUP):
        unit = unit_of([1] * PER_GROUP)
        window = slice(start, start + PER_GROUP)
        scores = {"first": scores_of(unit, FIRST[window]), "second": scores_of(unit, SECOND[window])}
        rows = {row.trajectory_id: row.advantages[0] for row in load_estimator(name, **params)(unit, scores, WEIGHTS)}
        result += [rows.get(trajectory.id, 0.0) for trajectory in unit.trajectories]
    return np.array(result)


def scores_of(unit: Unit, values: list[float | None]) -> Scores:
    return Scores.of_outcome(unit, np.array([np.nan if value is None else value for value in values]))


def test_outcome_is_trls_grpo(advantages_of_trl: Callable[..., NDArray[np.float64]]) -> None:
    np.testing.assert_allclose(ours("outcome"), advantages_of_trl(GRPOTrainer, GRPOConfig), atol=1e-5)


def test_outcome_mean_is_trls_grpo_without_scaling(advantages_of_trl: Callable[..., NDArray[np.float64]]) -> None:
    expected = advantages_of_trl(GRPOTrainer, GRPOConfig, scale_rewards="none")
    np.testing.assert_allclose(ours("outcome_mean"), expected, atol=1e-5)


def test_rloo_is_trls_rloo(advantages_of_trl: Callable[..., NDArray[np.float64]]) -> None:
    np.testing.assert_allclose(ours("rloo"), advantages_of_trl(RLOOTrainer, RLOOConfig), atol=1e-5)


def test_turn_normalised_is_trls_gdpo_before_it_normalises_the_batch(
    advantages_of_trl: Callable[..., NDArray[np.float64]],
) -> None:
    """TRL z-scores the weighted sum once more over the batch; an estimator sees one unit, so it leaves that out."""
    expected = advantages_of_trl(GRPOTrainer, GRPOConfig, multi_objective_aggregation="normalize_then_sum")
    summed = torch.from_numpy(ours("turn_normalised"))
    unscored = torch.tensor([a is None and b is None for a, b in zip(FIRST, SECOND, strict=True)])
    kept = summed.masked_fill(unscored, torch.nan)
    again = (kept - kept.nanmean()) / (nanstd(kept) + 1e-4)
    np.testing.assert_allclose(again.nan_to_num(0.0).numpy(), expected, atol=1e-5)
