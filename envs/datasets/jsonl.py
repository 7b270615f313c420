"""The question format of this project: one JSON object a line.

`{id, question, golden_answers, supporting_ids, decomposition, paraphrases, type or kind, split, group, selection}`,
where only `id` and `question` must be there; ids may be texts or whole numbers. A step of `decomposition` is
`{question, answer, answers, supporting_id, depends_on, triple}`: `answer` is the first of `answers`, and enough where
there is one. `#k` in its question stands for the answer of step k (from 1) and gives `depends_on` (from 0) where that
is not written out. FlashRAG's `{id, question, golden_answers, metadata}` is a part of this format; keys that are not
named here are passed over.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from envs.datasets.lines import numbered_lines
from envs.datasets.question_error import QuestionError
from envs.question import Hop, Question

_REFERENCE = re.compile(r"#(\d+)")
_REQUIRED = ("id", "question")


def read_jsonl(path: Path) -> Iterator[Question]:
    """The questions of a jsonl file, in the order of its lines.

    Raises:
        FileNotFoundError: there is no such file.
        QuestionError: a line is not a JSON object of this format, or repeats an id; the message has file and line.
    """
    first_line_of: dict[str, int] = {}
    for number, line in numbered_lines(path):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise QuestionError(path, number, f"not JSON ({error.msg} at column {error.colno})") from error
        except (RecursionError, ValueError) as error:  # nested too deep, or a number too long to convert
            raise QuestionError(path, number, f"not a JSON object of this format ({error})") from None
        try:
            question = parse_question(row)
        except ValueError as error:
            raise QuestionError(path, number, str(error)) from error
        if question.id in first_line_of:
            message = f"id {question.id!r} is already used on line {first_line_of[question.id]}; ids must be unique"
            raise QuestionError(path, number, message)
        first_line_of[question.id] = number
        yield question


def parse_question(row: Any) -> Question:
    """One row of the format as a question.

    Raises:
        ValueError: the row has a missing or wrongly typed field; the message names it and says what is allowed.
    """
    if not isinstance(row, dict):
        raise ValueError(f"a question is a JSON object with {' and '.join(_REQUIRED)}, got {type(row).__name__}")
    missing = [key for key in _REQUIRED if row.get(key) in (None, "")]
    if missing:
        raise ValueError(f"missing {' and '.join(missing)}; the line has {', '.join(sorted(row)) or 'no keys'}")
    steps = row.get("decomposition")
    if steps is not None and not isinstance(steps, list):
        raise ValueError(f"decomposition must be a list of objects, got {type(steps).__name__}")
    return Question(
        id=_id(row["id"], "id"),
        text=_text(row, "question"),
        golden_answers=_texts(row, "golden_answers"),
        kind=_optional_text(row, "type" if row.get("type") is not None else "kind"),
        supporting_ids=_ids(row, "supporting_ids"),
        hops=tuple(_parse_hop(step, index) for index, step in enumerate(steps or ())),
        paraphrases=_wordings(row, "paraphrases"),
        split=_optional_text(row, "split"),
        split_group=_optional_text(row, "group"),
        selection=_optional_text(row, "selection"),
    )


def question_row(question: Question) -> dict[str, Any]:
    """The question as a row of the format; fields that are not annotated are left out. `parse_question` undoes it."""
    row: dict[str, Any] = {"id": question.id, "question": question.text}
    row["golden_answers"] = list(question.golden_answers)
    row["supporting_ids"] = list(question.supporting_ids)
    if question.hops:
        row["decomposition"] = [_hop_row(hop) for hop in question.hops]
    if question.paraphrases:
        row["paraphrases"] = list(question.paraphrases)
    optional = {"type": question.kind, "split": question.split, "group": question.split_group}
    optional["selection"] = question.selection
    return row | {key: value for key, value in optional.items() if value is not None}


def _hop_row(hop: Hop) -> dict[str, Any]:
    row: dict[str, Any] = {"question": hop.question}
    if hop.answers:
        row["answer"] = hop.answers[0]  # the key of the real data sets, for whoever reads these files as those
    row |= {"answers": list(hop.answers), "supporting_id": hop.supporting_id, "depends_on": list(hop.depends_on)}
    if hop.triple is not None:
        row["triple"] = list(hop.triple)
    return row


def _parse_hop(step: Any, index: int) -> Hop:
    where = f"decomposition[{index}]"
    if not isinstance(step, dict):
        raise ValueError(f"{where} must be an object with a question, got {type(step).__name__}")
    text = _text(step, "question", where)
    answers = _texts(step, "answers", where)
    if not answers and step.get("answer") is not None:
        answers = (_text(step, "answer", where),)
    support = step.get("supporting_id")
    triple = _texts(step, "triple", where)
    if triple and len(triple) != 3:
        raise ValueError(f"{where}.triple must be [subject, relation, object], got {len(triple)} items")
    return Hop(
        question=text,
        answers=answers,
        supporting_id=None if support is None else _id(support, f"{where}.supporting_id"),
        depends_on=_dependencies(step.get("depends_on"), text, index),
        triple=(triple[0], triple[1], triple[2]) if triple else None,
    )


def _dependencies(given: Any, text: str, index: int) -> tuple[int, ...]:
    if given is None:
        named = {int(number) - 1 for number in _REFERENCE.findall(text)}
        return tuple(sorted(k for k in named if 0 <= k < index))
    whole = isinstance(given, list) and all(isinstance(k, int) and not isinstance(k, bool) for k in given)
    if not whole or any(not 0 <= k < index for k in given):
        raise ValueError(f"decomposition[{index}].depends_on must list earlier steps, counted from 0, got {given!r}")
    return tuple(given)


def _text(row: dict[str, Any], key: str, where: str = "") -> str:
    name = f"{where}.{key}" if where else key
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be a text that is not empty, got {value!r}")
    return _characters(value, name)


def _optional_text(row: dict[str, Any], key: str, where: str = "") -> str | None:
    value = row.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"{where + '.' if where else ''}{key} must be a text or null, got {value!r}")
    return _characters(value, key)


def _texts(row: dict[str, Any], key: str, where: str = "") -> tuple[str, ...]:
    value = row.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{where + '.' if where else ''}{key} must be a list of texts, got {value!r}")
    return tuple(_characters(item, key) for item in value)


def _wordings(row: dict[str, Any], key: str) -> tuple[str, ...]:
    texts = _texts(row, key)
    if not all(text.strip() for text in texts):
        raise ValueError(f"{key} must be texts that are not empty, got {list(texts)!r}")
    return texts


def _ids(row: dict[str, Any], key: str) -> tuple[str, ...]:
    value = row.get(key)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueError(f"{key} must be a list of ids, got {value!r}")
    return tuple(_id(item, key) for item in value)


def _id(value: Any, name: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text or a whole number, got {value!r}")
    return _characters(value, name)


def _characters(text: str, name: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(
            rf"{name} holds half a surrogate pair (\ud800 to \udfff), which is no character; mend or drop it"
        ) from None
    return text
