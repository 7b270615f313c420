"""What differs between the settings that something was made with and those that are asked for, leaf by leaf.

Both sides are plain JSON types with every default filled in, so that a field which is newer than what was made differs
only where its default is not what is asked for.
"""

from collections.abc import Iterator
from typing import Any

from train.config_file import ConfigError

SHOWN = 3
"""Differences that a message names."""


def refuse_changes(before: dict[str, Any], now: dict[str, Any], made: str) -> None:
    """See that two sets of settings are equal.

    Raises:
        ConfigError: they are not; the message begins with `made` and names the first `SHOWN` leaves that differ.
    """
    changed = list(differences(before, now))
    if changed:
        pairs = "; ".join(f"{name}={old!r}, now it is {new!r}" for name, old, new in changed[:SHOWN])
        more = f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise ConfigError(f"{made} {pairs}{more}: give another --out, or delete what was made")


def differences(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, before, now) of every leaf that differs; entries of a list have their number in brackets.

    What is missing counts as None. A list of plain values is one leaf.

    >>> list(differences({"phases": [{"steps": 1}, {"steps": 2}]}, {"phases": [{"steps": 1}, {"steps": 3}]}))
    [('phases[1].steps', 2, 3)]
    """
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif _has_sections(before) and _has_sections(now):
        if len(before) != len(now):
            yield f"number of {name}", len(before), len(now)
            return
        for i, pair in enumerate(zip(before, now, strict=True)):
            yield from differences(*pair, f"{name}[{i}]")
    elif before != now:
        yield name, before, now


def _has_sections(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(entry, dict) for entry in value)
