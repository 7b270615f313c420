"""Rubrics from a file: JSON (an object keyed by question id) or JSON lines (objects with an `id`).

    {"id": "q7", "entities": {"E1": ["Tavo Rinsel", "T. Rinsel"]},
     "rubrics": [{"text": "<E1> founded Lomira", "mentions": ["Lomira"], "supporting_id": "p3"},
                 "<E1> grew up in <E0>"]}

`<E0>` is the answer: its names are the question's gold answers and are not repeated here. Every other entity that a
rubric uses has its names in `entities`. A rubric is a text, or an object with `text`, and if wanted `mentions` (names
in the text that the question gives) and `supporting_id` (the gold passage). In a `.json` file the question id is the
key and `id` is left out.
"""

import json
from pathlib import Path
from typing import Any

from rewards.rubric import ANSWER, PLACEHOLDER, Claim, Rubric

_KEYS = {"id", "entities", "rubrics"}


def read_rubrics(path: str | Path) -> dict[str, Rubric]:
    """The rubrics of a file by question id; those of the answer have no aliases yet.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not in the format; the message has the file, the line or question, what was found, and what
            is expected.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"the file of rubrics {path} does not exist")
    rubrics: dict[str, Rubric] = {}
    for where, question_id, row in _rows(path):
        if question_id in rubrics:
            raise ValueError(f"{where}: the question {question_id!r} has rubrics already; put them in one row")
        rubrics[question_id] = _rubric(row, where)
    if not rubrics:
        raise ValueError(f"{path}: the file has no rubrics")
    return rubrics


def _rows(path: Path) -> list[tuple[str, str, dict[str, Any]]]:
    text = path.read_text(encoding="utf-8")
    rows: list[tuple[str, str, dict[str, Any]]] = []
    if path.suffix == ".json":
        whole = _parsed(text, str(path))
        for key, row in whole.items():
            where = f"{path}: question {key!r}"
            rows.append((where, key, _object(row, where)))
        return rows
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            where = f"{path}:{number}"
            row = _parsed(line, where)
            if not isinstance(row.get("id"), str | int) or isinstance(row.get("id"), bool):
                raise ValueError(f"{where}: id must be the id of a question, got {row.get('id')!r}")
            rows.append((where, str(row["id"]), row))
    return rows


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        return _object(json.loads(text), where)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{where}: not valid JSON ({error}); a .jsonl file has one whole object per line, a .json file is one "
            "object keyed by question id"
        ) from None


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: must be an object with rubrics and entities, got {type(value).__name__}")
    return value


def _rubric(row: dict[str, Any], where: str) -> Rubric:
    unknown = sorted(set(row) - _KEYS)
    if unknown:
        raise ValueError(f"{where}: unknown keys {unknown}; there are {sorted(_KEYS)}")
    given = row.get("rubrics")
    if not isinstance(given, list) or not given:
        raise ValueError(f"{where}: rubrics must be a list with at least one rubric, got {given!r}")
    aliases = _aliases(row.get("entities", {}), where)
    claims = tuple(_claim(item, f"{where}: rubrics[{i}]") for i, item in enumerate(given))
    used = set().union(*(claim.entities for claim in claims))
    nameless = sorted(f"E{number}" for number in used - set(aliases) - {ANSWER})
    if nameless:
        raise ValueError(f"{where}: the rubrics use {', '.join(nameless)}, which have no names in entities")
    if ANSWER not in used:
        raise ValueError(
            f"{where}: no rubric speaks of <E0>, the answer, so none could ever count; write one that does"
        )
    return Rubric(claims=claims, aliases=aliases)


def _aliases(given: Any, where: str) -> dict[int, tuple[str, ...]]:
    aliases: dict[int, tuple[str, ...]] = {}
    for key, names in _object(given, f"{where}: entities").items():
        placeholder = PLACEHOLDER.fullmatch(f"<{key}>")
        if placeholder is None or int(placeholder[1]) == ANSWER:
            raise ValueError(f"{where}: entities are named E1, E2, ...; E0 is the answer; got {key!r}")
        if not names:
            raise ValueError(f"{where}: entities.{key} must have at least one name")
        aliases[int(placeholder[1])] = _texts(names, f"{where}: entities.{key}")
    return aliases


def _claim(item: Any, where: str) -> Claim:
    row = {"text": item} if isinstance(item, str) else item
    if not isinstance(row, dict) or set(row) - {"text", "mentions", "supporting_id"}:
        raise ValueError(f"{where}: must be a text or an object with text, mentions, supporting_id; got {item!r}")
    text, support = row.get("text"), row.get("supporting_id")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{where}: text must be a text that is not empty, got {text!r}")
    if support is not None and not isinstance(support, str):
        raise ValueError(f"{where}: supporting_id must be the id of a passage, got {support!r}")
    if not PLACEHOLDER.search(text):
        raise ValueError(f"{where}: {text!r} has no entity; write <E0> for the answer, <E1>, <E2>, ... for others")
    return Claim(text=text, mentions=_texts(row.get("mentions", []), f"{where}: mentions"), supporting_id=support)


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
        raise ValueError(f"{where} must be a list of texts that are not empty, got {value!r}")
    return tuple(value)
