import math
from dataclasses import replace

import numpy as np
import pytest

from rewards.bounds import Bounds
from rewards.encoder_similarity import EncoderSimilarityReward, copied_share, min_max
from rewards.tfidf import TfIdf, cosine
from tests.rewards.builders import PASSAGES, QUESTION, answer, context, group, search, trajectory

FITTED = TfIdf.fit(p.contents for p in PASSAGES.values())
REFERENCE = "\n".join(PASSAGES[i].contents for i in "ab")
OWN_WORDS = "Tavo Rinsel, engineer, made Lomira; his youth was spent in Oskel, a harbour town."
VAGUE = "Some engineer lived in a town."


def similarity(text: str) -> float:
    return cosine(FITTED.vector(text), FITTED.vector(REFERENCE))


def played(text: str, thought: str, sample: int = 0, **ids):
    return replace(trajectory(search(["a"]), search(["b"]), answer(text, thought=thought), sample=sample), **ids)


def score(*members, question=QUESTION, **params) -> list[float]:
    return EncoderSimilarityReward(context(), **params)(group(*members), {"q": question}).outcome.tolist()


def test_the_last_thought_of_a_right_answer_is_compared_with_the_supports() -> None:
    assert score(played("Oskel", OWN_WORDS)) == pytest.approx([similarity(OWN_WORDS)])
    assert similarity(OWN_WORDS) > similarity(VAGUE) > 0.0
    assert score(played("Lomira", OWN_WORDS), played("Oskel", " ", 1), trajectory(search(["a"]), sample=2)) == [0, 0, 0]
    assert score(played("Lomira", OWN_WORDS), only_if_correct=False) == pytest.approx([similarity(OWN_WORDS)])


def test_copying_passages_is_not_an_explanation() -> None:
    honest, pasted, shown, wrong = score(
        played("Oskel", OWN_WORDS),
        played("Oskel", REFERENCE, 1),
        played("Oskel", PASSAGES["b"].contents, 2),
        played("Lomira", OWN_WORDS, 3),
    )
    assert honest > max(pasted, shown, wrong) and pasted < 0.35 and shown == wrong == 0.0


def test_copied_share_counts_n_grams() -> None:
    assert copied_share("one two three four", ["zero one two three"], 2) == pytest.approx(2 / 3)
    assert copied_share("one", ["one"], 2) == 0.0
    assert copied_share("One, two!", ["and one two"], 2) == 1.0


def test_min_max_spreads_the_right_answers_of_each_group() -> None:
    members = [
        played("Oskel", OWN_WORDS, 0),
        played("Oskel", VAGUE, 1),
        played("Oskel", "In Oskel.", 2),
        played("Lomira", OWN_WORDS, 3),
        played("Oskel", VAGUE, 4, group_id="other"),
    ]
    raw = [similarity(text) for text in (OWN_WORDS, VAGUE, "In Oskel.")]
    expected = [(s - min(raw)) / (max(raw) - min(raw)) for s in raw]
    assert sorted(expected)[0] == 0.0 and sorted(expected)[-1] == 1.0
    assert score(*members, min_max=True) == pytest.approx([*expected, 0.0, 0.0])


def test_words_of_a_passage_in_another_order_are_known_to_pass_without_a_model() -> None:
    turned = " ".join(reversed(REFERENCE.split()))
    assert score(played("Oskel", turned)) == pytest.approx([similarity(REFERENCE)])
    assert score(played("Oskel", OWN_WORDS)) < score(played("Oskel", turned))
    assert score(played("Lomira", turned)) == [0.0]


def test_min_max_without_a_spread_says_nothing_more() -> None:
    assert min_max(np.array([0.4, 0.4, np.nan]))[:2].tolist() == [0.0, 0.0]
    assert np.isnan(min_max(np.array([np.nan, np.nan]))).all()
    assert score(played("Oskel", OWN_WORDS), played("Oskel", OWN_WORDS, 1), min_max=True) == [0.0, 0.0]


def test_answers_may_be_compared_instead() -> None:
    params = {"text": "answer", "only_if_correct": False}
    question = replace(QUESTION, golden_answers=("harbour town of Oskel", "Oskel"), supporting_ids=())
    expected = max(cosine(FITTED.vector("town Oskel"), FITTED.vector(gold)) for gold in question.golden_answers)
    assert score(played("town Oskel", ""), question=question, **params) == pytest.approx([expected])
    assert score(played("Oskel", ""), question=question, **params) == pytest.approx([1.0])


def test_what_does_not_apply() -> None:
    lost = [trajectory(search(["a"]), finish="engine_failure"), trajectory(search(["a"]), finish="cut", sample=1)]
    assert all(map(math.isnan, score(*lost)))
    assert all(map(math.isnan, score(played("Oskel", "x"), question=replace(QUESTION, supporting_ids=()))))
    assert all(map(math.isnan, score(played("Oskel", "x"), question=replace(QUESTION, supporting_ids=("gone",)))))


def test_bounds_and_parameters() -> None:
    assert EncoderSimilarityReward(context()).bounds(correct=False, max_turns=2) == Bounds(low=0.0, high=0.0)
    assert EncoderSimilarityReward(context()).bounds(correct=True, max_turns=2) == Bounds(low=0.0, high=1.0)
    free = EncoderSimilarityReward(context(), only_if_correct=False)
    assert free.bounds(correct=False, max_turns=2) == Bounds(low=0.0, high=1.0)
    with pytest.raises(ValueError, match=r"encoder_similarity: text must be one of \('explanation', 'answer'\)"):
        EncoderSimilarityReward(context(), text="thought")
    with pytest.raises(ValueError, match="encoder_similarity: min_max must be true or false"):
        EncoderSimilarityReward(context(), min_max=0)  # type: ignore[arg-type]
