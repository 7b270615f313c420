"""Which annotations a reward needs, and which of them a question lacks.

A reward names `Question` fields in `needs`. A field that is empty or None is not annotated. Before a run, the
composition's `check` refuses such questions; at score time their trajectories get NaN and are counted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Protocol, runtime_checkable

from agent.trajectory import NOT_THE_POLICYS_FAULT, Trajectory
from envs.question import Question

QUESTION_FIELDS: frozenset[str] = frozenset(field.name for field in fields(Question))

# Where the name in the dataset's file is another than the name in `Question`.
DATASET_FIELDS: dict[str, str] = {"hops": "decomposition", "text": "question"}


class MissingAnnotation(ValueError):
    """A reward needs an annotation that the questions lack."""


@runtime_checkable
class Selective(Protocol):
    """A reward that may have nothing to say of a question though the fields in `needs` are annotated."""

    def lacking(self, question: Question) -> str | None:
        """What the question lacks, in words, or None: "rubrics in rubrics.jsonl"."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """How many of `num_questions` lack `field`, or what `Selective.lacking` says, and the ids of the first few.

    source: where the questions were read, if it is known.
    """

    field: str
    count: int
    num_questions: int
    examples: tuple[str, ...]
    source: str | None = None

    def __str__(self) -> str:
        name = self.field
        if self.field in QUESTION_FIELDS:
            name = f"dataset field '{DATASET_FIELDS.get(self.field, self.field)}'"
        if self.field in DATASET_FIELDS:
            name += f" (Question.{self.field})"
        listed = ", ".join(self.examples) + (", ..." if self.count > len(self.examples) else "")
        of = f" of {self.source}" if self.source else ""
        return f"{name}, which {self.count} of {self.num_questions} questions{of} lack ({listed})"


def missing_fields(question: Question, needs: Iterable[str]) -> tuple[str, ...]:
    """Those of `needs` that are empty or None in this question, sorted.

    Raises:
        ValueError: a name in `needs` is not a field of `Question`.
    """
    names = sorted(needs)
    unknown = [name for name in names if name not in QUESTION_FIELDS]
    if unknown:
        raise ValueError(f"a reward needs {unknown}, which are not fields of Question: {sorted(QUESTION_FIELDS)}")
    return tuple(name for name in names if not getattr(question, name))


def find_lacks(
    questions: Iterable[Question],
    needs: Iterable[str],
    *,
    reward: object = None,
    source: str | None = None,
    num_examples: int = 3,
) -> list[Lack]:
    """One entry per needed field that at least one question lacks, in alphabetical order.

    Then what a reward that is `Selective` says of the questions that have all fields. `source` names the questions.
    """
    names = sorted(needs)
    lacking: dict[str, list[str]] = {name: [] for name in names}
    num_questions = 0
    for question in questions:
        num_questions += 1
        missing = missing_fields(question, names)
        for name in missing:
            lacking[name].append(question.id)
        if not missing and isinstance(reward, Selective) and (what := reward.lacking(question)):
            lacking.setdefault(what, []).append(question.id)
    return [
        Lack(field=name, count=len(ids), num_questions=num_questions, examples=tuple(ids[:num_examples]), source=source)
        for name, ids in lacking.items()
        if ids
    ]


def question_of(trajectory: Trajectory, questions: Mapping[str, Question]) -> Question:
    """The question that a trajectory answers.

    Raises:
        ValueError: its `question_id` is not among the questions.
    """
    try:
        return questions[trajectory.question_id]
    except KeyError:
        raise ValueError(
            f"trajectory {trajectory.id} answers question {trajectory.question_id!r}, which is not among the "
            f"{len(questions)} questions given; pass the questions that the episodes were made from"
        ) from None


def is_scorable(trajectory: Trajectory) -> bool:
    """True unless the episode ended through no fault of the policy: an outage is never scored, not even 0."""
    return trajectory.finish_reason not in NOT_THE_POLICYS_FAULT
