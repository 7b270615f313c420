"""Lines of a store's `index.jsonl`, read as they are appended; one of a newer version is read as far as it is known."""

import json
from dataclasses import fields
from typing import Any

from evaluation.trajectory_segment import IndexEntry

_FIELDS = {field.name for field in fields(IndexEntry)} - {"segment"}
_TYPES: dict[str, type] = {"offset": int, "length": int, "id": str, "question_id": str, "step": int}
_TYPES |= {"finish_reason": str, "num_turns": int, "num_searches": int, "scalars": dict}
_LARGEST = 2**63 - 1
"""Of the integers that sqlite holds."""


def parse_line(line: bytes, segment: int) -> tuple[IndexEntry, list[str]]:
    """The entry of a line, and the names in it that this version does not know.

    Raises:
        ValueError: the line is damaged, or lacks what every version writes.
    """
    try:
        record: Any = json.loads(line.decode("utf-8", "surrogatepass"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError("not an object")
    for name, kind in _TYPES.items():
        if not isinstance(record.get(name), kind):
            raise ValueError(f"{name} is {record.get(name)!r:.80}, not of type {kind.__name__}")
        if kind is int and abs(record[name]) > _LARGEST:
            raise ValueError(f"{name} is a number of {len(str(record[name]))} digits")
    known = {name: record[name] for name in _FIELDS}
    if min(known["offset"], known["length"]) < 0:
        raise ValueError("a negative offset or length")
    return IndexEntry(**known, segment=segment), sorted(record.keys() - _FIELDS)
