"""Intervals must cover what they promise, and tests must not cry wolf: both are simulated here."""

import numpy as np
import pytest

from evaluation.paired import paired_randomisation
from evaluation.paired_resampling import (
    bootstrap_estimates,
    bootstrap_summary,
    interval_over_sets,
    randomisation_estimates,
    randomisation_p,
)

NAN = float("nan")


def test_bootstrap_agrees_with_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(1).normal(0.3, 1.0, size=80)
    mine = bootstrap_summary(bootstrap_estimates(values[:, None], num_resamples=4000)[:, 0], values.mean())
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_randomisation_agrees_with_the_one_measure_at_a_time() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.random((2, 60))
    differences = np.stack([first - second, rng.normal(0, 1, 60)], axis=1)
    estimates = randomisation_estimates(differences, num_resamples=20_000)
    p = randomisation_p(estimates[:, 0], differences[:, 0].mean())
    assert p == pytest.approx(paired_randomisation(first, second, num_resamples=20_000), abs=0.015)


def test_intervals_cover_the_truth_and_false_alarms_are_rare() -> None:
    rng = np.random.default_rng(4)
    covered, alarms_bootstrap, alarms_randomisation, rounds = 0, 0, 0, 200
    for seed in range(rounds):
        true = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.7, 0.2], size=(150, 1))
        summary = bootstrap_summary(bootstrap_estimates(true, num_resamples=400, seed=seed)[:, 0], true.mean())
        covered += summary.low <= 0.1 <= summary.high
        null = rng.choice([-1.0, 0.0, 1.0], p=[0.15, 0.7, 0.15], size=(150, 1))
        estimates = bootstrap_estimates(null, num_resamples=400, seed=seed)[:, 0]
        alarms_bootstrap += bootstrap_summary(estimates, null.mean()).p < 0.05
        flipped = randomisation_estimates(null, num_resamples=400, seed=seed)[:, 0]
        alarms_randomisation += randomisation_p(flipped, null.mean()) < 0.05
    # 200 rounds: a 95 % interval covers 190 on average, standard deviation 3; limits lie 4 to 5 of those away.
    assert 176 <= covered <= 200
    assert alarms_bootstrap <= 24
    assert alarms_randomisation <= 22


def test_what_does_not_apply_leaves_its_own_measure_alone() -> None:
    differences = np.array([[1.0, NAN], [0.0, 0.5], [1.0, NAN], [0.0, 0.5]])
    estimates = bootstrap_estimates(differences, num_resamples=500)
    assert np.nanmean(estimates[:, 0]) == pytest.approx(0.5, abs=0.05)
    assert set(estimates[~np.isnan(estimates[:, 1]), 1].round(12)) == {0.5}
    flipped = randomisation_estimates(differences, num_resamples=500)
    assert set(np.abs(flipped[:, 1]).round(12)) == {0.0, 0.5}


def test_equal_seeds_give_equal_estimates_and_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(5).normal(size=(37, 3))
    first = bootstrap_estimates(differences, num_resamples=50, seed=7)
    assert np.array_equal(first, bootstrap_estimates(differences, num_resamples=50, seed=7))
    assert not np.array_equal(first, bootstrap_estimates(differences, num_resamples=50, seed=8))
    monkeypatch.setattr("evaluation.paired_resampling._BLOCK_VALUES", 100)
    assert np.array_equal(first, bootstrap_estimates(differences, num_resamples=50, seed=7))


def test_the_interval_over_sets_draws_each_set_for_itself() -> None:
    """Two sets of one size with the same values: drawn alike, their mean would be as uncertain as one of them."""
    values = np.random.default_rng(6).normal(size=(400, 2))
    values[:, 1] = NAN
    one = interval_over_sets([values])
    two = interval_over_sets([values, values])
    width = (two[0, 1] - two[0, 0]) / (one[0, 1] - one[0, 0])
    assert width == pytest.approx(np.sqrt(0.5), abs=0.08)
    assert two[0, 0] < values[:, 0].mean() < two[0, 1]
    assert np.isnan(two[1]).all()
    with pytest.raises(ValueError, match="no question set"):
        interval_over_sets([])


def test_no_difference_is_no_evidence() -> None:
    zeros = np.zeros((10, 1))
    assert randomisation_p(randomisation_estimates(zeros, num_resamples=20)[:, 0], 0.0) == 1.0
    assert bootstrap_summary(bootstrap_estimates(zeros, num_resamples=20)[:, 0], 0.0) == (0.0, 0.0, 1.0)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="not empty"):
        bootstrap_estimates(np.zeros(3))
    with pytest.raises(ValueError, match="num_resamples is 0"):
        randomisation_estimates(np.zeros((3, 1)), num_resamples=0)
    with pytest.raises(ValueError, match="confidence is 1"):
        bootstrap_summary(np.zeros(3), 0.0, confidence=1)
