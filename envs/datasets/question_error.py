"""The one error of the question readers: it names the file and the line."""

from pathlib import Path


class QuestionError(ValueError):
    """A question file, or one line of it, cannot be read. `path` and `line` (from 1; 0 is the file as a whole)."""

    def __init__(self, path: Path | str, line: int, message: str) -> None:
        where = f"{path}, line {line}" if line else str(path)
        super().__init__(f"{where}: {message}")
        self.path = Path(path)
        self.line = line
