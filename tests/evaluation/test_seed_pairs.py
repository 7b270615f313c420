"""Methods are compared over seeds and questions; an interval that speaks of one of them alone is too narrow."""

import numpy as np
import pytest

from evaluation.seed_pairs import MIN_SEEDS, compare_over_seeds, correct_together


def test_difference_is_the_mean_over_seeds_of_means_over_questions() -> None:
    ours = np.array([[1.0, 1.0, np.nan], [1.0, 0.0, 0.0]])
    theirs = np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    one = compare_over_seeds(ours, theirs)
    assert one is not None
    assert one.by_seed == pytest.approx((0.5, 1 / 3))
    assert one.difference == pytest.approx((0.5 + 1 / 3) / 2)


def test_the_interval_is_that_of_drawing_seeds_and_questions_by_hand() -> None:
    rng = np.random.default_rng(5)
    ours, theirs = rng.random((4, 30)) + rng.normal(0, 0.3, (4, 1)), rng.random((4, 30))
    one = compare_over_seeds(ours, theirs, num_resamples=20_000)
    assert one is not None
    drawn = []
    for _ in range(20_000):
        seeds, questions = rng.integers(0, 4, 4), rng.integers(0, 30, 30)
        drawn.append((ours - theirs)[np.ix_(seeds, questions)].mean())
    assert (one.low, one.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.01)


def test_seeds_that_differ_widen_the_interval_however_many_questions_there_are() -> None:
    theirs = np.zeros((3, 2000))
    alike, apart = np.full((3, 2000), 0.5), np.repeat([[0.0], [0.5], [1.0]], 2000, axis=1)
    narrow, wide = compare_over_seeds(alike, theirs), compare_over_seeds(apart, theirs)
    assert narrow is not None and wide is not None
    assert narrow.high - narrow.low == 0.0
    assert wide.high - wide.low > 0.5


def test_no_p_value_below_the_least_number_of_seeds() -> None:
    few, enough = np.ones((MIN_SEEDS - 1, 5)), np.ones((MIN_SEEDS, 5))
    assert compare_over_seeds(few, 0 * few).p is None  # type: ignore[union-attr]
    assert compare_over_seeds(enough, 0 * enough).p == pytest.approx(2**-9)  # type: ignore[union-attr]


def test_corrected_together_and_only_those_that_were_tested() -> None:
    few, enough = np.ones((2, 5)), np.ones((MIN_SEEDS, 5))
    comparisons = [compare_over_seeds(x, 0 * x) for x in (enough, few, enough)]
    corrected = correct_together([one for one in comparisons if one is not None])
    assert [one.p_holm for one in corrected] == [pytest.approx(2**-8), None, pytest.approx(2**-8)]
    assert [one.is_significant for one in corrected] == [True, False, True]


def test_where_nothing_applies_there_is_no_comparison() -> None:
    nothing = np.full((2, 3), np.nan)
    assert compare_over_seeds(nothing, np.ones((2, 3))) is None


@pytest.mark.parametrize("shape", [(2, 4), (3,), (0, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="num_seeds, num_questions"):
        compare_over_seeds(np.ones(shape), np.ones((2, 3)) if shape != (3,) else np.ones(3))


@pytest.mark.parametrize(("num_seeds", "covered"), [(3, (0.75, 0.9)), (10, (0.89, 0.98))])
def test_intervals_of_few_seeds_are_too_narrow_and_of_ten_nearly_right(
    num_seeds: int, covered: tuple[float, float]
) -> None:
    rng = np.random.default_rng(0)
    truth, hits, tries = 0.05, 0, 200
    for i in range(tries):
        of_questions, of_seeds = rng.normal(0, 0.2, 100), rng.normal(0, 0.1, (num_seeds, 1))
        ours = truth + of_questions + of_seeds + rng.normal(0, 0.3, (num_seeds, 100))
        one = compare_over_seeds(ours, np.zeros_like(ours), num_resamples=300, seed=i)
        assert one is not None
        hits += one.low <= truth <= one.high
    assert covered[0] <= hits / tries <= covered[1]
