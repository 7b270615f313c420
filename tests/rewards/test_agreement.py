import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.trajectory import Unit
from rewards.agreement import AgreementReward, majority
from rewards.bounds import Bounds
from tests.rewards.builders import QUESTION, answer, context, group, search, trajectory

FREE = {"only_if_correct": False}


def views(*by_view, finish=None) -> Unit:
    """A paraphrase set from the answers under each view; None is an episode that never answered."""
    members = []
    for view, answers in enumerate(by_view):
        for text in answers:
            turns = (search(["a"]),) if text is None else (search(["a"]), answer(text))
            played = trajectory(*turns, sample=len(members), finish=finish if text is None else None)
            members.append(replace(played, view=view, group_id=f"u-view{view}"))
    return Unit(kind="paraphrase_set", trajectories=tuple(members))


def score(unit: Unit, question=QUESTION, **params) -> list[float]:
    return AgreementReward(context(), **params)(unit, {question.id: question}).outcome.tolist()


def test_each_view_is_held_to_the_majority_of_the_other() -> None:
    unit = views(["Oskel", "The Oskel!", "Lomira"], ["Lomira", "lomira", "Oskel"])
    # View 0 answers mostly Oskel, view 1 mostly Lomira: each is paid for the other's.
    assert score(unit, **FREE) == [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    assert score(unit) == [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]


@given(st.lists(st.lists(st.sampled_from(["p", "q", "r", None, " "]), min_size=1, max_size=4), min_size=2, max_size=4))
def test_equals_a_count_by_hand(by_view) -> None:
    flat = [(view, text) for view, texts in enumerate(by_view) for text in texts]
    expected = []
    for view, text in flat:
        others = [(v, t) for v, t in flat if v != view and t and t.strip()]
        if not others:
            expected.append(math.nan)
        elif text is None or not text.strip():
            expected.append(0.0)
        else:
            counts = Counter(t for _, t in others)
            best = [t for t in sorted(counts) if counts[t] == max(counts.values())]
            spread = {t: len({v for v, other in others if other == t}) for t in best}
            expected.append(float(text == next(t for t in best if spread[t] == max(spread.values()))))
    assert score(views(*by_view), **FREE) == pytest.approx(expected, nan_ok=True)


def test_ties_go_to_more_views_and_then_to_the_alphabet_never_to_the_first_sample() -> None:
    assert majority([(0, "b"), (0, "b"), (0, "a"), (1, "a")]) == "a"
    assert majority([(0, "b"), (0, "a")]) == majority([(0, "a"), (0, "b")]) == "a"
    assert majority([]) is None


def test_where_it_does_not_apply() -> None:
    played = [trajectory(answer("Oskel"), sample=i) for i in range(3)]
    assert all(map(math.isnan, score(group(*played))))
    one_view = Unit(kind="paraphrase_set", trajectories=tuple(played))
    assert all(map(math.isnan, score(one_view)))
    assert all(map(math.isnan, score(Unit(kind="branch_tree", trajectories=tuple(played)))))
    nobody_else = score(views(["Oskel"], [None, " "]))
    assert math.isnan(nobody_else[0]) and nobody_else[1:] == [0.0, 0.0]
    assert all(map(math.isnan, score(views(["Oskel"], ["Oskel"]), question=replace(QUESTION, golden_answers=()))))
    assert score(views(["Oskel"], ["Oskel"]), question=replace(QUESTION, golden_answers=()), **FREE) == [1.0, 1.0]


@pytest.mark.parametrize("params", [{}, FREE])
def test_who_gives_no_answer_is_not_compared_with_a_view_that_gave_none(params: dict) -> None:
    found = score(views(["Oskel", None], [None, None]), **params)
    assert all(map(math.isnan, found[:2])) and found[2:] == [0.0, 0.0]


def test_longer_ways_to_say_the_same_split_the_vote() -> None:
    merged, split = ["Oskel", "oskel.", "Lomira"], ["Oskel", "the town of Oskel", "Lomira", "lomira"]
    assert score(views(["Oskel"], merged))[0] == 1.0 and score(views(["Oskel"], split))[0] == 0.0


def test_outages_neither_vote_nor_score() -> None:
    lost = views(["Oskel"], [None], finish="retrieval_outage")
    assert all(map(math.isnan, score(lost)))


def test_the_same_generic_answer_to_everything_earns_nothing_unless_asked_for() -> None:
    generic = views(["cannot be determined"] * 2, ["cannot be determined"] * 2)
    honest = views(["Oskel", "Lomira"], ["Oskel", "Oskel"])
    assert sum(score(generic)) == 0.0 < sum(score(honest))
    assert sum(score(generic, **FREE)) == 4.0 > sum(score(honest, **FREE))  # the weakness of voting without labels


def test_bounds_and_parameters() -> None:
    assert AgreementReward(context()).bounds(correct=False, max_turns=2) == Bounds(low=0.0, high=0.0)
    assert AgreementReward(context()).bounds(correct=True, max_turns=2) == Bounds(low=0.0, high=1.0)
    assert AgreementReward(context(), **FREE).bounds(correct=False, max_turns=2) == Bounds(low=0.0, high=1.0)
    with pytest.raises(ValueError, match="agreement: only_if_correct must be true or false"):
        AgreementReward(context(), only_if_correct=None)  # type: ignore[arg-type]
