"""Rows of a table of questions, whatever it is written in: JSON, JSON lines, comma or tab separated text, parquet.

A row is a mapping of column names; its number counts from 1 and stands in errors. Text files may be packed (.gz, .xz,
.zst). DPR's files (a question and a list of answers, tab separated, no header) are rows of `question` and `answer`.
"""

import ast
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from envs.datasets.lines import numbered_lines
from envs.datasets.question_error import QuestionError

Row = dict[str, Any]
PACKED = frozenset({".gz", ".xz", ".zst"})
SUFFIXES = frozenset({".json", ".jsonl", ".csv", ".tsv", ".parquet"})
_LISTS = ("Data", "data", "questions")
_BATCH = 1024


def table_suffix(path: Path) -> str:
    """What a file is written in, by its name without the packing: `.jsonl` for `dev.jsonl.gz`; "" where it has none."""
    suffixes = [suffix for suffix in path.suffixes if suffix not in PACKED]
    return suffixes[-1].lower() if suffixes else ""


def table_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """The rows of a file with their numbers, in its order.

    Raises:
        FileNotFoundError: there is no such file.
        QuestionError: it cannot be read as what its name says, or a row is no mapping.
    """
    readers = {".json": _json, ".csv": _separated, ".tsv": _separated, ".parquet": _parquet}
    for number, row in readers.get(table_suffix(path), _json_lines)(path):
        if not isinstance(row, dict):
            raise QuestionError(path, number, f"a question is an object, got {type(row).__name__}")
        yield number, row


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in numbered_lines(path):
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise QuestionError(path, number, f"not JSON ({error})") from None


def _json(path: Path) -> Iterator[tuple[int, Any]]:
    text = "\n".join(line for _, line in numbered_lines(path))
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("{") and "\n" in text:  # JSON lines under the name of JSON
            yield from _json_lines(path)
            return
        raise QuestionError(path, 0, f"not JSON ({error})") from None
    if isinstance(whole, dict):
        name = next((name for name in _LISTS if isinstance(whole.get(name), list)), None)
        whole = whole[name] if name else [whole]
    if not isinstance(whole, list):
        raise QuestionError(path, 0, f"questions are a list of objects, got {type(whole).__name__}")
    yield from enumerate(whole, start=1)


def _separated(path: Path) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(1 << 24)
    lines = [line for _, line in numbered_lines(path)]
    if not lines:
        return
    delimiter = "\t" if "\t" in lines[0] else ","
    rows = csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter)
    header = next(rows)
    if len(header) == 2 and header[1].lstrip().startswith("["):
        for number, cells in enumerate([header, *rows], start=1):
            yield number, {"question": cells[0], "answer": _listed(path, number, cells)}
        return
    for number, cells in enumerate(rows, start=2):
        if not cells:
            continue  # the end of the last line
        if len(cells) != len(header):
            raise QuestionError(path, number, f"{len(cells)} cells under {len(header)} columns")
        yield number, dict(zip(header, cells, strict=True))


def _listed(path: Path, number: int, cells: list[str]) -> list[str]:
    try:
        answers = ast.literal_eval(cells[1])
    except (ValueError, SyntaxError, IndexError, MemoryError, RecursionError):
        answers = None
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise QuestionError(path, number, "the second cell must be a list of texts, as in DPR's files")
    return answers


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow.parquet as parquet
    from pyarrow import ArrowException

    if not path.is_file():
        raise FileNotFoundError(f"no question file at {path}")
    try:
        number = 0
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (ArrowException, OSError) as error:
        raise QuestionError(path, 0, f"not a parquet file that can be read ({str(error).splitlines()[0]})") from error
