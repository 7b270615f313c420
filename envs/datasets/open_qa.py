"""Question sets that are questions and answers alone: NQ-open, TriviaQA, PopQA and Bamboogle, in their own files.

NQ-open: jsonl of `question` and a list `answer` (DPR's tab-separated files too). TriviaQA: `Data` with `Answer.Value`,
`Answer.Aliases` and, in its verified part, `Answer.HumanAnswers` (all are golds, as in its scorer). PopQA: a
tab-separated file with `possible_answers` as JSON; `prop` is the kind. Bamboogle: columns `Question` and `Answer`. What
has no id gets one from its place in the file.
"""

from envs.datasets.row_fields import distinct, id_of, text_of, texts_of, unpacked
from envs.datasets.rows import Row
from envs.question import Question

_TRIVIAQA_GOLDS = (
    *("Value", "Aliases", "NormalizedAliases", "HumanAnswers"),
    *("value", "aliases", "normalized_aliases", "human_answers"),
)


def parse_nq(row: Row, number: int) -> Question:
    """One row of NQ-open.

    Raises:
        ValueError: a column is missing or holds something else.
    """
    return Question(
        id=id_of(row, "id", "example_id", otherwise=f"nq-{number:05d}"),
        text=text_of(row, "question"),
        golden_answers=distinct(texts_of(row.get("answer"), "answer")),
    )


def parse_triviaqa(row: Row, number: int) -> Question:
    """One row of TriviaQA, in its own spelling or the hub's.

    Raises:
        ValueError: a column is missing or holds something else.
    """
    answer = row.get("Answer") or row.get("answer") or {}
    if not isinstance(answer, dict):
        raise ValueError(f"Answer must be an object with Value and Aliases, got {answer!r}")
    golds: list[str] = []
    for name in _TRIVIAQA_GOLDS:
        golds += texts_of(answer.get(name), f"Answer.{name}")
    return Question(
        id=id_of(row, "QuestionId", "question_id", otherwise=f"triviaqa-{number:05d}"),
        text=text_of(row, "Question", "question"),
        golden_answers=tuple(gold for gold in distinct(golds) if gold != "<unk>"),
    )


def parse_popqa(row: Row, number: int) -> Question:
    """One row of PopQA.

    Raises:
        ValueError: a column is missing or holds something else.
    """
    answers = unpacked(row.get("possible_answers"), "possible_answers")
    return Question(
        id=f"popqa-{id_of(row, 'id', otherwise=f'{number:05d}')}",
        text=text_of(row, "question"),
        golden_answers=distinct(texts_of(answers, "possible_answers")),
        kind=row.get("prop") or None,
    )


def parse_bamboogle(row: Row, number: int) -> Question:
    """One row of Bamboogle.

    Raises:
        ValueError: a column is missing or holds something else.
    """
    return Question(
        id=id_of(row, "id", otherwise=f"bamboogle-{number:03d}"),
        text=text_of(row, "Question", "question"),
        golden_answers=distinct(texts_of(row.get("Answer") or row.get("answer"), "Answer")),
    )
