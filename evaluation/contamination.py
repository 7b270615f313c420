"""Evaluation questions that stand, whole or in part, among training questions.

Four signs, from the surest to the weakest, each after normalisation (case, ASCII punctuation, articles and white space
do not count, as for exact match):

- `same_id`: one id in both files;
- `same_question`: the text, or a paraphrase, equals one of a training question (a hash of the normalised text);
- `same_question_and_answer`: and they share a golden answer, so that the answer itself has been trained on;
- `shared_ngrams`: share of the question's n-grams (13 words in GPT-3's check, Brown et al. 2020, and 8 in others) that
  stand in training questions. Questions made from templates share n-grams without sharing anything else: those that
  stand in more than `max_common` training questions do not count, the rule that GPT-3's check had for the same reason.

Only the evaluation side is held in memory as n-grams; training questions pass by it one at a time, and the texts of
those that share something are kept.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envs.question import Question
from rewards.answer import normalize_answer

DEFAULT_N = 8
DEFAULT_MAX_COMMON = 10
DEFAULT_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What one evaluation question shares with training questions.

    Attributes:
        row: its place among the evaluation questions. training_id: the training question that shares most; `training`
            its text.
        shared_ngrams: share of the question's n-grams that stand in any training question, 0 to 1, of `num_ngrams`; of
            several wordings the one with the largest share. shared_with_one: in the one that shares most.
        example: the longest run of words that lies in that training question, "" without one.
    """

    row: int
    question_id: str
    question: str
    training_id: str
    training: str
    same_id: bool
    same_question: bool
    same_question_and_answer: bool
    shared_ngrams: float
    shared_with_one: float
    num_ngrams: int
    example: str = ""

    def is_contaminated(self, share: float) -> bool:
        """True if the question itself is there, or so large a share of its n-grams in one training question."""
        return self.same_question or (self.shared_with_one > 0 and self.shared_with_one >= share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contamination:
    """What came of the check.

    Attributes:
        overlaps: every evaluation question that shows any sign, the surest first. question_ids: all of them.
        num_training: training questions looked at. num_too_short: questions of fewer than n words: their whole text is
            taken as the one n-gram.
        n, share, max_common: the settings. num_common: n-grams left out because they are a template's.
    """

    overlaps: tuple[Overlap, ...]
    question_ids: tuple[str, ...]
    num_training: int
    num_too_short: int
    num_common: int
    n: int
    share: float
    max_common: int

    @property
    def num_questions(self) -> int:
        """Evaluation questions looked at."""
        return len(self.question_ids)

    @property
    def contaminated(self) -> tuple[Overlap, ...]:
        """Those that are there, or by so large a share in one training question."""
        return tuple(one for one in self.overlaps if one.is_contaminated(self.share))

    @property
    def clean_ids(self) -> tuple[str, ...]:
        """Ids of the questions that are not contaminated."""
        dirty = {one.row for one in self.contaminated}
        return tuple(question_id for row, question_id in enumerate(self.question_ids) if row not in dirty)

    def record(self) -> dict[str, Any]:
        """Counts and settings as JSON types."""
        return {
            "num_questions": self.num_questions,
            "num_training": self.num_training,
            "n": self.n,
            "share": self.share,
            "max_common": self.max_common,
            "contaminated": len(self.contaminated),
            "same_id": sum(one.same_id for one in self.overlaps),
            "same_question": sum(one.same_question for one in self.overlaps),
            "same_question_and_answer": sum(one.same_question_and_answer for one in self.overlaps),
            "any_shared_ngram": sum(one.shared_ngrams > 0 for one in self.overlaps),
            "too_short": self.num_too_short,
            "common_ngrams": self.num_common,
        }


def check_contamination(
    questions: Sequence[Question],
    training: Iterable[Question],
    *,
    n: int = DEFAULT_N,
    share: float = DEFAULT_SHARE,
    max_common: int = DEFAULT_MAX_COMMON,
) -> Contamination:
    """Look for every evaluation question among the training questions.

    Args:
        n: words of an n-gram. share: of a question's n-grams in one training question, from which it is contaminated.
        max_common: an n-gram that stands in more training questions is a template's and counts for nothing.

    Raises:
        ValueError: no evaluation question, or a setting outside its range.
    """
    if not questions:
        raise ValueError("there is no evaluation question to look for; give at least one")
    if n < 1 or max_common < 1 or not 0.0 < share <= 1.0:
        raise ValueError(
            f"n is {n}, max_common {max_common} and share {share}; n and max_common are at least 1, share is in (0, 1]"
        )
    ids: dict[str, list[int]] = {}
    for row, question in enumerate(questions):
        ids.setdefault(question.id, []).append(row)
    wanted = _EvaluationSide(questions, n)
    same_ids: dict[int, tuple[str, str]] = {}
    exact: dict[int, tuple[Question, bool]] = {}
    places: dict[str, list[int]] = {}
    texts: dict[int, tuple[str, str]] = {}
    num_training = 0
    for number, trained in enumerate(training):
        num_training += 1
        for row in ids.get(trained.id, ()):
            same_ids.setdefault(row, (trained.id, trained.text))
        for row in wanted.rows_with_text(trained):
            shares_answer = bool(wanted.answers[row] & _answers(trained))
            if row not in exact or (shares_answer and not exact[row][1]):
                exact[row] = (trained, shares_answer)
        for ngram in wanted.ngrams_in(trained):
            found = places.setdefault(ngram, [])
            if len(found) <= max_common:
                found.append(number)
                texts[number] = (trained.id, trained.text)
    common = {ngram for ngram, found in places.items() if len(found) > max_common}
    overlaps = []
    for row, question in enumerate(questions):
        counting = [[g for g in own if g in places and g not in common] for own in wanted.of_row[row]]
        shared, own = max(
            zip(counting, wanted.of_row[row], strict=True),
            key=lambda pair: len(pair[0]) / len(pair[1]),
            default=([], []),
        )
        if not shared and row not in exact and row not in same_ids:
            continue
        closest, num_shared, example = _closest(shared, places)
        trained_id, trained_text = texts[closest] if closest is not None else same_ids.get(row, ("", ""))
        if row in exact:
            trained_id, trained_text = exact[row][0].id, exact[row][0].text
        overlaps.append(
            Overlap(
                row=row,
                question_id=question.id,
                question=question.text,
                training_id=trained_id,
                training=trained_text,
                same_id=row in same_ids,
                same_question=row in exact,
                same_question_and_answer=row in exact and exact[row][1],
                shared_ngrams=len(shared) / len(own) if own else 0.0,
                shared_with_one=num_shared / len(own) if own else 0.0,
                num_ngrams=len(own),
                example=example,
            )
        )
    overlaps.sort(key=lambda one: (-one.same_question_and_answer, -one.same_question, -one.shared_with_one, one.row))
    return Contamination(
        overlaps=tuple(overlaps),
        question_ids=tuple(question.id for question in questions),
        num_training=num_training,
        num_too_short=wanted.num_too_short,
        num_common=len(common),
        n=n,
        share=share,
        max_common=max_common,
    )


class _EvaluationSide:
    """Normalised texts, answers and n-grams of the evaluation questions; `of_row[row][wording]` are a wording's."""

    def __init__(self, questions: Sequence[Question], n: int) -> None:
        self._n = n
        self._rows: dict[str, list[int]] = {}
        self.answers = [_answers(question) for question in questions]
        self.of_row: list[list[list[str]]] = []
        self._wanted: set[str] = set()
        self._short: set[str] = set()
        self.num_too_short = 0
        for row, question in enumerate(questions):
            own: list[list[str]] = []
            for text in _wordings(question):
                words = text.split()
                rows = self._rows.setdefault(text, [])
                if row not in rows:
                    rows.append(row)
                if words and len(words) < n:
                    self._short.add(text)
                own.append(list(dict.fromkeys(_ngrams(words, n))))
                self._wanted.update(own[-1])
            self.num_too_short += len(_first(question).split()) < n
            self.of_row.append(own)

    def rows_with_text(self, trained: Question) -> set[int]:
        """Evaluation questions of which a wording equals one of a training question."""
        return {row for text in _wordings(trained) for row in self._rows.get(text, ())}

    def ngrams_in(self, trained: Question) -> set[str]:
        """N-grams of evaluation questions that stand in a training question; one too short only as the whole of it."""
        found: set[str] = set()
        for text in _wordings(trained):
            if text in self._short:
                found.add(text)
            found.update(ngram for ngram in _ngrams(text.split(), self._n) if ngram in self._wanted)
        return found


def _closest(shared: Sequence[str], places: Mapping[str, list[int]]) -> tuple[int | None, int, str]:
    """The training question with most of the shared n-grams, how many it has, and the longest run of them."""
    counts: dict[int, int] = {}
    for ngram in shared:
        for number in places[ngram]:
            counts[number] = counts.get(number, 0) + 1
    if not counts:
        return None, 0, ""
    closest = max(counts, key=lambda number: (counts[number], -number))
    best: list[str] = []
    run: list[str] = []
    for ngram in shared:  # in the order of the question: each next one moves on by a word
        words = ngram.split()
        if closest not in places[ngram]:
            run = []
        elif run and run[-len(words) + 1 :] == words[:-1] and len(words) > 1:
            run = [*run, words[-1]]
        else:
            run = words
        best = max(best, run, key=len)
    return closest, counts[closest], " ".join(best)


def _wordings(question: Question) -> Iterator[str]:
    """The question and its paraphrases, normalised, without empty ones."""
    for text in (question.text, *question.paraphrases):
        if normalised := normalize_answer(text):
            yield normalised


def _first(question: Question) -> str:
    return normalize_answer(question.text)


def _answers(question: Question) -> set[str]:
    return {normalised for answer in question.golden_answers if (normalised := normalize_answer(answer))}


def _ngrams(words: Sequence[str], n: int) -> Iterator[str]:
    """Runs of n words in order; of fewer words the whole."""
    if not words:
        return
    for start in range(max(1, len(words) - n + 1)):
        yield " ".join(words[start : start + n])
