"""A corpus of five passages: two alike, one without a title, one without a word."""

import json
from pathlib import Path

ROWS = [
    {"id": "cat", "title": "Cats", "text": "Cats sleep all day long."},
    {"id": "dog", "title": "Dogs", "text": "Dogs chase cats in Zürich."},
    {"id": "car", "title": "", "text": "Cars are fast."},
    {"id": "cat-2", "title": "Cats", "text": "Cats sleep all day long."},
    {"id": "empty", "title": "", "text": ""},
]

SPARSE = ("bm25s", "rank_bm25")
"""The backends that need neither an encoder nor Java."""


def write_rows(path: Path, rows: list[dict[str, str]] = ROWS) -> Path:
    """Write a corpus file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
