"""The ratio between learner and sampler: if its figures are wrong, nobody sees a sampler that has drifted away."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.engine import Completion, SamplingParams
from agent.engines.transformers import TransformersEngine
from agent.trajectory import Trajectory
from tests.train.conftest import run_settings
from tests.train.fakes import random_trajectories
from tests.train.test_learner import rows_of
from train.config import check_config
from train.learner import Learner
from train.ratio_metrics import LOG_RATIO_EDGES, log_ratio_histogram, ratio_metrics
from train.run import train
from train.testbed import Testbed
from train.tracking import METRICS_FILE, read_metrics


def aged(member: Trajectory, versions: Sequence[int]) -> Trajectory:
    """The trajectory with one version for each of its turns, the last for the rest."""
    turns = [
        replace(turn, action_versions=(versions[min(i, len(versions) - 1)],) * len(turn.action_ids))
        for i, turn in enumerate(member.turns)
    ]
    return replace(member, turns=tuple(turns))


def as_sampled(learner: Learner, members: list[Trajectory], shift: float) -> list[Trajectory]:
    """The trajectories with the learner's own logprobs, less a shift."""
    rows, known = rows_of(members)
    shifted = []
    for member, scored in zip(members, learner.score(rows, known), strict=True):
        logprobs = np.concatenate([np.zeros(len(member.prompt_ids)), scored - shift])
        place, turns = len(member.prompt_ids), []
        for turn in member.turns:
            end = place + len(turn.action_ids)
            turns.append(replace(turn, action_logprobs=tuple(logprobs[place:end].tolist())))
            place = end + len(turn.observation_ids)
        shifted.append(replace(member, turns=tuple(turns)))
    return shifted


def test_figures_of_numbers_made_by_hand() -> None:
    ratios = np.array([0.5, 1.0, 1.0, 2.0, 4.0, np.nan])
    values = ratio_metrics(np.log(ratios), np.array([0, 0, 1, 1, 1, 1]), cap=2.0)
    assert (values["ratio/tokens"], values["ratio/unknown_tokens"]) == (5, 1)
    assert values["ratio/mean"] == pytest.approx(1.7)
    assert values["ratio/p50"] == pytest.approx(1.0)
    assert values["ratio/p01"] == pytest.approx(0.5 + 0.04 * 0.5)
    assert values["ratio/p99"] == pytest.approx(2.0 + 0.96 * 2.0)
    assert values["ratio/max"] == pytest.approx(4.0)
    assert values["ratio/capped_share"] == pytest.approx(0.2), "what is as large as the cap is not cut"
    assert (values["ratio/age_0/tokens"], values["ratio/age_1/tokens"]) == (2, 3)
    assert values["ratio/age_0/p50"] == pytest.approx(0.75)
    assert values["ratio/age_0/capped_share"] == 0.0
    assert values["ratio/age_1/p50"] == pytest.approx(2.0)
    assert values["ratio/age_1/capped_share"] == pytest.approx(1 / 3)
    assert json.loads(json.dumps(values, allow_nan=False)) == values, "plain JSON"


def test_bins_are_fixed_and_hold_what_lies_beyond_the_outermost() -> None:
    histogram = log_ratio_histogram(np.array([-np.inf, -50.0, -0.3, 0.0, 0.0005, 0.3, 700.0, np.inf]))
    edges, counts = histogram["edges"], histogram["counts"]
    assert edges == list(LOG_RATIO_EDGES) and len(counts) == len(edges) - 1
    by_bin = {(low, high): n for low, high, n in zip(edges, edges[1:], counts, strict=False) if n}
    assert by_bin == {(-10.0, -5.0): 2, (-0.5, -0.2): 1, (-0.001, 0.001): 2, (0.2, 0.5): 1, (5.0, 10.0): 2}


@given(st.lists(st.floats(-20, 20), max_size=60), st.integers(0, 60))
@settings(deadline=None)
def test_histograms_of_parts_add_up_to_that_of_the_whole(logs: list[float], cut: int) -> None:
    whole, left, right = (
        np.array(log_ratio_histogram(np.array(part, dtype=float))["counts"]) for part in (logs, logs[:cut], logs[cut:])
    )
    assert (left + right == whole).all() and whole.sum() == len(logs)


def test_old_ages_are_counted_together_and_no_token_gives_no_figure() -> None:
    values = ratio_metrics(np.zeros(3), np.array([7, 8, 30]), cap=None)
    assert (values["ratio/age_7/tokens"], values["ratio/age_8_or_more/tokens"]) == (1, 2)
    nothing = ratio_metrics(np.zeros(0), np.zeros(0, dtype=np.int64), cap=None)
    assert nothing["ratio/tokens"] == sum(nothing["ratio/histogram"]["counts"]) == 0
    assert set(nothing) == {"ratio/tokens", "ratio/unknown_tokens", "ratio/histogram"}


