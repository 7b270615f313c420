import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.trajectory import Shown
from rewards.citation import (
    CitationPrecisionReward,
    CitationRecallReward,
    Citations,
    citation_precision,
    citation_recall,
    resolve_citations,
)
from tests.rewards.builders import QUESTION, answer, context, group, search, trajectory

# Numbers by first showing: x=1, a=2, b=3, y=4.
SEARCHES = (search(["x", "a"]), search(["a", "b", "y"]))


def scores(text: str, cites, *, searches=SEARCHES, **params) -> tuple[float, float]:
    unit = group(trajectory(*searches, answer(text, cites)))
    return (
        float(CitationPrecisionReward(context(), **params)(unit, {"q": QUESTION}).outcome[0]),
        float(CitationRecallReward(context(), **params)(unit, {"q": QUESTION}).outcome[0]),
    )


@pytest.mark.parametrize(
    ("cites", "precision", "recall"),
    [
        ((2, 3), 1.0, 1.0),
        ((3, 2, 2, 3), 1.0, 1.0),
        ((2,), 1.0, 0.5),
        ((2, 3, 1), 2 / 3, 1.0),
        ((1, 4), 0.0, 0.0),
        ((), 0.0, 0.0),
        ((2, 9), 0.5, 0.5),  # 9 was never shown
        ((2, 9, 9, 0), 1 / 3, 0.5),
        ((1, 2, 3, 4), 0.5, 0.75),  # one citation over the slack dilutes the recall
    ],
)
def test_numbers_resolve_over_the_whole_trajectory(cites, precision, recall) -> None:
    assert scores("Oskel", cites) == (pytest.approx(precision), pytest.approx(recall))


HONEST = (2, 3)


@pytest.mark.parametrize(
    "cheat",
    [
        pytest.param((1, 2, 3, 4), id="citation stuffing with everything shown"),
        pytest.param(tuple(range(1, 30)), id="citation stuffing with every number"),
        pytest.param((2, 2, 2, 2), id="one citation repeated"),
        pytest.param((17, 18), id="numbers that were never shown"),
        pytest.param((), id="no citation"),
    ],
)
def test_cheats_score_below_the_honest_citations_in_precision_plus_recall(cheat) -> None:
    assert sum(scores("Oskel", cheat)) < sum(scores("Oskel", HONEST))


@pytest.mark.parametrize("cheat", [(1, 2, 3, 4), tuple(range(1, 30))])
def test_stuffing_lowers_precision_and_recall_each(cheat) -> None:
    precision, recall = scores("Oskel", cheat)
    assert precision < 1.0 and recall < 1.0


def test_citing_before_searching_names_nothing() -> None:
    assert scores("Oskel", (1, 2), searches=()) == (0.0, 0.0)


def test_an_episode_without_an_answer_scores_zero_and_not_nan() -> None:
    unit = group(trajectory(*SEARCHES), trajectory(*SEARCHES, answer(" ", HONEST), sample=1))
    for reward in (CitationPrecisionReward(context()), CitationRecallReward(context())):
        assert reward(unit, {"q": QUESTION}).outcome.tolist() == [0.0, 0.0]


def test_never_citing_is_never_the_best_policy() -> None:
    """Any citation, even a wrong one, scores at least as much as none; with NaN, none would be above the average."""
    for cites in ((2,), (1,), (9,), (1, 2, 3)):
        assert all(np.array(scores("Oskel", cites)) >= np.array(scores("Oskel", ())))
    assert scores("Oskel", ()) == (0.0, 0.0)


def test_only_if_correct_pays_citations_of_right_answers_only() -> None:
    assert scores("London", HONEST, only_if_correct=True) == (0.0, 0.0)
    assert scores("oskel.", HONEST, only_if_correct=True) == (1.0, 1.0)
    assert scores("London", HONEST) == (1.0, 1.0)
    gated = CitationRecallReward(context(), only_if_correct=True)
    assert gated.needs == {"supporting_ids", "golden_answers"}
    unlabelled = replace(QUESTION, golden_answers=())
    assert math.isnan(gated(group(trajectory(*SEARCHES, answer("Oskel", HONEST))), {"q": unlabelled}).outcome[0])


def test_where_numbers_restart_each_turn_the_last_passage_counts() -> None:
    first = replace(search(["a"]), shown=(Shown(number=1, passage_id="a"),))
    second = replace(search(["x"]), shown=(Shown(number=1, passage_id="x"),))
    restarted = replace(trajectory(first, second, answer("Oskel", (1,))), turns=(first, second, answer("Oskel", (1,))))
    assert resolve_citations(restarted) == Citations(passage_ids=("x",))


numbers = st.lists(st.integers(-1, 8), max_size=12)


@given(numbers, st.randoms())
def test_order_and_duplicates_do_not_matter_and_ranges_hold(cites, random) -> None:
    shuffled = [*cites, *cites]
    random.shuffle(shuffled)
    result = scores("Oskel", tuple(cites))
    assert result == scores("Oskel", tuple(shuffled))
    assert all(0.0 <= value <= 1.0 for value in result)


@given(numbers)
def test_a_number_that_was_never_shown_never_helps(cites) -> None:
    precision, recall = scores("Oskel", tuple(cites))
    with_unknown = scores("Oskel", (*cites, 99))
    assert with_unknown[0] <= precision and with_unknown[1] <= recall
    if precision:
        assert with_unknown[0] < precision


def test_the_metrics_are_plain() -> None:
    stuffed = Citations(passage_ids=("a", "b", "x", "y"), unresolved=(9,))
    assert citation_precision(stuffed, ("a", "b")) == pytest.approx(0.4)
    assert citation_recall(stuffed, ("a", "b", "b")) == 1.0
    assert math.isnan(citation_recall(stuffed, ()))
    assert citation_precision(Citations(), ("a",)) == 0.0


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match="citation_recall: slack must be a whole number >= 0, got -1"):
        CitationRecallReward(context(), slack=-1)
    with pytest.raises(ValueError, match="citation_precision: only_if_correct must be true or false, got 1"):
        CitationPrecisionReward(context(), only_if_correct=1)
