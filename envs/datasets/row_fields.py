"""Fields of an official row, checked: each says which column was wrong and what it should hold."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def text_of(row: Mapping[str, Any], *names: str) -> str:
    """The first of these columns that is there, as a text that is not empty.

    Raises:
        ValueError: none is there, or it holds something else.
    """
    name = next((name for name in names if row.get(name) is not None), None)
    if name is None:
        raise ValueError(
            f"missing {' or '.join(names)}; the row has {', '.join(sorted(map(str, row))) or 'no columns'}"
        )
    value = row[name]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be a text that is not empty, got {value!r}")
    return value.strip()


def id_of(row: Mapping[str, Any], *names: str, otherwise: str) -> str:
    """The first of these columns that is there, a text or a whole number; `otherwise` where none is."""
    for name in names:
        value = row.get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value):
            return str(value)
    return otherwise


def texts_of(value: Any, name: str) -> tuple[str, ...]:
    """A list of texts, or one text; None is no text.

    Raises:
        ValueError: it is something else.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{name} must be a text or a list of texts, got {value!r}")
    return tuple(value)


def unpacked(value: Any, name: str) -> Any:
    """A value that some copies of a data set hold as JSON in a text.

    Raises:
        ValueError: a text that is not JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError(f"{name} must be a list, or JSON of one, got {value!r}") from None


def distinct(texts: Iterable[str]) -> tuple[str, ...]:
    """Each text once, in order, blank ones left out."""
    return tuple(dict.fromkeys(text for text in texts if text.strip()))
