"""A test that calls noise a result, or misses a plain one, makes every table beside it worthless."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evaluation.paired import holm, paired_randomisation, paired_tests


def test_few_differences_are_counted_exactly() -> None:
    # Of 2^3 sign patterns of (1, 2, 4) only the two that are all equal reach 7.
    assert paired_randomisation([1, 2, 4, 9], [0, 0, 0, 9]) == 2 / 8
    # 5 against 1: the patterns with at most one sign against the rest, on either side, (1 + 6) * 2 of 2^6.
    assert paired_randomisation([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1]) == 14 / 64
    assert paired_randomisation([0.5, 0.5], [0.5, 0.5]) == 1.0


def test_it_agrees_with_scipy_on_real_valued_differences() -> None:
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.2, 0.5):
        first, second = rng.normal(shift, 1, size=60), rng.normal(0, 1, size=60)
        theirs = stats.permutation_test(
            (first, second),
            lambda x, y, axis: np.abs(np.mean(x - y, axis=axis)),
            permutation_type="samples",
            alternative="greater",
            vectorized=True,
            n_resamples=10_000,
            rng=1,
        ).pvalue
        assert paired_randomisation(first, second) == pytest.approx(theirs, abs=0.015)


def test_noise_is_called_a_result_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(3)
    hits = rng.binomial(1, 0.4, size=(300, 2, 80))
    called = sum(paired_randomisation(a, b, num_resamples=400) <= 0.05 for a, b in hits)
    assert called <= 25, "5 % of 300 are 15; 25 is three standard errors above"


def test_the_pairing_finds_what_unpaired_means_would_hide() -> None:
    hard = np.random.default_rng(5).random(200)
    assert paired_randomisation(hard + 0.01, hard) < 0.001


def test_sides_and_seeds() -> None:
    rng = np.random.default_rng(6)
    first, second = rng.random(50), rng.random(50)
    assert paired_randomisation(first, second) == paired_randomisation(second, first)
    assert paired_randomisation(first, second, seed=1) == paired_randomisation(first, second, seed=1)
    assert paired_randomisation([1.0] * 100, [0.0] * 100, num_resamples=99) == 0.01, "never 0"


def test_blocks_do_not_lose_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    first, second = rng.random(50), rng.random(50) + 0.1
    whole = paired_randomisation(first, second, num_resamples=1000)
    monkeypatch.setattr("evaluation.paired._BLOCK_BYTES", 8 * 50 * 7)
    assert paired_randomisation(first, second, num_resamples=1000) == pytest.approx(whole, abs=0.02)


def test_holm_worked_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([math.nan])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_and_only_raises(values: list[float]) -> None:
    corrected = holm(values)
    assert all(value <= after <= 1 for value, after in zip(values, corrected, strict=True))
    order = np.argsort(values, kind="stable")
    assert (np.diff(np.asarray(corrected)[order]) >= 0).all()
    if values:
        assert min(corrected) == pytest.approx(min(1.0, len(values) * min(values)))


def test_every_pair_by_every_measure_in_one_family() -> None:
    good, bad = np.ones(40), np.zeros(40)
    values = {"a": {"x": good, "y": good}, "b": {"x": good, "y": bad}, "c": {"x": bad, "y": bad}}
    tests = paired_tests(values, ["x", "y"], num_resamples=999)
    assert [(test.first, test.second, test.measure) for test in tests] == [
        (a, b, m) for m in "xy" for a, b in (("a", "b"), ("a", "c"), ("b", "c"))
    ]
    same, different = tests[0], tests[1]
    assert (same.difference, same.p, same.p_holm) == (0.0, 1.0, 1.0)
    assert (different.difference, different.low, different.high) == (1.0, 1.0, 1.0)
    assert different.p == pytest.approx(0.001) and different.p_holm == pytest.approx(0.006), "six tests, one family"
    [alone] = paired_tests(values, ["x"], pairs=[("a", "c")], num_resamples=999)
    assert alone.p_holm == alone.p == different.p, "what is not tested corrects nothing"


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([1, 2], [1], "same questions"),
        ([], [], "no question"),
        ([math.nan], [1], "NaN"),
        ([[1]], [[1]], "same questions"),
    ],
)
def test_values_that_do_not_pair_are_refused(first: list, second: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_randomisation(first, second)
    with pytest.raises(ValueError, match="num_resamples is 0"):
        paired_randomisation([1], [0], num_resamples=0)
