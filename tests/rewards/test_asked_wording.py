"""A policy that was asked in other words is judged by the words that it was asked in."""

from dataclasses import replace

import numpy as np
import pytest

from agent.trajectory import Turn, Unit
from rewards.document_relevance import DocumentRelevanceReward
from rewards.judged_answer import JudgedAnswerReward
from rewards.judgement import JudgementReward
from rewards.principles import PrinciplesReward
from rewards.step_quality import StepQualityReward
from tests.rewards.builders import QUESTION, answer, context, group, search, trajectory
from tests.rewards.fake_judge import FakeJudge

QUESTIONS = {QUESTION.id: QUESTION}


def asked_under(view: int, *turns: Turn) -> Unit:
    return group(replace(trajectory(*turns), view=view))


@pytest.mark.parametrize(("view", "kept"), [(0, 4), (1, 5)])  # without facts to extract there are five principles
def test_a_thought_is_relevant_to_the_wording_that_was_asked(view: int, kept: int) -> None:
    unit = asked_under(view, search(["a"], "founder of Lomira", thought="whose youth?"))
    assert PrinciplesReward(context())(unit, QUESTIONS).turn[0][0] == pytest.approx(kept / 5)


@pytest.mark.parametrize(("view", "think"), [(0, 0.0), (1, 1.0)])
def test_a_name_of_the_wording_is_not_invented(view: int, think: float) -> None:
    question = replace(QUESTION, paraphrases=("Where did the founder of Lomira, the Jewel of Vann, grow up?",))
    unit = asked_under(view, search(["x"], "founder of Lomira", thought="Lomira, the Jewel of Vann: who founded it?"))
    assert StepQualityReward(context())(unit, {question.id: question}).turn[0][0] == think


@pytest.mark.parametrize(
    ("reward", "params"),
    [
        (PrinciplesReward, {}),
        (StepQualityReward, {}),
        (DocumentRelevanceReward, {}),
        (JudgementReward, {"label": "answer", "required": True}),
        (JudgedAnswerReward, {}),
    ],
)
def test_a_judge_is_told_the_wording_that_was_asked(reward: type, params: dict[str, object]) -> None:
    judge = FakeJudge(lambda request: 1.0)
    turns = (search(["a"], "founder of Lomira", thought="Who founded Lomira?"), answer("Oskel town", thought="Oskel."))
    reward(context(), judge=judge, **params)(asked_under(2, *turns), QUESTIONS)
    (asked,) = judge.batches
    assert {request.fields["question"] for request in asked} == {QUESTION.paraphrases[1]}


def test_who_compares_has_to_name_the_winner_of_the_wording_that_was_asked() -> None:
    question = replace(
        QUESTION,
        text="Which is older, the first?",
        golden_answers=("Oskel",),
        paraphrases=("Is Oskel or Lomira older?",),
    )
    judge = FakeJudge(lambda request: 1.0)
    reward = JudgedAnswerReward(context(), judge=judge)
    outcomes = [
        reward(asked_under(view, answer("Oskel is older than Lomira")), {question.id: question}).outcome
        for view in (0, 1)
    ]
    np.testing.assert_array_equal(outcomes, [[1.0], [0.0]])
