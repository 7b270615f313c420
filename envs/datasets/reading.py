"""Reading questions in the format that their name or content gives, or in one named by the user.

A format is a function `path -> iterable of Question`. `FORMATS` holds the built-in ones; `module:object` names one of
the user's own. Most are formats of a row, whatever table it stands in (`envs.datasets.rows`) or whether it comes from
the hub (`envs.datasets.hub`); which one it is follows from the columns of the first row.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from agent.extension import load_object
from envs.datasets.beir import read_beir
from envs.datasets.hotpotqa import parse_hotpotqa
from envs.datasets.hub import hub_rows, hub_source
from envs.datasets.jsonl import parse_question, read_jsonl
from envs.datasets.lines import numbered_lines
from envs.datasets.musique import parse_musique
from envs.datasets.open_qa import parse_bamboogle, parse_nq, parse_popqa, parse_triviaqa
from envs.datasets.question_error import QuestionError
from envs.datasets.rows import SUFFIXES, Row, table_rows, table_suffix
from envs.datasets.training_rows import parse_training_row
from envs.datasets.two_wiki import parse_two_wiki
from envs.question import Question

QuestionFormat = Callable[[Path], Iterable[Question]]
RowFormat = Callable[[Row, int], Question]
"""`parse(row, number) -> Question`; raises ValueError."""

ROW_FORMATS: Mapping[str, RowFormat] = {
    "flashrag": lambda row, number: parse_question(row),
    "hotpotqa": parse_hotpotqa,
    "2wikimultihopqa": parse_two_wiki,
    "musique": parse_musique,
    "nq": parse_nq,
    "triviaqa": parse_triviaqa,
    "popqa": parse_popqa,
    "bamboogle": parse_bamboogle,
    "verl": parse_training_row,
    "skyrl": parse_training_row,
}


def row_format_of(row: Row) -> str | None:
    """The format that a row's columns tell, None where they tell none."""
    signs: tuple[tuple[str, bool], ...] = (
        ("verl", "reward_model" in row),
        ("skyrl", "reward_spec" in row),
        ("musique", "question_decomposition" in row or {"paragraphs", "answerable"} <= row.keys()),
        ("2wikimultihopqa", {"supporting_facts", "evidences"} <= row.keys()),
        ("hotpotqa", "supporting_facts" in row),
        ("triviaqa", "QuestionId" in row or isinstance(row.get("answer"), dict)),
        ("popqa", "possible_answers" in row),
        ("flashrag", {"id", "question"} <= row.keys() and not {"answer", "Answer"} & row.keys()),
        ("flashrag", "golden_answers" in row),
        ("bamboogle", {"Question", "Answer"} <= row.keys()),
        ("nq", {"question", "answer"} <= row.keys()),
    )
    return next((name for name, is_it in signs if is_it), None)


def read_questions(path: str | Path, format: str | None = None) -> list[Question]:
    """The questions of a file, of a BEIR folder, or of a data set of the hub (`OWNER/NAME:CONFIG:SPLIT`), in its order.

    `format` is a name in `FORMATS`, or `module:object` of a function `path -> iterable of Question`; None chooses by
    the file's name (`.json`, `.jsonl`, `.csv`, `.tsv`, `.parquet`; all but the last perhaps packed as `.gz`, `.xz` or
    `.zst`) and by the columns of its first row.

    Raises:
        FileNotFoundError: there is no such file.
        QuestionError: an unknown file type, an empty file, a broken line or a repeated id, with file and line.
        ValueError: the hub has no such data set, or cannot be reached.
    """
    source = hub_source(path)
    if source is not None:
        questions = list(_of_rows(Path(source.name), hub_rows(source), format))
        if not questions:
            raise QuestionError(source.name, 0, "the data set has no questions")
        return questions
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"no question file at {path}; give the path of a file ({', '.join(sorted(SUFFIXES))}, also packed as .gz, "
            ".xz or .zst), a BEIR folder, or a data set of the hub as OWNER/NAME:CONFIG:SPLIT"
        )
    name = format if format is not None else _format_of(path)
    questions = list(load_object(name, kind="question format", builtins=FORMATS)(path))
    if not questions:
        raise QuestionError(path, 0, "the file has no questions; a question is one JSON object a line")
    return questions


def _of_rows(path: Path, rows: Iterable[tuple[int, Row]], format: str | None) -> Iterator[Question]:
    """Rows of one table as questions; their format is the given one, or that of the first of them."""
    first_of: dict[str, int] = {}
    for number, row in rows:
        if format is None:
            format = row_format_of(row)
            if format is None:
                columns = ", ".join(sorted(map(str, row)))
                message = f"the columns ({columns}) are of no known format ({', '.join(sorted(ROW_FORMATS))}); name one"
                raise QuestionError(path, number, message)
        parse = load_object(format, kind="question format", builtins=ROW_FORMATS)
        try:
            question = parse(row, number)
        except ValueError as error:
            raise QuestionError(path, number, str(error)) from error
        if question.id in first_of:
            message = f"id {question.id!r} is already used in row {first_of[question.id]}; ids must be unique"
            raise QuestionError(path, number, message)
        first_of[question.id] = number
        yield question


def read_rows(path: Path, format: str | None = None) -> Iterator[Question]:
    """The questions of a table on this machine; see `ROW_FORMATS`."""
    return _of_rows(path, table_rows(path), format)


FORMATS: dict[str, QuestionFormat] = {
    "jsonl": read_jsonl,
    "beir": read_beir,
    **{name: partial(read_rows, format=name) for name in ROW_FORMATS},
}
"""By name. `jsonl` is this project's own, which FlashRAG's is a part of."""


def _format_of(path: Path) -> str:
    if path.is_dir():
        return "beir"
    suffix = table_suffix(path)
    if suffix == ".parquet":
        return _told_by(path)
    number, line = next(numbered_lines(path), (0, "{"))
    if suffix == ".jsonl" or (suffix not in SUFFIXES and line.lstrip().startswith("{")):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return "jsonl"  # whose error has the line
        told = row_format_of(row) if isinstance(row, dict) else None
        return "jsonl" if told in (None, "flashrag") else told
    if suffix in (".json", ".csv", ".tsv"):
        return _told_by(path)
    raise QuestionError(path, number, _UNKNOWN)


_UNKNOWN = (
    "neither name nor content is of a known format (beir, jsonl, "
    f"{', '.join(sorted(ROW_FORMATS))}); a question is one JSON object a line, or a row of a table"
)


def _told_by(path: Path) -> str:
    """The format that the first row of a table tells."""
    number, row = next(table_rows(path), (0, {"id": "", "question": ""}))
    told = row_format_of(row)
    if told is None:
        raise QuestionError(path, number, _UNKNOWN)
    return told
