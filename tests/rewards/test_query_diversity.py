import math
from dataclasses import replace
from itertools import combinations

import pytest

from rewards.bounds import Bounds
from rewards.query_diversity import QueryDiversityReward
from rewards.tfidf import TfIdf, cosine
from tests.rewards.builders import PASSAGES, QUESTION, answer, at_once, context, group, search, trajectory

FITTED = TfIdf.fit(p.contents for p in PASSAGES.values())
FOUNDER, TOWN = "Lomira founder", "Tavo Rinsel harbour town"
RIGHT = answer("Oskel")


def score(*turns, question=QUESTION, **params) -> float:
    unit = group(trajectory(*turns, question=question))
    return float(QueryDiversityReward(context(), **params)(unit, {question.id: question}).outcome[0])


def distance(a: str, b: str) -> float:
    return 1.0 - cosine(FITTED.vector(a), FITTED.vector(b))


def test_it_is_one_less_the_mean_cosine_over_pairs() -> None:
    queries = ["Lomira founder", "founder of Lomira in 1812", "harbour town Oskel", "green bridge"]
    expected = sum(distance(a, b) for a, b in combinations(queries, 2)) / 6
    assert 0.3 < expected < 1.0
    turns = [at_once(*(search(["x"], q) for q in queries[:2])), *(search(["y"], q) for q in queries[2:])]
    assert score(*turns, RIGHT, productive_only=False) == pytest.approx(expected)


def test_queries_that_found_nothing_new_are_copies_of_all_others() -> None:
    overlapping = "Tavo Rinsel of Lomira"
    assert 0.0 < distance(FOUNDER, overlapping) < 1.0
    two = search(["a"], FOUNDER), search(["b"], overlapping)
    assert score(*two, RIGHT) == pytest.approx(distance(FOUNDER, overlapping))
    junk = search(["x"], "percussion")
    assert score(*two, junk, RIGHT) == pytest.approx(distance(FOUNDER, overlapping) / 3)
    shared = at_once(search(["a"], FOUNDER), search(["b"], overlapping), search(["a", "b"], "glaciers"))
    assert score(shared, RIGHT) == pytest.approx(distance(FOUNDER, overlapping) / 3)


def test_honest_beats_near_duplicates_nonsense_and_wrong_answers() -> None:
    honest = score(search(["a"], FOUNDER), search(["b"], TOWN), RIGHT)
    assert honest > 0.5
    assert honest > score(search(["a"], FOUNDER), search(["b"], "the " + FOUNDER), RIGHT)
    assert honest > score(search(["a"], FOUNDER), search(["b"], TOWN), *[search(["x"], "zx qy")] * 3, RIGHT)
    assert honest > score(search(["x"], "zx"), search(["y"], "glaciers"), search(["z"], "bridge"), RIGHT) == 0.0
    assert score(search(["a"], FOUNDER), search(["b"], TOWN), answer("Lomira")) == 0.0
    assert score(search(["a"], FOUNDER), search(["b"], TOWN)) == 0.0


def test_few_and_empty_queries() -> None:
    assert score(RIGHT) == score(search(["a", "b"], FOUNDER), RIGHT) == 0.0
    assert score(search(["a"], ""), search(["b"], " "), RIGHT, productive_only=False) == 0.0
    assert math.isnan(score(RIGHT, question=replace(QUESTION, supporting_ids=())))
    assert score(RIGHT, question=replace(QUESTION, supporting_ids=()), productive_only=False) == 0.0


def test_bounds_and_parameters() -> None:
    reward = QueryDiversityReward(context())
    assert reward.bounds(correct=False, max_turns=4) == Bounds(low=0.0, high=0.0)
    assert reward.bounds(correct=True, max_turns=1) == Bounds(low=0.0, high=0.0)
    assert reward.bounds(correct=True, max_turns=2) == Bounds(low=0.0, high=1.0)
    assert score(at_once(search(["a"], "Lomira"), search(["b"], "harbour")), RIGHT) == 1.0
    with pytest.raises(ValueError, match="query_diversity: productive_only must be true or false"):
        QueryDiversityReward(context(), productive_only=1)  # type: ignore[arg-type]
