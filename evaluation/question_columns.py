"""What an evaluation file says of every question beside its figures, so that the file can be read by itself.

A comparison months later has the file and perhaps not the questions: texts, golden answers, types and hops stand in it,
and so do the answers given and how the episodes ended. All are columns over the questions, like the figures.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from agent.trajectory import Trajectory
from envs.question import Question

TEXT_COLUMNS: tuple[str, ...] = (
    "question_id",
    "question",
    "golden_answers",
    "kind",
    "num_hops",
    "supporting_ids",
    "answers",
    "finish_reasons",
)
"""Columns of `per_question` that hold no figure."""


def question_columns(
    question_ids: Sequence[str],
    questions: Sequence[Question] | Mapping[str, Question],
    trajectories: Sequence[Trajectory] = (),
) -> dict[str, list[Any]]:
    """Columns over `question_ids`: `question`, `golden_answers`, `kind`, `num_hops` (None where not annotated),
    `supporting_ids`, and of the trajectories `answers` and `finish_reasons`, a list for each question, one entry a
    sample in the order given.

    Raises:
        KeyError: an id that is not among `questions`.
    """
    by_id = dict(questions) if isinstance(questions, Mapping) else {question.id: question for question in questions}
    asked = [by_id[question_id] for question_id in question_ids]
    answers: dict[str, list[str | None]] = {question_id: [] for question_id in question_ids}
    reasons: dict[str, list[str]] = {question_id: [] for question_id in question_ids}
    for trajectory in trajectories:
        if trajectory.question_id in answers:
            answers[trajectory.question_id].append(trajectory.final_answer)
            reasons[trajectory.question_id].append(trajectory.finish_reason)
    return {
        "question": [question.text for question in asked],
        "golden_answers": [list(question.golden_answers) for question in asked],
        "kind": [question.kind for question in asked],
        "num_hops": [len(question.hops) or None for question in asked],
        "supporting_ids": [list(question.supporting_ids) for question in asked],
        "answers": list(answers.values()),
        "finish_reasons": list(reasons.values()),
    }
