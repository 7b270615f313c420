"""Do the gold supports of the questions exist in the corpus? What is missing is counted and listed, never hidden."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from envs.question import Question
from retrieval.retriever import OpenRetriever

_LISTED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SupportCheck:
    """What `check_supports` found.

    `missing` has one `(question id, passage id)` for each support that the corpus lacks, in the order of the
    questions; `num_annotated` counts the questions that name any support at all.
    """

    num_questions: int
    num_annotated: int
    num_supports: int
    missing: tuple[tuple[str, str], ...]

    @property
    def ok(self) -> bool:
        """True if every named support is in the corpus."""
        return not self.missing

    @property
    def incomplete_questions(self) -> tuple[str, ...]:
        """Ids of the questions that lack at least one support, each once."""
        return tuple(dict.fromkeys(question_id for question_id, _ in self.missing))

    @property
    def missing_by_question(self) -> dict[str, list[str]]:
        """Every missing passage id, under the id of the question that names it: the whole list, ready for JSON."""
        listed: dict[str, list[str]] = {}
        for question_id, passage_id in self.missing:
            listed.setdefault(question_id, []).append(passage_id)
        return listed

    def message(self) -> str:
        """One paragraph for a person: how many supports are missing, the first of them, and what to do."""
        if self.ok:
            return f"all {self.num_supports} supports of {self.num_annotated} questions are in the corpus"
        first = ", ".join(f"{passage} (question {question})" for question, passage in self.missing[:_LISTED])
        rest = len(self.missing) - _LISTED
        return (
            f"{len(self.missing)} of {self.num_supports} supports are not in the corpus, in "
            f"{len(self.incomplete_questions)} of {self.num_questions} questions: {first}"
            f"{f' and {rest} more; evaluate-index --json lists all' if rest > 0 else ''}. Give the corpus that these "
            f"questions were made for, or drop the questions."
        )


def check_supports_in(retriever: OpenRetriever, questions: Sequence[Question]) -> SupportCheck:
    """`check_supports` against a retriever's corpus, asked for all supports at once: over HTTP that is few requests.

    Raises:
        RetrievalError: a server does not answer.
    """
    known = retriever.known_ids(support for question in questions for support in _supports(question))
    return check_supports(questions, known.__contains__)


def check_supports(questions: Iterable[Question], has_passage: Callable[[str], bool]) -> SupportCheck:
    """Look every gold support of every question (of the question and of its hops) up with `has_passage(id)`."""
    num_questions = num_annotated = num_supports = 0
    missing: list[tuple[str, str]] = []
    for question in questions:
        supports = _supports(question)
        num_questions += 1
        num_annotated += bool(supports)
        num_supports += len(supports)
        missing.extend((question.id, support) for support in supports if not has_passage(support))
    return SupportCheck(
        num_questions=num_questions, num_annotated=num_annotated, num_supports=num_supports, missing=tuple(missing)
    )


def _supports(question: Question) -> list[str]:
    hop_supports = [hop.supporting_id for hop in question.hops if hop.supporting_id is not None]
    return list(dict.fromkeys([*question.supporting_ids, *hop_supports]))
