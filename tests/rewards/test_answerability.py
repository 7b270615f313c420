import math
from dataclasses import replace

import numpy as np
import pytest

from rewards.answerability import AnswerabilityReward
from rewards.bounds import Bounds
from rewards.reward import StatefulReward
from rewards.tfidf import TfIdf, cosine
from tests.rewards.builders import PASSAGES, QUESTION, answer, at_once, context, group, invalid, search, trajectory

FITTED = TfIdf.fit(p.contents for p in PASSAGES.values())
WRONG = answer("Lomira")


def score(*turns, question=QUESTION, **params) -> float:
    unit = group(trajectory(*turns, question=question))
    return float(AnswerabilityReward(context(), **params)(unit, {question.id: question}).outcome[0])


def similarity(query: str, passage: str) -> float:
    return cosine(FITTED.vector(query), FITTED.vector(PASSAGES[passage].contents))


def test_it_is_the_mean_over_turns_queries_and_passages() -> None:
    first, second, third = "founder of Lomira", "harbour town", "bridge"
    turns = at_once(search(["a", "x"], first), search(["c"], second)), search(["z"], third), WRONG
    one = (similarity(first, "a") + similarity(first, "x")) / 2
    expected = ((one + similarity(second, "c")) / 2 + similarity(third, "z")) / 2
    assert expected > 0.1
    assert score(*turns) == pytest.approx(0.5 * 0.2 * expected)
    assert score(*turns, share=1.0, schedule={"beta": 0.1}) == pytest.approx(0.1 * expected)


def test_only_the_first_passages_that_were_shown_count() -> None:
    turn = search(["x", "a"], "Lomira", hits=["c", "x", "a"])  # c was cut by the budget
    assert score(turn, WRONG, first_k=1) == pytest.approx(0.1 * similarity("Lomira", "x"))
    assert score(turn, WRONG) == pytest.approx(0.1 * (similarity("Lomira", "x") + similarity("Lomira", "a")) / 2)


def test_a_right_answer_is_not_shaped_and_never_worth_less_than_a_failure() -> None:
    assert score(search(["a"], "Lomira"), answer("Oskel")) == score(answer("Oskel")) == pytest.approx(0.1)
    assert score(search(["a"], "Lomira"), answer("Oskel"), pay_right=False) == 0.0
    assert score(search(["a"], PASSAGES["a"].contents), WRONG) <= score(answer("Oskel")) + 1e-12


def test_searching_without_result_is_nothing() -> None:
    assert score(search([], "Lomira"), WRONG) == 0.0
    assert score(WRONG) == 0.0
    assert score(invalid(), invalid()) == 0.0
    assert score(search(["a"], "Lomira"), answer(" ")) > 0.0


def test_honest_beats_repeating_the_easy_query_and_copying_what_was_read() -> None:
    honest = score(search(["a"], "who founded Lomira"), search(["b"], "where did Tavo Rinsel grow up"), WRONG)
    repeating = score(search(["a"], "who founded Lomira"), search(["a"], "who founded Lomira"), WRONG)
    copying = score(search(["a"], "who founded Lomira"), search(["a"], PASSAGES["a"].contents), WRONG)
    off_topic = score(search(["x", "y"], "who founded Lomira"), search(["z"], "where did the person grow up"), WRONG)
    assert honest > max(repeating, copying, off_topic)
    as_published = {"pay_repeats": True}
    published = score(search(["a"], "who founded Lomira"), search(["a"], PASSAGES["a"].contents), WRONG, **as_published)
    assert published > score(
        search(["a"], "who founded Lomira"), search(["b"], "where did Tavo Rinsel grow up"), WRONG, **as_published
    )


def test_outages_cut_candidates_and_missing_gold_have_none() -> None:
    turn = search(["a"], "Lomira")
    unit = group(
        trajectory(turn, finish="retrieval_outage"),
        trajectory(turn, finish="cut", sample=1),
        trajectory(turn, finish="turn_limit", sample=2),
    )
    outcome = AnswerabilityReward(context())(unit, {"q": QUESTION}).outcome
    assert np.isnan(outcome).tolist() == [True, True, False] and outcome[2] > 0
    assert math.isnan(score(turn, WRONG, question=replace(QUESTION, golden_answers=())))


def test_the_weight_falls_with_the_units_scored_and_survives_a_checkpoint() -> None:
    settings = {"units_per_step": 1, "warmup_steps": 1, "decay_steps": 4, "gated": False}
    unit, questions = group(trajectory(search(["a"], "Lomira"), WRONG)), {"q": QUESTION}
    reward = AnswerabilityReward(context(), schedule=settings)
    assert isinstance(reward, StatefulReward)
    values = [float(reward(unit, questions).outcome[0]) for _ in range(7)]
    assert values == sorted(values, reverse=True) and values[-1] == pytest.approx(values[0] / 10)
    again = AnswerabilityReward(context(), schedule=settings)
    again.load_state_dict(reward.state_dict())
    assert float(again(unit, questions).outcome[0]) == values[-1]


def test_bounds() -> None:
    reward = AnswerabilityReward(context())
    assert reward.bounds(correct=True, max_turns=4) == Bounds(low=0.01, high=0.1)
    source = AnswerabilityReward(context(), pay_right=False)
    assert source.bounds(correct=True, max_turns=4) == Bounds(low=0.0, high=0.0)
    assert reward.bounds(correct=False, max_turns=4) == Bounds(low=0.0, high=0.1)
    assert score(search(["a"], PASSAGES["a"].contents), WRONG) == pytest.approx(0.1)  # the bound is reached


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match="answerability: first_k must be a whole number >= 1"):
        AnswerabilityReward(context(), first_k=0)
    with pytest.raises(ValueError, match="answerability: pay_right must be true or false"):
        AnswerabilityReward(context(), pay_right=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="answerability: pay_repeats must be true or false"):
        AnswerabilityReward(context(), pay_repeats=1)  # type: ignore[arg-type]
    for schedule in (3, True, ["beta"]):
        with pytest.raises(ValueError, match="answerability: schedule must be settings such as"):
            AnswerabilityReward(context(), schedule=schedule)  # type: ignore[arg-type]
