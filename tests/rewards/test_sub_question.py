from collections import Counter

import pytest

from envs.question import Hop
from rewards.sub_question import filled_sub_questions, key_word_counts, key_word_f1, key_word_recall
from tests.rewards.builders import QUESTION


def test_gold_answers_of_earlier_hops_are_filled_in() -> None:
    assert filled_sub_questions(QUESTION.hops, 0) == ("Who founded Lomira?",)
    assert filled_sub_questions(QUESTION.hops, 1) == ("In which town did Tavo Rinsel grow up?",)


def test_every_combination_of_aliases_is_a_variant_up_to_the_limit() -> None:
    hops = (
        Hop(question="A?", answers=("a", "aa")),
        Hop(question="B?", answers=("b", "bb")),
        Hop(question="Did #1 meet #2 before #1?", answers=("yes",)),
    )
    wanted = [
        "Did a meet b before a?",
        "Did a meet bb before a?",
        "Did aa meet b before aa?",
        "Did aa meet bb before aa?",
    ]
    assert filled_sub_questions(hops, 2) == tuple(wanted)
    assert filled_sub_questions(hops, 2, max_variants=3) == tuple(wanted[:3])


def test_a_reference_to_nothing_is_left_out_and_ten_is_not_one() -> None:
    hops = (Hop(question="A?", answers=("one",)), Hop(question="Did #10 see #2 or #1?", answers=()))
    assert filled_sub_questions(hops, 1) == ("Did see or one?",)


def test_key_words_are_what_is_left_without_function_words() -> None:
    assert key_word_counts("Who is the founder of The Lomira, and the FOUNDER of it?") == Counter(founder=2, lomira=1)
    assert key_word_counts("who is it") == Counter()


@pytest.mark.parametrize(
    ("query", "reference", "wanted"),
    [
        ("founder lomira", "founder lomira", 1.0),
        ("founder", "founder lomira", 2 / 3),
        ("founder founder", "founder lomira", 0.5),
        ("founder town river", "founder lomira", 0.4),
        ("", "founder", 0.0),
        ("founder", "", 0.0),
        ("glacier", "founder", 0.0),
    ],
)
def test_f1_by_hand(query: str, reference: str, wanted: float) -> None:
    assert key_word_f1(Counter(query.split()), Counter(reference.split())) == pytest.approx(wanted)


def test_recall_by_hand() -> None:
    assert key_word_recall(Counter(["a", "a", "b", "c"]), Counter(["a", "b", "x", "y", "z"])) == 0.5
    assert key_word_recall(Counter(), Counter(["a"])) == 0.0
