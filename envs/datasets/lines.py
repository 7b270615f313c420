"""Numbered lines of a question file: a corpus's reader of lines, with the question reader's error."""

from collections.abc import Iterator
from pathlib import Path

from envs.datasets.question_error import QuestionError
from retrieval.lines import CorpusError, NumberedLines


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Every line that is not blank, with its number counted from 1; packed files are known by .gz, .xz or .zst.

    Raises:
        FileNotFoundError: there is no such file.
        QuestionError: the file is not UTF-8 text, or its compression is broken.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no question file at {path}; give the path of a .jsonl file (plain, .gz, .xz or .zst)")
    try:
        yield from NumberedLines(path)
    except CorpusError as error:
        raise QuestionError(path, error.line, str(error).removeprefix(f"{path}, line {error.line}: ")) from error