@pytest.mark.parametrize("options", [{}, {"importance_weight_cap": 1.5}, {"updates_per_batch": 3}])
def test_the_first_update_tells_it_over_all_micro_batches(
    make_learner: Callable[..., Learner], options: dict[str, Any]
) -> None:
    """Also where no weight is applied; of several steps on a batch, before the first."""
    learner = make_learner(**options)
    rows, known = rows_of(as_sampled(learner, random_trajectories(11), 0.5))
    metrics = learner.update(rows, known)
    tokens = sum(int(row.loss_mask.sum()) for row in rows)
    assert metrics["micro_batches"] > 2
    assert metrics["ratio/tokens"] == metrics["tokens"] == tokens
    for name in ("mean", "p01", "p50", "p99", "max"):
        assert metrics[f"ratio/{name}"] == pytest.approx(np.exp(0.5), rel=1e-4)
    assert metrics["ratio/capped_share"] == (1.0 if "importance_weight_cap" in options else 0.0)
    assert sum(metrics["ratio/histogram"]["counts"]) == tokens


def test_tokens_are_told_apart_by_the_age_of_their_version(make_learner: Callable[..., Learner]) -> None:
    learner = make_learner()
    fresh, old = random_trajectories(8, seed=4)[:4], random_trajectories(8, seed=4)[4:]
    members = [aged(t, [5]) for t in as_sampled(learner, fresh, 0.0)]
    members += [aged(t, [2, 3]) for t in as_sampled(learner, old, 1.0)]
    rows, known = rows_of(members)
    metrics = learner.update(rows, known, version=5)
    counts = {age: sum(int((t.versions == 5 - age).sum()) for t in members) for age in (0, 2, 3)}
    assert {age: metrics[f"ratio/age_{age}/tokens"] for age in counts} == counts
    assert metrics["ratio/age_0/p50"] == pytest.approx(1.0, rel=1e-4)
    assert metrics["ratio/age_2/p50"] == pytest.approx(np.e, rel=1e-4)
    assert metrics["ratio/age_3/max"] == pytest.approx(np.e, rel=1e-4)
    assert "ratio/age_1/tokens" not in metrics


def test_the_learner_counts_versions_where_nobody_tells_it(make_learner: Callable[..., Learner]) -> None:
    learner = make_learner(updates_per_batch=2)
    rows, known = rows_of(random_trajectories(4))
    assert "ratio/age_0/tokens" in learner.update(rows, known)
    assert "ratio/age_1/tokens" in learner.update(rows, known), "tokens of version 0 are one update old"


def test_rows_that_are_not_run_have_no_ratio(make_learner: Callable[..., Learner]) -> None:
    learner = make_learner()
    rows, known = rows_of(random_trajectories(4))
    metrics = learner.update([replace(r, advantages=r.advantages * 0) for r in rows], known)
    assert metrics["ratio/tokens"] == 0 and "ratio/p50" not in metrics


@pytest.mark.slow
def test_a_run_whose_sampler_is_off_shows_it_from_the_first_step(
    testbed: Testbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewards = {"even_tokens": {"use": "tests.train.fakes:EvenTokens"}, "exact_match": {"weight": 1.0}}
    config = check_config(run_settings(testbed, rewards=rewards, steps=2))
    train(config, tmp_path / "right")
    generate = TransformersEngine.generate

    async def off(self: TransformersEngine, prompt: Sequence[int], params: SamplingParams, *, key: str) -> Completion:
        completion = await generate(self, prompt, params, key=key)
        return replace(completion, logprobs=tuple(x - 0.3 for x in completion.logprobs))

    monkeypatch.setattr(TransformersEngine, "generate", off)
    train(config, tmp_path / "off")
    for run, ratio in (("right", 1.0), ("off", np.exp(0.3))):
        steps = [line for line in read_metrics(tmp_path / run / METRICS_FILE) if line["step"] > 0]
        assert [line["step"] for line in steps] == [1, 2]
        for line in steps:
            assert line["ratio/p01"] == pytest.approx(ratio, rel=1e-3)
            assert line["ratio/p99"] == pytest.approx(ratio, rel=1e-3)
            assert line["ratio/age_0/tokens"] == line["ratio/tokens"] == sum(line["ratio/histogram"]["counts"]) > 0
