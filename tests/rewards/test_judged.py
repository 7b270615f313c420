"""Rewards that ask a judge: once a unit, only about what can be scored, and a verdict goes where it was asked for."""

from dataclasses import replace

import numpy as np
import pytest

from agent.trajectory import FinishReason
from rewards.judge.judge import JudgeRequest
from rewards.judged import JudgedOutcomeReward, JudgedTurnReward, aggregated
from tests.rewards.builders import QUESTION, answer, group, search, trajectory
from tests.rewards.fake_judge import FakeJudge

ENDS: tuple[FinishReason, ...] = ("turn_limit", "retrieval_outage", "cut", "engine_failure", "token_limit")


def request(text: str) -> JudgeRequest:
    return JudgeRequest(criterion="nugget", fields={"text": text, "nugget": "n"})


class EachTurn(JudgedTurnReward):
    name = "each_turn"
    needs = frozenset({"golden_answers"})

    def __init__(self, judge) -> None:
        self.judge = judge

    def requests(self, trajectory, question):
        return [request(f"{trajectory.sample}.{t}") for t in range(trajectory.num_turns)]

    def turns(self, trajectory, question, verdicts):
        return np.array(verdicts if self.judge else [-1.0] * trajectory.num_turns)


class Last(JudgedOutcomeReward):
    name = "last"

    def __init__(self, judge) -> None:
        self.judge = judge

    def requests(self, trajectory, question):
        return [request(f"{trajectory.sample}.0")] * (trajectory.sample % 2)

    def outcome(self, trajectory, question, verdicts):
        return verdicts[0] if verdicts else -1.0


UNIT = group(*(trajectory(*[search(["a"])] * (i + 1), finish=end, sample=i) for i, end in enumerate(ENDS)))


def test_all_turns_of_a_unit_are_asked_about_at_once_outages_left_out() -> None:
    judge = FakeJudge(lambda r: float(r.fields["text"]) / 10)
    scores = EachTurn(judge)(UNIT, {"q": QUESTION})
    assert [len(batch) for batch in judge.batches] == [1 + 3 + 5]
    for i, end in enumerate(ENDS):
        wanted = (
            [np.nan] * (i + 1)
            if end in ("retrieval_outage", "engine_failure")
            else [(i + t / 10) / 10 for t in range(i + 1)]
        )
        np.testing.assert_allclose(scores.turn[i], wanted)
    assert np.isnan(scores.outcome).all()


def test_outcomes_do_not_ask_about_cut_candidates() -> None:
    judge = FakeJudge(lambda r: float(r.fields["text"]) / 10)
    unit = group(*(trajectory(answer("x"), sample=i) for i in range(4)), trajectory(search([]), finish="cut", sample=5))
    np.testing.assert_allclose(Last(judge)(unit, {"q": QUESTION}).outcome, [-1.0, 0.1, -1.0, 0.3, np.nan])
    assert judge.asked == 2


def test_without_a_judge_nothing_is_asked() -> None:
    assert EachTurn(None)(UNIT, {"q": QUESTION}).turn[0].tolist() == [-1.0]
    assert Last(None)(UNIT, {"q": QUESTION}).outcome[0] == -1.0


def test_a_judge_is_not_called_with_nothing_to_ask() -> None:
    judge = FakeJudge(lambda r: 1.0)
    EachTurn(judge)(group(trajectory(finish="token_limit")), {"q": QUESTION})
    assert judge.batches == []


def test_a_question_without_annotation_is_nan_and_not_asked_about() -> None:
    judge = FakeJudge(lambda r: 1.0)
    scores = EachTurn(judge)(UNIT, {"q": replace(QUESTION, golden_answers=())})
    assert all(np.isnan(turns).all() for turns in scores.turn) and judge.batches == []


def test_shares_of_a_mean_add_up_to_it() -> None:
    values = np.array([1.0, np.nan, 0.5, 0.0])
    assert np.nansum(aggregated(values, "mean")) == pytest.approx(np.nanmean(values))
    np.testing.assert_array_equal(aggregated(values, "sum"), values)
    assert np.isnan(aggregated(np.array([np.nan]), "mean")).all() and aggregated(np.array([]), "mean").size == 0
