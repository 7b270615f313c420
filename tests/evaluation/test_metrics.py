"""The figures that every claim rests on: hand-counted episodes, outages apart, and means that leave out what does not
apply."""

import json
import math
from dataclasses import replace

import pytest

from envs.question import Question
from evaluation.metrics import METRICS, episode_figures, evaluate_trajectories
from tests.evaluation.episodes import QUESTION, answer_turn, good_trajectory, search_turn, trajectory

OTHER = Question(id="q2", text="Which city lies by the sea?", golden_answers=("Bergen",))


def test_a_hand_counted_episode() -> None:
    figures = episode_figures(good_trajectory(), QUESTION)
    assert figures == {
        "em": 1.0,
        "f1": 1.0,
        "subem": 1.0,
        "support_recall": 1.0,
        "citation_precision": 1.0,
        "citation_recall": 1.0,
        "searches_per_question": 2.0,
        "turns_per_question": 3.0,
        "tokens_per_question": 18.0,
        "sampled_tokens_per_question": 8.0,
        "observed_tokens_per_question": 10.0,
        "em_without_outages": 1.0,
        "support_em": 1.0,
        "support_f1": 1.0,
        "joint_em": 1.0,
        "joint_f1": 1.0,
        "over_citation": 0.0,
        "abstention": 0.0,
        "best_possible_em": 1.0,
        "duplicate_searches_per_question": 0.0,
        "input_tokens_per_question": 13.0,
    }


def test_citations_count_distinct_passages_and_numbers_never_shown() -> None:
    turns = (search_turn("Oslo", [(1, "p1"), (2, "p3")]), answer_turn("Harald", [2, 2, 1, 9]))
    figures = episode_figures(trajectory(*turns), QUESTION)
    assert figures["support_recall"] == 0.5
    assert figures["citation_precision"] == pytest.approx(1 / 3)
    assert figures["citation_recall"] == 0.5


def test_a_support_found_but_cut_from_the_observation_was_not_seen() -> None:
    turn = search_turn("Oslo", [(1, "p1"), (2, "p2")])
    cut = replace(turn, shown=turn.shown[:1])
    assert episode_figures(trajectory(cut, answer_turn("Harald")), QUESTION)["support_recall"] == 0.5


def test_without_an_answer_nothing_is_right() -> None:
    figures = episode_figures(trajectory(search_turn("Oslo", [(1, "p1")]), finish_reason="turn_limit"), QUESTION)
    assert (figures["em"], figures["f1"], figures["citation_precision"], figures["citation_recall"]) == (0, 0, 0, 0)
    assert figures["support_recall"] == 0.5


def test_what_is_not_annotated_or_not_in_the_protocol_does_not_apply() -> None:
    figures = episode_figures(trajectory(answer_turn("Bergen"), question_id="q2"), OTHER)
    assert all(math.isnan(figures[name]) for name in ("support_recall", "citation_precision", "citation_recall"))
    plain_protocol = episode_figures(good_trajectory(), QUESTION, citations=False)
    assert math.isnan(plain_protocol["citation_recall"])
    assert plain_protocol["support_recall"] == 1.0


def test_means_intervals_and_finish_reasons_over_questions() -> None:
    evaluation = evaluate_trajectories(
        [good_trajectory(), trajectory(answer_turn("Oslo"), id="t2", question_id="q2")], [QUESTION, OTHER]
    )
    summary = evaluation.summary
    assert evaluation.question_ids == ("q1", "q2")
    assert evaluation.per_question["em"].tolist() == [1.0, 0.0]
    assert summary["n"] == 2
    assert summary["em"] == 0.5
    assert (summary["em_low"], summary["em_high"]) == (0.0, 1.0)
    assert summary["support_recall"] == 1.0
    assert summary["finish_reasons"]["answered"] == 2
    for name in METRICS:
        assert {name, f"{name}_low", f"{name}_high"} <= set(summary)


def test_samples_of_one_question_are_averaged_before_the_mean() -> None:
    wrong = [trajectory(answer_turn("no"), id=f"w{i}") for i in range(3)]
    right = trajectory(answer_turn("Bergen"), id="r", question_id="q2")
    evaluation = evaluate_trajectories([good_trajectory(), *wrong, right], {"q1": QUESTION, "q2": OTHER})
    assert evaluation.per_question["em"].tolist() == [0.25, 1.0]
    assert evaluation.summary["em"] == 0.625
    assert evaluation.summary["num_trajectories"] == 5


def test_an_outage_counts_as_wrong_and_stands_apart() -> None:
    outage = trajectory(search_turn("x", []), id="o", question_id="q2", finish_reason="retrieval_outage")
    summary = evaluate_trajectories([good_trajectory(), outage], [QUESTION, OTHER]).summary
    assert summary["em"] == 0.5
    assert summary["em_without_outages"] == 1.0
    assert summary["num_outages"] == 1
    assert summary["finish_reasons"]["retrieval_outage"] == 1


def test_the_record_is_strict_json() -> None:
    evaluation = evaluate_trajectories([trajectory(answer_turn("x"), question_id="q2")], [OTHER])
    record = json.loads(json.dumps(evaluation.record(), allow_nan=False))
    assert record["support_recall"] is None
    assert record["support_recall_low"] is None
    assert record["per_question"]["em"] == [0.0]


def test_bad_input_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="not among the 1 questions given"):
        evaluate_trajectories([good_trajectory()], [OTHER])
    with pytest.raises(ValueError, match="at least one question"):
        evaluate_trajectories([], [QUESTION])
