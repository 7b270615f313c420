"""A run that never arrives is censored at the limit of all runs, and never left out."""

import math

import numpy as np
import pytest

from evaluation.time_to_threshold import TimeToThreshold, first_reached, ratio_of_means


def test_the_restricted_mean_is_over_all_runs() -> None:
    times = TimeToThreshold(needed=(None, 100.0, 300.0), limit=500)
    assert times.share_reached == pytest.approx(2 / 3)
    assert times.restricted is not None and times.restricted.tolist() == [500.0, 100.0, 300.0]
    assert times.restricted_mean == 300.0
    low, high = times.interval()
    assert 100.0 <= low < 300.0 < high <= 500.0


def test_without_a_limit_nothing_is_told_unless_every_run_arrived() -> None:
    times = TimeToThreshold(needed=(None, 100.0), limit=None)
    assert times.share_reached == 0.5
    assert times.restricted is None and math.isnan(times.restricted_mean)
    assert all(math.isnan(end) for end in times.interval())
    assert TimeToThreshold(needed=(300.0, 100.0), limit=None).restricted_mean == 200.0


def test_first_reached_is_the_first_and_includes_the_threshold() -> None:
    curve = [(0, 0.1), (10, 0.8), (20, 0.5), (30, 0.9)]
    assert first_reached(curve, 0.8) == 10
    assert first_reached(curve, 0.95) is None
    assert first_reached([], 0.1) is None


def test_the_ratio_has_an_interval_around_it() -> None:
    ours, theirs = np.array([1.0, 2.0, 3.0]), np.array([4.0, 4.0])
    ratio, low, high = ratio_of_means(ours, theirs)
    assert ratio == 0.5
    assert 0.25 <= low < 0.5 < high <= 0.75


def test_no_run_and_a_run_past_the_limit_are_refused() -> None:
    with pytest.raises(ValueError, match="needed is empty"):
        TimeToThreshold(needed=(), limit=1)
    with pytest.raises(ValueError, match=r"needed has \[2\.0\], past the limit of 1"):
        TimeToThreshold(needed=(1.0, None, 2.0), limit=1)
