"""The questions of an evaluation: read, selected, cut to a budget, and looked at for what would spoil a figure.

A budget takes a stratified sample: questions are grouped by kind and number of hops, each group gives its share
(largest remainders first), and what it gives is drawn with a seed. So a cheap evaluation has the mix of the whole.
"""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.datasets import question_row, read_questions
from envs.question import Question
from evaluation.retrieval_quality import select_questions
from rewards.answer import normalize_answer

_LISTED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionSet:
    """What is asked.

    Attributes:
        questions: in the order of the file.
        record: for the comparability block: `asked` (number and SHA-256 of the questions with their annotations), and
        how
            they were taken (`where`, `limit`, `budget`, `budget_seed`) as far as anything was asked for.
        counts: `num_duplicated_questions` and `num_without_golds`.
        warnings: what a reader of the figures should know.
    """

    questions: list[Question]
    record: dict[str, Any]
    counts: dict[str, int]
    warnings: tuple[str, ...]


def read_question_set(
    source: str | Path,
    format: str | None = None,
    *,
    where: Mapping[str, str] | None = None,
    limit: int | None = None,
    budget: int | None = None,
    seed: int = 0,
) -> QuestionSet:
    """Read a file (or a data set of the hub, see `envs.datasets`) and take what is asked for.

    Raises:
        FileNotFoundError, ValueError: as `read_questions` and `select_questions`, or a budget below 1.
    """
    questions = read_questions(source, format)
    if where:
        questions = select_questions(questions, where)
    questions = questions[:limit]
    if budget is not None:
        questions = stratified_sample(questions, budget, seed=seed)
    taken: dict[str, Any] = {"where": dict(where) if where else None, "limit": limit, "budget": budget}
    taken["budget_seed"] = seed if budget is not None else None
    asked = {"number": len(questions), "sha256": questions_hash(questions)}
    duplicated, empty, blank = duplicated_questions(questions), _without_golds(questions), _blank_golds(questions)
    return QuestionSet(
        questions=questions,
        record={"asked": asked, **{name: value for name, value in taken.items() if value is not None}},
        counts={"num_duplicated_questions": len(duplicated), "num_without_golds": len(empty)},
        warnings=(*_told_duplicates(duplicated), *_told_empty(empty, len(questions)), *_told_blank(blank)),
    )


def stratified_sample(questions: Sequence[Question], budget: int, *, seed: int = 0) -> list[Question]:
    """`budget` questions with the whole's mix of kinds and numbers of hops, in its order; all where there are fewer.

    Every group gives `budget * size / n`, rounded down, and those with the largest remainders one more; a tie goes to
    the larger group, then to the first by name. Who is drawn depends on the ids and the seed, not on the order of the
    file.

    Raises:
        ValueError: a budget below 1.
    """
    if budget < 1:
        raise ValueError(f"the budget is {budget} questions; it must be at least 1")
    if budget >= len(questions):
        return list(questions)
    groups: dict[tuple[str, int], list[Question]] = {}
    for question in questions:
        groups.setdefault((question.kind or "", len(question.hops)), []).append(question)
    shares = {name: budget * len(members) / len(questions) for name, members in groups.items()}
    quota = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(groups, key=lambda name: (quota[name] - shares[name], -len(groups[name]), name))
    for name in by_remainder[: budget - sum(quota.values())]:
        quota[name] += 1
    chosen: set[str] = set()
    for name, members in groups.items():
        ids = sorted(question.id for question in members)
        chosen.update(random.Random(f"{seed}/{name[0]}/{name[1]}").sample(ids, quota[name]))
    return [question for question in questions if question.id in chosen]


def questions_hash(questions: Sequence[Question]) -> str:
    """SHA-256 over the questions with their annotations, by id: the order of a file does not matter."""
    digest = hashlib.sha256()
    for question in sorted(questions, key=lambda question: question.id):
        digest.update(json.dumps(question_row(question), sort_keys=True, ensure_ascii=False).encode())
    return digest.hexdigest()


def duplicated_questions(questions: Sequence[Question]) -> list[str]:
    """Ids of the questions that ask, normalised as answers are, what an earlier one with the same golds asks."""
    seen: set[tuple[str, tuple[str, ...]]] = set()
    repeated = []
    for question in questions:
        golds = tuple(sorted({normalize_answer(answer) for answer in question.golden_answers}))
        key = (normalize_answer(question.text), golds)
        if key in seen:
            repeated.append(question.id)
        seen.add(key)
    return repeated


def _without_golds(questions: Sequence[Question]) -> list[str]:
    return [question.id for question in questions if not question.golden_answers]


def _blank_golds(questions: Sequence[Question]) -> list[str]:
    return [
        question.id
        for question in questions
        if question.golden_answers and not all(map(normalize_answer, question.golden_answers))
    ]


def _first(ids: Sequence[str]) -> str:
    return f"{', '.join(ids[:_LISTED])}{' ...' if len(ids) > _LISTED else ''}"


def _told_duplicates(ids: Sequence[str]) -> list[str]:
    if not ids:
        return []
    return [
        f"{len(ids)} questions repeat another ({_first(ids)}): each is asked and counted, so intervals are a bit too "
        "narrow; drop them from the file"
    ]


def _told_empty(ids: Sequence[str], asked: int) -> list[str]:
    if not ids:
        return []
    if len(ids) == asked:
        return [f"none of {asked} questions has golden answers: EM, F1 and SubEM do not apply"]
    return [
        f"{len(ids)} of {asked} questions have no golden answers ({_first(ids)}): they do not count in EM, F1, SubEM"
    ]


def _told_blank(ids: Sequence[str]) -> list[str]:
    if not ids:
        return []
    return [
        f"{len(ids)} questions have a golden answer of which normalisation leaves nothing ({_first(ids)}): "
        "any answer of articles and punctuation alone matches it, as in the official scorer"
    ]
