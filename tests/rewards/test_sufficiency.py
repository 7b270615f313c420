import math
from dataclasses import replace

import pytest

from envs.question import Hop
from rewards.bounds import Bounds
from rewards.sufficiency import SufficiencyReward, num_steps, token_recall
from tests.rewards.builders import QUESTION, answer, at_once, context, group, invalid, search, trajectory


def score(*turns, question=QUESTION, **params) -> float:
    unit = group(trajectory(*turns, question=question))
    return float(SufficiencyReward(context(), **params)(unit, {question.id: question}).outcome[0])


def test_token_recall_counts_distinct_words_of_the_evidence() -> None:
    passage = frozenset({"lomira", "was", "founded", "by", "tavo"})
    assert token_recall("Lomira founded_by Tavo Rinsel", passage) == 4 / 5
    assert token_recall("Lomira, Lomira and Oskel", passage) == 1 / 3
    assert token_recall("", passage) == token_recall("a", passage) == 0.0


def test_hops_read_are_divided_by_hops_and_by_steps() -> None:
    assert score(search(["a"]), search(["b"]), answer("Oskel")) == pytest.approx(1 / 3)
    assert score(search(["a", "b"]), answer("Oskel")) == pytest.approx(1 / 2)
    assert score(search(["a"]), answer("Oskel")) == pytest.approx(1 / 4)
    assert score(search(["a"]), search(["a"]), invalid(), answer("Oskel")) == pytest.approx(1 / 8)
    assert num_steps(trajectory(at_once(search(["a"]), search(["b"])), invalid(), answer("x"))) == 4


def test_a_passage_needs_most_of_the_evidence_and_of_its_object() -> None:
    # c names the object of the second hop, z its subject in part: neither states it.
    assert score(search(["c", "z", "x"]), answer("Oskel")) == 0.0
    # The second passage has two of the three words of the first triple, so a lower threshold lets its half through.
    assert score(search(["b"]), answer("Oskel"), threshold=0.5) == pytest.approx(1 / 2)


def test_without_a_triple_the_sub_question_and_its_answer_are_the_evidence() -> None:
    hops = (Hop(question="founder of Lomira", answers=("Tavo Rinsel",)), Hop(question="#1 grew up", answers=("Oskel",)))
    plain = replace(QUESTION, hops=hops)
    assert score(search(["a"]), search(["b"]), answer("Oskel"), question=plain) == pytest.approx(1 / 3)
    assert score(search(["x"]), answer("Oskel"), question=plain) == 0.0


def test_honest_beats_writing_evidence_down_spamming_and_never_answering() -> None:
    honest = score(search(["a"]), search(["b"]), answer("Oskel"))
    stated = "Lomira was founded by Tavo Rinsel. Tavo Rinsel grew up in Oskel."
    assert score(search(["x"], stated, thought=stated), answer("Oskel", thought=stated)) == 0.0
    assert honest > score(search(["a", "b"], num_queries=20), answer("Oskel"))
    assert score(search(["a", "b"]), search(["x"])) == 0.0
    assert honest > score(search(["a"]), answer("Oskel"))  # giving up after the first hop


def test_what_does_not_apply_and_what_is_refused() -> None:
    assert math.isnan(score(search(["a"]), answer("Oskel"), question=replace(QUESTION, hops=())))
    assert score(answer("Oskel")) == 0.0 and score(search([]), answer("Oskel")) == 0.0
    with pytest.raises(ValueError, match="was shown passage 'nowhere'"):
        score(search(["nowhere"]), answer("Oskel"))
    for threshold in (0.0, 1.5, float("inf")):
        with pytest.raises(ValueError, match="sufficiency: threshold"):
            SufficiencyReward(context(), threshold=threshold)


def test_bounds() -> None:
    reward = SufficiencyReward(context())
    assert reward.bounds(correct=True, max_turns=5) == reward.bounds(correct=False, max_turns=2)
    assert reward.bounds(correct=True, max_turns=5) == Bounds(low=0.0, high=0.5)  # reached above
    assert reward.bounds(correct=True, max_turns=1) == Bounds(low=0.0, high=0.0)
