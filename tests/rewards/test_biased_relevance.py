import math
from dataclasses import replace

import pytest

from rewards.biased_relevance import BiasedRelevanceReward, repetition
from rewards.bounds import Bounds
from rewards.tfidf import TfIdf, cosine
from tests.rewards.builders import PASSAGES, QUESTION, answer, context, group, search, trajectory

FITTED = TfIdf.fit(p.contents for p in PASSAGES.values())
TOWN = replace(QUESTION, golden_answers=("harbour town of Oskel",))
OPEN = replace(QUESTION, text="Why do glaciers carve valleys?", golden_answers=())
ESSAY = "glaciers carve valleys because heavy ice flows slowly downhill and grinds rock beneath it"


def score(text: str, question=QUESTION, **params) -> float:
    unit = group(trajectory(search(["a"]), answer(text), question=question))
    return float(BiasedRelevanceReward(context(), **params)(unit, {question.id: question}).outcome[0])


def similarity(a: str, b: str) -> float:
    return cosine(FITTED.vector(a), FITTED.vector(b))


def test_repetition_is_the_share_of_n_grams_seen_before() -> None:
    assert repetition(["x", "y", "x", "y", "x"], 1) == pytest.approx(3 / 5)
    assert repetition(["x", "y", "x", "y", "x"], 2) == pytest.approx(2 / 4)
    assert repetition(["x"], 2) == repetition([], 1) == 0.0


def test_a_closed_question_compares_with_the_best_gold_up_to_its_length() -> None:
    assert score("the Harbour Town of Oskel!", TOWN) == 1.0
    assert score("harbour town", TOWN) == pytest.approx(similarity("harbour town", "harbour town of oskel") * 2 / 4)
    longer = "harbour town near oskel in the north"
    assert score(longer, TOWN) == pytest.approx(similarity("harbour town near oskel in north", "harbour town of oskel"))
    assert score("Vann", replace(TOWN, golden_answers=("harbour town of Oskel", "river Vann"))) == pytest.approx(
        similarity("vann", "river vann") / 2
    )


def test_repetition_beyond_the_golds_own_costs() -> None:
    assert score("Oskel Oskel", repetition_penalty=0.4) == pytest.approx(1.0 - 0.4 * 0.5)
    assert score("Oskel Oskel", replace(QUESTION, golden_answers=("Oskel Oskel",))) == 1.0
    assert score("Oskel " * 50, repetition_penalty=5.0) == 0.0  # never below an episode without an answer


def test_an_open_question_is_compared_with_its_words_and_has_to_say_more() -> None:
    asked, words = "why do glaciers carve valleys", ESSAY.split()
    novelty = len(set(words) - set(asked.split())) / len(set(words))
    expected = similarity(ESSAY, asked) * novelty * len(words) / 50
    assert expected > 0.05
    assert score(ESSAY, OPEN) == pytest.approx(expected)
    assert score(ESSAY, OPEN, saturation=5) == pytest.approx(similarity(ESSAY, asked) * novelty)


def test_honest_beats_copies_padding_and_repetition() -> None:
    assert score("Oskel") > max(score("Oskel Oskel"), score(PASSAGES["b"].contents), score(QUESTION.text))
    honest = score(ESSAY, OPEN)
    assert score(OPEN.text * 9, OPEN) == 0.0
    assert honest > score(" ".join([ESSAY] * 4), OPEN)
    assert honest > score("the drum is painted green and crosses a canal", OPEN)


def test_the_switch_follows_the_gold_answer() -> None:
    reward = BiasedRelevanceReward(context(), closed_words=4)
    assert reward.is_closed(QUESTION) and not reward.is_closed(OPEN)
    assert not reward.is_closed(replace(QUESTION, golden_answers=("Oskel", "one two three four five")))
    assert BiasedRelevanceReward(context(), answer_type="open").is_closed(QUESTION) is False
    assert math.isnan(score("Oskel", OPEN, answer_type="closed"))


def test_blank_answers_and_none() -> None:
    assert score(" ") == score("the", OPEN) == score("...") == 0.0
    unit = group(trajectory(search(["a"])), trajectory(finish="engine_failure", sample=1))
    first, second = BiasedRelevanceReward(context())(unit, {"q": QUESTION}).outcome
    assert first == 0.0 and math.isnan(second)


def test_bounds_and_parameters() -> None:
    closed = BiasedRelevanceReward(context(), answer_type="closed")
    assert closed.bounds(correct=True, max_turns=3) == Bounds(low=1.0, high=1.0)
    assert closed.bounds(correct=False, max_turns=3) == Bounds(low=0.0, high=1.0)
    assert BiasedRelevanceReward(context()).bounds(correct=True, max_turns=3) == Bounds(low=0.0, high=1.0)
    with pytest.raises(ValueError, match="biased_relevance: answer_type must be auto, closed or open, got 'long'"):
        BiasedRelevanceReward(context(), answer_type="long")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="biased_relevance: repetition_penalty"):
        BiasedRelevanceReward(context(), repetition_penalty=float("inf"))
