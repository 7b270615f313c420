import math
from dataclasses import replace

import pytest

from rewards.judged_answer import JudgedAnswerReward
from tests.rewards.builders import QUESTION, answer, context, group, search, trajectory
from tests.rewards.fake_judge import FakeJudge


def score(*turns, finish=None, question=QUESTION, **params) -> float:
    unit = group(trajectory(*turns, finish=finish, question=question))
    return float(JudgedAnswerReward(context(), **params)(unit, {question.id: question}).outcome[0])


@pytest.mark.parametrize("text", ["Oskel", "the town of Oskel", "It was Oskel.", "Tavo Rinsel grew up in Oskel."])
def test_by_rules_an_answer_that_says_the_gold_is_right(text: str) -> None:
    assert score(answer(text)) == 1.0


@pytest.mark.parametrize(
    "cheat",
    [
        "not Oskel",
        "Lomira or Oskel",
        "Lomira, Vann, Oskel",
        "Lomira",
        "cannot be determined",
        "In which town did the founder of Lomira grow up?",
        " ",
        "Oskel is a harbour town where the river Vann meets the sea, and more of it.",
    ],
)
def test_cheats_are_wrong(cheat: str) -> None:
    assert score(search(["a"]), answer(cheat)) == 0.0


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Lomira", 1.0),
        ("It is Lomira.", 1.0),
        ("Lomira or Torvane", 0.0),
        ("Lomira, Torvane", 0.0),
        ("Both Lomira and Torvane", 0.0),
        ("Torvane is older than Lomira", 0.0),
        ("Torvane", 0.0),
    ],
)
def test_naming_both_sides_of_a_comparison_is_no_answer(text: str, right: float) -> None:
    question = replace(QUESTION, text="Which town is older, Lomira or Torvane?", golden_answers=("Lomira",))
    assert score(answer(text), question=question) == right
    judge = FakeJudge(lambda r: 1.0)  # one that would let it pass
    assert score(answer("Lomira or Torvane"), question=question, judge=judge) == 0.0


def test_or_may_stand_in_the_gold() -> None:
    question = replace(QUESTION, golden_answers=("the Trial or the Error",))
    assert score(answer("It is the Trial or the Error"), question=question, judge=FakeJudge(lambda r: 0.9)) == 0.9


def test_the_judge_is_asked_only_about_short_answers_that_are_no_exact_match() -> None:
    judge = FakeJudge(lambda r: 0.7)
    assert score(answer("the Oskel"), judge=judge) == 1.0
    assert score(search(["a"]), judge=judge) == score(answer(" "), judge=judge) == 0.0
    assert score(answer("word " * 12), judge=judge) == 0.0
    assert judge.asked == 0
    assert score(answer("word " * 11), judge=judge) == 0.7
    assert score(answer("word " * 12), judge=judge, max_extra_words=11) == 0.7
    assert [dict(r.fields) for r in judge.batches[0]] == [
        {"question": QUESTION.text, "answer": "word " * 11, "golds": ("Oskel",)}
    ]


def test_a_failed_verdict_is_nan_and_so_is_what_has_no_gold_or_outcome() -> None:
    failing = FakeJudge(lambda r: math.nan)
    assert math.isnan(score(answer("Lomira"), judge=failing))
    assert score(answer("Oskel"), judge=failing) == 1.0
    assert math.isnan(score(answer("Oskel"), question=replace(QUESTION, golden_answers=())))
    assert math.isnan(score(search(["a"]), finish="cut"))


def test_bad_parameters() -> None:
    with pytest.raises(ValueError, match="max_extra_words"):
        JudgedAnswerReward(context(), max_extra_words=-1)
    with pytest.raises(ValueError, match="judge"):
        JudgedAnswerReward(context(), judge=None)
    with pytest.raises(ValueError, match="judge"):
        JudgedAnswerReward(context(), judge={"kind": "oracle"})
