"""What the pages on retrieval say, read so that tests can hold it against the code."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = ("retrieval", "dense", "serving", "retrieval_quality", "wiki18", "install")


def page(name: str) -> str:
    """The text of docs/NAME.md."""
    return (REPOSITORY / "docs" / f"{name}.md").read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """A part of a page, from its heading to the next of the same depth."""
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def tables(text: str) -> list[list[list[str]]]:
    """Every table: its rows, the heading first, as cells without the marks of code."""
    found: list[list[list[str]]] = []
    inside = False
    for line in text.splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        if not inside:
            found.append([])
        inside = True
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not all(re.fullmatch(r"-+", cell) for cell in cells):
            found[-1].append(cells)
    return found


def table(text: str, *heading: str) -> list[list[str]]:
    """The rows of the one table whose heading begins with these cells."""
    [rows] = [rows for rows in tables(text) if rows[0][: len(heading)] == list(heading)]
    return rows[1:]


def coded(cell: str) -> list[str]:
    """What stands as code in a cell."""
    return re.findall(r"`([^`]*)`", cell)


def commands(text: str) -> list[list[str]]:
    """The commands of all bash blocks, and those in the running text that begin with a verb of ours."""
    lines = [line for block in blocks(text, "bash") for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`((?:waymark|python -m benchmarks\.)[^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    found = [shlex.split(line, comments=True) for line in lines]
    return [words for words in found if len(words) > 1 and (words[0] == "waymark" or words[:2] == ["python", "-m"])]


def exchanges(text: str) -> list[tuple[str, Any, int, Any]]:
    """The requests of the http blocks and their answers: `(path, body, status, answer)`."""
    found = []
    for block in blocks(text, "http"):
        match = re.fullmatch(r"POST (\S+)\n(.*?)\n\n(\d+)\n(.*)", block, re.DOTALL)
        assert match, f"not a request and an answer: {block}"
        found.append((match[1], json.loads(match[2]), int(match[3]), json.loads(match[4])))
    return found


def default_of(cell: str) -> Any:
    """A default as a table writes it: JSON, or a bare word."""
    try:
        return json.loads(cell)
    except ValueError:
        return cell
