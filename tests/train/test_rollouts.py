"""Which questions a step asks follows from (seed, step) alone: a resumed run asks what the killed one would have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.question import Question
from train.rollouts import QuestionOrder


def questions(n: int) -> list[Question]:
    return [Question(id=str(i), text=f"q{i}", golden_answers=("a",)) for i in range(n)]


@given(n=st.integers(1, 30), per_step=st.integers(1, 70), seed=st.integers(0, 5))
def test_every_epoch_asks_every_question_once(n: int, per_step: int, seed: int) -> None:
    order = QuestionOrder(questions(n), questions_per_step=per_step, seed=seed)
    steps = 2 * n // per_step + 2
    asked = [q.id for step in range(steps) for q in order.of_step(step)]
    for epoch in range(len(asked) // n):
        assert sorted(asked[epoch * n : (epoch + 1) * n], key=int) == [str(i) for i in range(n)]


def test_a_step_is_the_same_whatever_was_asked_before() -> None:
    a = QuestionOrder(questions(10), questions_per_step=4, seed=1)
    b = QuestionOrder(questions(10), questions_per_step=4, seed=1)
    for step in range(5):
        a.of_step(step)
    assert [q.id for q in a.of_step(7)] == [q.id for q in b.of_step(7)]


def test_another_seed_asks_in_another_order() -> None:
    def first(seed: int) -> list[str]:
        return [q.id for q in QuestionOrder(questions(50), questions_per_step=20, seed=seed).of_step(0)]

    assert first(0) != first(1)


def test_no_question_is_refused() -> None:
    with pytest.raises(ValueError, match="no question to train on"):
        QuestionOrder([], questions_per_step=1, seed=0)
