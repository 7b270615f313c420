"""Lines of a text file, packed or plain, as the file's name says: .gz, .xz, .zst, anything else is plain UTF-8."""

import gzip
import io
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import zstandard

from envs.datasets.question_error import QuestionError
from retrieval.lines import ZstdFrames


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8")
    if path.suffix == ".zst":
        return io.TextIOWrapper(io.BufferedReader(ZstdFrames(path.open("rb"))), encoding="utf-8")
    return path.open(encoding="utf-8")


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Every line that is not blank, with its number counted from 1.

    Raises:
        FileNotFoundError: there is no such file.
        QuestionError: the file is not UTF-8 text, or its compression is broken.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no question file at {path}; give the path of a .jsonl file (plain, .gz, .xz or .zst)")
    number = 0
    try:
        with _open(path) as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, line
    except UnicodeDecodeError as error:
        raise QuestionError(path, number + 1, f"not UTF-8 text ({error}); convert the file to UTF-8") from error
    except (OSError, EOFError, lzma.LZMAError, zstandard.ZstdError) as error:
        message = f"cannot be unpacked as {path.suffix or 'text'} ({error}); the file is cut off or has the wrong name"
        raise QuestionError(path, number + 1, message) from error
