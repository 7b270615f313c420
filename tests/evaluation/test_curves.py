"""Curves are what claims are read from: points, medians and intervals must be those of the metrics that were logged."""

import pytest

from evaluation.curves import curve_from_metrics, interval_meaning, median_curve, median_series, metric_series
from evaluation.report_parts import Arm, CurvePoint, SeedRun


def test_points_are_where_the_metric_was_measured() -> None:
    metrics = [
        {"step": 20, "trajectories": 1920, "dev/em": 0.5, "dev/em_low": 0.4, "dev/em_high": 0.6},
        {"step": 10, "trajectories": 960, "dev/em": 0.25},
        {"step": 15, "trajectories": 1440, "em": 0.3},
    ]
    assert curve_from_metrics(metrics) == (
        CurvePoint(trajectories=960, value=0.25, step=10),
        CurvePoint(trajectories=1920, value=0.5, low=0.4, high=0.6, step=20),
    )
    assert metric_series(metrics, "em") == [(1440, 0.3)]
    assert metric_series([{"step": 3, "em": 1.0}, {"step": 4, "em": float("nan")}], "em") == [(3, 1.0)]


def test_the_median_of_seeds_has_intervals_over_seeds() -> None:
    runs = [
        SeedRun(seed=s, curve=[CurvePoint(trajectories=0, value=v), CurvePoint(trajectories=5, value=1.0)])
        for s, v in enumerate([0.1, 0.2, 0.9])
    ]
    first, last = median_curve(runs)
    assert first.value == 0.2
    assert (first.low, first.high) == (0.1, 0.9)
    assert (last.value, last.low, last.high) == (1.0, 1.0, 1.0)
    assert median_series([[(0, 1.0), (1, 2.0)], [(0, 3.0)]]) == [(0, 2.0)]
    assert median_series([]) == []
    assert median_curve([]) == ()


@pytest.mark.parametrize(
    ("seeds", "words"), [(1, "intervals over questions: one seed"), (5, "median over 5 seeds"), (0, "over questions.")]
)
def test_what_the_bands_mean_is_said(seeds: int, words: str) -> None:
    runs = [SeedRun(seed=s, curve=[CurvePoint(trajectories=0, value=0.5)]) for s in range(seeds)]
    assert words in interval_meaning([Arm(name="a", seeds=runs)] if runs else [])
