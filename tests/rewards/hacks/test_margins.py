"""Percentiles at equal turns, against numbers counted by hand."""

import numpy as np
import pytest

from benchmarks.red_team.margins import margin_of

NAN = float("nan")


def arrays(*values: float):
    return np.array(values, dtype=float)


def test_a_cheat_is_compared_with_episodes_of_as_many_turns() -> None:
    honest, turns = arrays(0, 1, 2, 3, 4, 10, 10, 10), np.array([2] * 5 + [3] * 3)
    margin = margin_of(arrays(0.5), np.array([2]), honest, turns)
    assert (margin.earned, margin.bar, margin.percentile) == (0.5, 1.0, 20.0)
    assert margin.is_below
    assert margin_of(arrays(0.5), np.array([3]), honest, turns).bar == 10.0


def test_turns_that_honest_episodes_hardly_have_count_as_the_nearest_common_ones() -> None:
    honest = arrays(*[1.0] * 20, *[5.0] * 20, 0.0)
    turns = np.array([3] * 20 + [5] * 20 + [1])
    bars = [margin_of(arrays(0), np.array([n]), honest, turns).bar for n in (1, 3, 4, 5, 9)]
    assert bars == [1.0, 1.0, 1.0, 5.0, 5.0], "one episode of 41 is no yardstick; fewer turns on a tie"


def test_equal_is_not_below_and_ties_are_half() -> None:
    margin = margin_of(arrays(1, 1), np.array([2, 2]), arrays(1, 1, 1, 1), np.array([2] * 4))
    assert not margin.is_below and margin.percentile == 50.0


def test_what_a_reward_says_nothing_of_earns_a_cheat_nothing_and_is_no_honest_episode() -> None:
    honest, turns = arrays(1, 1, NAN, NAN), np.array([2, 2, 2, 2])
    margin = margin_of(arrays(NAN, 1), np.array([2, 2]), honest, turns)
    assert (margin.earned, margin.bar) == (0.5, 1.0)


def test_bars_are_averaged_over_the_cheats_episodes() -> None:
    honest, turns = arrays(0, 0, 4, 4), np.array([2, 2, 3, 3])
    assert margin_of(arrays(1, 1, 1), np.array([2, 3, 3]), honest, turns).bar == pytest.approx(8 / 3)


@pytest.mark.parametrize(("cheat", "honest"), [((), (1.0,)), ((1.0,), ()), ((1.0,), (NAN,))])
def test_nothing_to_compare_is_refused(cheat: tuple[float, ...], honest: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="play more questions"):
        margin_of(arrays(*cheat), np.full(len(cheat), 2), arrays(*honest), np.full(len(honest), 2))
