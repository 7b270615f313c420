"""The exact test must be exact: equal to the binomial test, and to counting every pattern of signs."""

import numpy as np
import pytest

from evaluation.mcnemar import mcnemar_exact
from evaluation.paired import paired_randomisation


def _columns(both: int, first_only: int, second_only: int, neither: int) -> tuple[list[float], list[float]]:
    first = [1.0] * (both + first_only) + [0.0] * (second_only + neither)
    second = [1.0] * both + [0.0] * first_only + [1.0] * second_only + [0.0] * neither
    return first, second


@pytest.mark.parametrize(
    ("first_only", "second_only"), [(0, 0), (1, 0), (5, 0), (7, 7), (10, 20), (400, 520), (1200, 1300), (3400, 3000)]
)
def test_p_is_that_of_scipys_binomial_test(first_only: int, second_only: int) -> None:
    binomtest = pytest.importorskip("scipy.stats").binomtest
    test = mcnemar_exact(*_columns(3, first_only, second_only, 4))
    discordant = first_only + second_only
    wanted = binomtest(first_only, discordant).pvalue if discordant else 1.0
    assert test.p == pytest.approx(wanted, rel=1e-9)
    assert (test.first_only, test.second_only) == (first_only, second_only)


def test_it_equals_the_randomisation_test_over_all_sign_patterns() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = rng.integers(0, 2, size=(2, 24)).astype(float)
        if np.count_nonzero(first != second) <= 14:
            assert mcnemar_exact(first, second).p == pytest.approx(paired_randomisation(first, second))


def test_questions_on_which_both_agree_do_not_matter() -> None:
    few, many = _columns(0, 9, 2, 0), _columns(500, 9, 2, 800)
    assert mcnemar_exact(*few).p == mcnemar_exact(*many).p


def test_ten_thousand_discordant_questions_are_counted_exactly() -> None:
    test = mcnemar_exact(*_columns(0, 5200, 4800, 0))
    # Normal approximation with continuity correction: z = (400 - 1) / 100.
    assert test.p == pytest.approx(6.6e-5, rel=0.02)
    assert mcnemar_exact(*_columns(0, 10_000, 0, 0)).p == 0.0


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([1.0], [1.0, 0.0], "shapes"),
        ([], [], "no question"),
        ([0.5], [1.0], "right .1. and wrong .0."),
        ([float("nan")], [1.0], "right .1. and wrong .0."),
    ],
)
def test_bad_input_is_refused(first: list[float], second: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mcnemar_exact(first, second)
