"""`name=value` options of the verbs, checked and taken apart."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml


def parse_assignments(texts: Sequence[str], *, option: str) -> dict[str, str]:
    """`["k1=0.9"]` as `{"k1": "0.9"}`.

    Raises:
        ValueError: a text without `=`, or a name given twice.
    """
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"{option} got {text!r}; write {option} name=value")
        if name in values:
            raise ValueError(f"{option} got {name!r} twice; give it once")
        values[name] = value
    return values


def parse_shares(text: str, *, option: str) -> tuple[float, ...]:
    """`"0,0.25"` as `(0.0, 0.25)`; an empty text is none.

    Raises:
        ValueError: something between the commas is no number.
    """
    try:
        return tuple(float(share) for share in text.split(",")) if text.strip() else ()
    except ValueError:
        raise ValueError(f"{option} got {text!r}; write shares separated by commas, for example 0,0.25,0.5") from None


def nested(values: Mapping[str, str]) -> dict[str, Any]:
    """Dotted names as nested dicts, values read as YAML scalars: `{"a.b": "1"}` is `{"a": {"b": 1}}`.

    Raises:
        ValueError: a value is not YAML, or a name is both a value and a parent.
    """
    result: dict[str, Any] = {}
    for name, text in values.items():
        *parents, last = name.split(".")
        level = result
        for parent in parents:
            level = level.setdefault(parent, {})
            if not isinstance(level, dict):
                raise ValueError(f"{name}={text}: {parent} already has a value")
        try:
            level[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ValueError(f"{name}={text}: the value is not YAML; quote it") from None
    return result
