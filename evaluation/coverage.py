"""What share of the questions a corpus can answer at all: the ceiling of any agent that searches it.

Two signs, each of a corpus and not of any search: it holds every gold support, and it holds the answer's words. The
second needs no annotation, and says less: a common word is somewhere in any corpus. So the answer is also looked for in
the question's own supports, where an agent that reads them would find it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.question import Question
from evaluation.significance import bootstrap_interval
from retrieval.passage import Passage
from rewards.answer import normalize_answer

CLOSED_ANSWERS = frozenset({"yes", "no", "noanswer"})
"""Answers that no passage states: their questions are left out where answer strings are counted."""

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What a corpus holds of each question; NaN where it does not apply.

    Attributes:
        question_ids: `[num_questions]`.
        per_question: `supports` (1 if the corpus holds every support), `answers` (1 if a golden answer stands in some
            passage), `answers_in_supports` (1 if it stands in one of the question's supports): `[num_questions]` each.
        summary: `coverage_NAME` for each of them, with `_low` and `_high` (95 % bootstrap), and `coverage_NAME_n`, the
            questions it applies to.
    """

    question_ids: tuple[str, ...]
    per_question: dict[str, NDArray[np.float64]]
    summary: dict[str, Any]


class AnswerStrings:
    """Looks for many answers at once in passages, as whole words after the normalisation of exact match.

    `Rome` is in "to Rome." and not in "Romeo"; the words of an answer must follow each other. Title and text are looked
    at apart. An answer without a word left (`The`, `!`) is nowhere.
    """

    def __init__(self, answers: Iterable[Words]) -> None:
        self._waiting: dict[str, set[Words]] = {}
        for words in answers:
            if words:
                self._waiting.setdefault(words[0], set()).add(words)

    def found_in(self, passage: Passage) -> set[Words]:
        """The answers that stand in a passage, normalised."""
        found: set[Words] = set()
        for text in (passage.title, passage.text):
            words = words_of(text)
            for place, word in enumerate(words):
                for answer in self._waiting.get(word, ()):
                    if words[place : place + len(answer)] == answer:
                        found.add(answer)
        return found

    def forget(self, answers: Iterable[Words]) -> None:
        """Look for these no longer."""
        for answer in answers:
            self._waiting[answer[0]].discard(answer)

    @property
    def answers(self) -> set[Words]:
        """What is still looked for."""
        return set().union(*self._waiting.values())


def words_of(text: str) -> Words:
    """The words of a text after the normalisation of exact match."""
    return tuple(normalize_answer(text).split())


def corpus_coverage(questions: Sequence[Question], corpus: Sequence[Passage], *, seed: int = 0) -> Coverage:
    """What the corpus holds of the questions, in one pass over its passages.

    `corpus` is a list of passages, or `Index.corpus`. Supports are those of a question and of its hops.

    Raises:
        ValueError: no question.
    """
    if not questions:
        raise ValueError("there is no question whose coverage could be measured")
    supports = [_supports(question) for question in questions]
    answers = [_answer_strings(question) for question in questions]
    supporting = set().union(*supports)
    every = set().union(*answers)
    in_supports, missing = AnswerStrings(every), AnswerStrings(every)
    in_passage: dict[str, set[Words]] = {}
    for row in range(len(corpus)):
        passage = corpus[row]
        if passage.id in supporting:
            in_passage[passage.id] = in_supports.found_in(passage)
        missing.forget(missing.found_in(passage))
    anywhere = every - missing.answers
    per_question = {
        "supports": _column(float(needed <= in_passage.keys()) if needed else None for needed in supports),
        "answers": _column(float(bool(options & anywhere)) if options else None for options in answers),
        "answers_in_supports": _column(
            float(any(options & in_passage.get(name, set()) for name in needed)) if options and needed else None
            for options, needed in zip(answers, supports, strict=True)
        ),
    }
    summary: dict[str, Any] = {}
    for name, values in per_question.items():
        applies = values[~np.isnan(values)]
        summary[f"coverage_{name}_n"] = len(applies)
        summary[f"coverage_{name}"] = float(applies.mean()) if len(applies) else None
        low, high = bootstrap_interval(values, seed=seed)
        summary[f"coverage_{name}_low"] = low if len(applies) else None
        summary[f"coverage_{name}_high"] = high if len(applies) else None
    return Coverage(
        question_ids=tuple(question.id for question in questions), per_question=per_question, summary=summary
    )


def _supports(question: Question) -> set[str]:
    hops = {hop.supporting_id for hop in question.hops if hop.supporting_id is not None}
    return hops | set(question.supporting_ids)


def _answer_strings(question: Question) -> set[Words]:
    """The golden answers that a passage could state, normalised."""
    words = {words_of(answer) for answer in question.golden_answers if normalize_answer(answer) not in CLOSED_ANSWERS}
    return words - {()}


def _column(values: Iterable[float | None]) -> NDArray[np.float64]:
    return np.asarray([np.nan if value is None else value for value in values], dtype=np.float64)
