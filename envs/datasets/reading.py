"""Reading a question file in the format that its name or content gives, or in one named by the user.

A format is a function `path -> iterable of Question`. `FORMATS` holds the built-in ones; `module:object` names one of
the user's own.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from agent.extension import load_object
from envs.datasets.jsonl import read_jsonl
from envs.datasets.lines import numbered_lines
from envs.datasets.question_error import QuestionError
from envs.question import Question

QuestionFormat = Callable[[Path], Iterable[Question]]

FORMATS: dict[str, QuestionFormat] = {"jsonl": read_jsonl}
_PACKED = {".gz", ".xz", ".zst"}


def read_questions(path: str | Path, format: str | None = None) -> list[Question]:
    """The questions of a file, in its order.

    `format` is a name in `FORMATS`, or `module:object` of a function `path -> iterable of Question`; None chooses by
    the file's name (`.jsonl`, then perhaps `.gz`, `.xz` or `.zst`), then by its first line.

    Raises:
        FileNotFoundError: there is no such file.
        QuestionError: an unknown file type, an empty file, a broken line or a repeated id, with file and line.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no question file at {path}; give the path of a .jsonl file (plain, .gz, .xz or .zst)")
    name = format if format is not None else _format_of(path)
    questions = list(load_object(name, kind="question format", builtins=FORMATS)(path))
    if not questions:
        raise QuestionError(path, 0, "the file has no questions; a question is one JSON object a line")
    return questions


def _format_of(path: Path) -> str:
    suffixes = [suffix for suffix in path.suffixes if suffix not in _PACKED]
    if suffixes and suffixes[-1] == ".jsonl":
        return "jsonl"
    number, line = next(numbered_lines(path), (0, "{"))
    if line.lstrip().startswith("{"):
        return "jsonl"
    known = ", ".join(sorted(FORMATS))
    message = f"neither name nor content is of a known format ({known}); a question is one JSON object a line"
    raise QuestionError(path, number, message)
