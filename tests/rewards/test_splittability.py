from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.bounds import Bounds
from rewards.splittability import SplittabilityReward, rephrasing, split_quality
from rewards.tfidf import TfIdf, cosine
from tests.rewards.builders import PASSAGES, QUESTION, answer, at_once, context, group, search, trajectory

FITTED = TfIdf.fit(p.contents for p in PASSAGES.values())
WRONG = answer("Lomira")
SPLIT = ("founder of Lomira", "in which town did that person grow up")


def score(*turns, **params) -> float:
    unit = group(trajectory(*turns))
    return float(SplittabilityReward(context(), **params)(unit, {"q": QUESTION}).outcome[0])


@pytest.mark.parametrize(
    ("similarity", "peak", "expected"),
    [(0.85, 0.85, 1.0), (1.0, 0.85, 0.0), (0.70, 0.85, 0.0), (0.925, 0.85, 0.5), (0.0, 0.5, 0.0), (0.3, 0.5, 0.6)],
)
def test_a_single_query_is_best_at_the_peak(similarity, peak, expected) -> None:
    assert rephrasing(similarity, peak) == pytest.approx(expected)


@given(st.integers(2, 4), st.integers(0, 10_000))
def test_several_queries_equal_the_published_formula_on_vectors(n: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(n + 1, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    parent, children = vectors[0], vectors[1:]
    mean = children.mean(axis=0)
    coverage = parent @ mean / np.linalg.norm(mean)
    parts = []
    for i in range(n):
        siblings = [children[i] @ children[l] for l in range(n) if l != i]  # noqa: E741
        parts.append(parent @ children[i] * (1 - sum(siblings) / len(siblings)))
    expected = 0.5 * coverage + 0.5 * sum(parts) / n
    assert split_quality(vectors @ vectors.T, 0.85) == pytest.approx(min(1.0, max(0.0, expected)), abs=1e-9)


def test_the_reward_is_the_mean_over_searches_of_a_failed_episode() -> None:
    vectors = [FITTED.vector(text) for text in (QUESTION.text, *SPLIT)]
    table = np.array([[cosine(a, b) for b in vectors] for a in vectors])
    single = FITTED.vector("town of Lomira")
    expected = (split_quality(table, 0.6) + rephrasing(cosine(vectors[0], single), 0.6)) / 2
    turns = at_once(search(["a"], SPLIT[0]), search(["b"], SPLIT[1])), search(["c"], "town of Lomira")
    assert expected > 0.2
    assert score(*turns, WRONG) == pytest.approx(0.1 * expected)
    assert score(*turns, answer("Oskel")) == pytest.approx(0.1)
    assert score(*turns, answer("Oskel"), pay_right=False) == 0.0


def test_honest_splits_beat_copies_of_the_question_spam_and_repeats() -> None:
    honest = score(at_once(*(search(["a"], q) for q in SPLIT)), WRONG)
    assert score(search(["a"], QUESTION.text), WRONG) == 0.0
    assert score(search(["a"], QUESTION.text.upper() + "!", num_queries=3), WRONG) == 0.0
    assert honest > score(at_once(search(["a"], QUESTION.text), search([], "drums and glaciers")), WRONG)
    assert honest > score(at_once(search(["a"], "drums"), search([], "glaciers"), search([], "green paint")), WRONG)
    twice = at_once(*(search(["a"], q) for q in SPLIT))
    assert score(twice, twice, WRONG) == pytest.approx(honest / 2)


def test_the_wording_that_was_asked_is_what_is_split() -> None:
    paraphrase = QUESTION.paraphrases[0]
    played = trajectory(search(["a"], paraphrase), WRONG)
    other = group(replace(played, view=1))
    assert SplittabilityReward(context())(other, {"q": QUESTION}).outcome.tolist() == [0.0]
    assert SplittabilityReward(context())(group(played), {"q": QUESTION}).outcome[0] > 0.0


def test_nothing_searched_and_empty_queries_are_nothing() -> None:
    assert score(WRONG) == 0.0
    assert score(search([], ""), WRONG) == 0.0
    assert score(at_once(search([], "a"), search([], "  ")), WRONG) == 0.0


def test_bounds_and_parameters() -> None:
    reward = SplittabilityReward(context(), share=1.0)
    assert reward.bounds(correct=True, max_turns=3) == Bounds(low=0.02, high=0.2)
    assert reward.bounds(correct=False, max_turns=3) == Bounds(low=0.0, high=0.2)
    for peak in (0.3, 1.0, float("nan")):
        with pytest.raises(ValueError, match="splittability: peak"):
            SplittabilityReward(context(), peak=peak)
