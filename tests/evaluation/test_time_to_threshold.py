"""A run that never arrives is censored at what it was given, and never left out."""

import numpy as np
import pytest

from evaluation.time_to_threshold import TimeToThreshold, first_reached, ratio_of_means


def test_the_restricted_mean_is_over_all_runs() -> None:
    times = TimeToThreshold(needed=(None, 100.0, 300.0), given=(500.0, 500.0, 500.0))
    assert times.share_reached == pytest.approx(2 / 3)
    assert times.restricted.tolist() == [500.0, 100.0, 300.0]
    assert times.restricted_mean == 300.0
    low, high = times.interval()
    assert 100.0 <= low < 300.0 < high <= 500.0


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


def test_runs_without_a_number_each_are_refused() -> None:
    with pytest.raises(ValueError, match="one number for each run"):
        TimeToThreshold(needed=(), given=())
    with pytest.raises(ValueError, match="one number for each run"):
        TimeToThreshold(needed=(1.0,), given=(1.0, 2.0))
