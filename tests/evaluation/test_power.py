"""The number of questions must be the number with which the test finds the difference, in simulation too."""

import numpy as np
import pytest

from evaluation.mcnemar import mcnemar_exact
from evaluation.power import achieved_power, questions_needed, visible_difference


def test_connors_formula_by_hand() -> None:
    # (1.959964 * sqrt(.2) + .841621 * sqrt(.2 - .0004)) ** 2 / .02 ** 2
    assert questions_needed(0.02, 0.20) == 3923
    assert questions_needed(-0.02, 0.20) == 3923


def test_the_test_finds_the_difference_as_often_as_promised() -> None:
    difference, spread = 0.1, 0.3
    num_questions = questions_needed(difference, spread, power=0.8)
    assert num_questions is not None
    rng, found, rounds = np.random.default_rng(0), 0, 400
    shares = [(spread + difference) / 2, (spread - difference) / 2, 1 - spread]
    for _ in range(rounds):
        outcome = rng.choice(3, p=shares, size=num_questions)
        found += mcnemar_exact((outcome == 0).astype(float), (outcome == 1).astype(float)).p < 0.05
    # The exact test is a little more careful than the formula; the standard deviation over 400 rounds is .02.
    assert 0.70 <= found / rounds <= 0.87


def test_more_power_smaller_differences_and_noisier_pairs_need_more_questions() -> None:
    base = questions_needed(0.05, 0.2)
    assert base is not None
    for other in (
        questions_needed(0.05, 0.2, power=0.95),
        questions_needed(0.03, 0.2),
        questions_needed(0.05, 0.4),
        questions_needed(0.05, 0.2, alpha=0.01),
    ):
        assert other is not None
        assert other > base


@pytest.mark.parametrize("num_questions", [50, 125, 500, 1000, 10_000])
def test_the_visible_difference_is_the_one_that_needs_so_many_questions(num_questions: int) -> None:
    difference = visible_difference(num_questions, 0.25)
    assert difference is not None
    assert questions_needed(difference, 0.25) == pytest.approx(num_questions, abs=1)
    assert achieved_power(difference, 0.25, num_questions) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("num_questions", [20, 200, 5000])
def test_right_and_wrong_cannot_differ_by_more_than_the_questions_on_which_they_differ(num_questions: int) -> None:
    """Runs that differ on 1 % of the questions cannot be 5 points apart: the smaller spread would promise too much."""
    visible = visible_difference(num_questions, 0.01, binary=True)
    assert visible is not None
    assert questions_needed(visible, max(0.01, visible)) == pytest.approx(num_questions, abs=1)
    assert questions_needed(0.05, 0.01, binary=True) == questions_needed(0.05, 0.05)
    assert questions_needed(0.05, 0.01) != questions_needed(0.05, 0.01, binary=True)
    assert visible_difference(num_questions, 0.0, binary=True) is not None, "runs that agree on every question"


def test_what_binary_figures_show_is_found_as_often_as_promised() -> None:
    visible = visible_difference(300, 0.01, binary=True)
    assert visible is not None
    rng, found, rounds = np.random.default_rng(1), 0, 300
    for _ in range(rounds):
        wins = rng.random(300) < visible
        found += mcnemar_exact(wins.astype(float), np.zeros(300)).p < 0.05
    assert 0.65 <= found / rounds <= 0.95


def test_what_can_never_be_seen() -> None:
    assert questions_needed(0.0, 0.2) is None
    assert visible_difference(1, 0.2) is None
    assert visible_difference(100, 0.0) is None
    assert achieved_power(0.0, 0.2, 100) < 0.05


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: questions_needed(0.1, -1.0), "spread is -1"),
        (lambda: questions_needed(float("nan"), 0.1), "difference is nan"),
        (lambda: questions_needed(0.1, 0.1, power=1.0), "power is 1"),
        (lambda: questions_needed(0.1, 0.1, alpha=0.0), "alpha is 0"),
        (lambda: questions_needed(1.5, 0.1, binary=True), "difference is 1.5"),
        (lambda: visible_difference(0, 0.1), "num_questions is 0"),
        (lambda: achieved_power(0.1, 0.1, 0), "num_questions is 0"),
        (lambda: achieved_power(float("inf"), 0.1, 10), "difference is inf"),
    ],
)
def test_bad_input_is_refused(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()
