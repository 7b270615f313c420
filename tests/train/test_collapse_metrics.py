"""What the watch reads of trajectories: if one of these figures is wrong, a collapse is not seen or is invented."""

from dataclasses import replace

import pytest

from agent.action import Action
from agent.trajectory import ToolCall, Trajectory, Turn
from envs.question import Question
from tests.train.fakes import trajectory, turn
from train.collapse_metrics import collapse_metrics, queries_of, repetition

QUESTIONS = {"q": Question(id="q", text="Where?", golden_answers=("Oskel",))}
NAN = float("nan")


def searched(*queries: str, thought: str = "") -> Turn:
    calls = tuple(ToolCall(tool="search", argument=q, hits=(), status="empty", latency_s=0.0) for q in queries)
    return replace(turn((4, 5), (6,)), action=Action(kind="call", thought=thought), calls=calls)


def answered(name: str, answer: str, *turns: Turn, logprob: float = -1.0) -> Trajectory:
    last = replace(turn((4, 5), logprobs=(logprob, logprob)), action=Action(kind="answer", answer=answer))
    return trajectory(name, [*turns, last])


def test_the_likelihood_of_right_answers_is_told_apart_from_that_of_all() -> None:
    right, wrong = answered("a", "the oskel", logprob=-0.2), answered("b", "Lomira", logprob=-2.0)
    values = collapse_metrics([right, wrong], QUESTIONS)
    assert values["logprob/correct"] == pytest.approx(-0.2)
    assert values["logprob/mean"] == pytest.approx(-1.1)
    assert values["logprob/num_correct"] == 1.0
    assert "logprob/correct" not in collapse_metrics([wrong], QUESTIONS), "no right answer: there is no mean, not 0"


def test_logprobs_that_an_engine_does_not_give_are_left_out() -> None:
    half = trajectory("a", [turn((4, 5), logprobs=(NAN, -0.5))])
    assert collapse_metrics([half], QUESTIONS)["logprob/mean"] == -0.5
    none = trajectory("b", [turn((4, 5), logprobs=(NAN, NAN))])
    assert "logprob/mean" not in collapse_metrics([none], QUESTIONS)


def test_repetition_counts_four_grams_that_stood_before() -> None:
    assert repetition([]) == repetition([1, 2, 3]) == 0.0
    assert repetition([7] * 13) == pytest.approx(0.9)
    assert repetition(list(range(13))) == 0.0


def test_a_policy_that_repeats_itself_is_seen_in_thoughts_and_in_tokens_that_are_no_thought() -> None:
    sane = answered("a", "Oskel", searched("x", thought="I need the town of the mayor of Lomira"))
    loops = answered("b", "Oskel", searched("x", thought="the town the town the town the town the town"))
    assert collapse_metrics([sane], QUESTIONS)["thoughts/repetition"] == 0.0
    assert collapse_metrics([loops], QUESTIONS)["thoughts/repetition"] > 0.3
    babble = replace(turn([9] * 24), action=Action(kind="invalid", error="no tag"))
    values = collapse_metrics([trajectory("c", [babble], finish="turn_limit")], QUESTIONS)
    assert values["actions/repetition"] > 0.9 and values["thoughts/words"] == 0.0


def test_queries_that_differ_in_case_or_punctuation_are_duplicates_inside_a_trajectory_alone() -> None:
    a = answered("a", "Oskel", searched("Who founded Lomira?"), searched("who founded lomira", "the seat of Oskel"))
    b = answered("b", "Oskel", searched("Who founded Lomira?"))
    assert queries_of(a) == ["who founded lomira", "who founded lomira", "seat of oskel"]
    assert collapse_metrics([a, b], QUESTIONS)["duplicate_query_rate"] == pytest.approx(1 / 4)
    assert "duplicate_query_rate" not in collapse_metrics([answered("c", "Oskel")], QUESTIONS)


def test_what_the_sampler_cut_is_no_missing_answer() -> None:
    kept, cut = answered("a", "Oskel"), trajectory("b", [turn((4, 5), (6,))], finish="cut")
    silent = trajectory("c", [turn((4, 5), (6,))], finish="turn_limit")
    assert collapse_metrics([kept, cut, silent], QUESTIONS)["answer_rate"] == 0.5


def test_a_step_without_a_trajectory_has_nothing_to_tell() -> None:
    assert collapse_metrics([], QUESTIONS) == {"logprob/num_correct": 0.0}
