"""Intervals that are too narrow make noise look like a result; these tests pin their width, coverage and edges."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.significance import bootstrap_interval


def test_width_equals_the_normal_interval_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(0.3, 1.0, size=2000)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.004)
    assert high == pytest.approx(values.mean() + half, abs=0.004)


def test_ninety_percent_intervals_hold_the_truth_about_nine_times_in_ten() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for trial in range(200):
        low, high = bootstrap_interval(rng.binomial(1, 0.4, size=120), num_resamples=300, confidence=0.9, seed=trial)
        held += low <= 0.4 <= high
    assert 165 <= held <= 195


def test_nan_is_left_out_before_drawing() -> None:
    clean = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    holes = np.array([np.nan, 0.0, 1.0, np.nan, 1.0, 0.0, 1.0])
    assert bootstrap_interval(holes) == bootstrap_interval(clean)


def test_no_value_is_nan_and_one_value_has_no_width() -> None:
    assert all(math.isnan(end) for end in bootstrap_interval([]))
    assert all(math.isnan(end) for end in bootstrap_interval([math.nan]))
    assert bootstrap_interval([0.25]) == (0.25, 0.25)


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).random(50)
    whole = bootstrap_interval(values, num_resamples=400)
    monkeypatch.setattr("evaluation.significance._MAX_DRAWN_VALUES", 50 * 7)
    assert bootstrap_interval(values, num_resamples=400) == whole


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40), st.sampled_from(["mean", "median"]))
@settings(deadline=None, max_examples=40)
def test_the_interval_stays_inside_the_values(values: list[float], statistic: str) -> None:
    low, high = bootstrap_interval(values, statistic=statistic, num_resamples=50)  # type: ignore[arg-type]
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"statistic": "max"}, "use 'mean' or 'median'"),
        ({"num_resamples": 0}, "at least 1"),
        ({"confidence": 95}, "between 0 and 1"),
    ],
)
def test_bad_settings_say_what_is_allowed(settings_: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_interval([0.0, 1.0], **settings_)  # type: ignore[arg-type]


def test_infinite_and_two_dimensional_values_are_refused() -> None:
    with pytest.raises(ValueError, match="infinite"):
        bootstrap_interval([1.0, math.inf])
    with pytest.raises(ValueError, match="one dimension"):
        bootstrap_interval(np.zeros((2, 2)))
