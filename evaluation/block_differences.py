"""What differs between the comparability blocks of several runs, field by field, and whether it forbids a ranking.

Three kinds of fields. What is compared (`model`) is expected to differ. What decides a figure besides (index, encoder,
top-k, protocol, passage format, chat template, limits, decoding, metrics, questions) must agree, or be allowed by name;
a value that an older file does not say is unknown, and is not taken to agree with a known one. Circumstances (package
versions, Python, hardware, commit, seeds) seldom move a figure and differ between any two machines: they are always
told, and forbid only where that is asked for.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evaluation.comparability import describe_encoders

UNKNOWN = "unknown"
"""Stands for a field that a file does not have."""

COMPARED: tuple[str, ...] = ("model",)
CIRCUMSTANCES: tuple[str, ...] = ("packages", "python", "hardware", "commit", "seeds")

NEEDED: tuple[str, ...] = (
    "model",
    "index",
    "encoder",
    "top_k",
    "protocol",
    "passage_format",
    "chat_template",
    "limits",
    "decoding",
    "questions",
    "metric_version",
    *CIRCUMSTANCES,
)
"""Fields of every block. One that no file has is shown as unknown in all of them."""

_SAID_TWICE: tuple[str, ...] = ("limits.top_k", "index.settings.encoder", "index.settings.scorer", "questions.name")
"""Parts of one field that stand in another too, and the name that a file of questions happens to have."""

Kind = Literal["compared", "decides", "circumstance", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDifference:
    """One field that is not known to be equal.

    Attributes:
        field: dotted name, such as `limits.max_turns`.
        values: a text for each run, in their order; `unknown` where a file does not say.
        kind: `compared`, `decides` or `circumstance`; `unknown` is a field that no file says.
        is_allowed: whether it was allowed by name.
    """

    field: str
    values: tuple[str, ...]
    kind: Kind
    is_allowed: bool = False

    def forbids(self, *, strict: bool = False) -> bool:
        """True if a ranking would compare this difference too."""
        return (self.kind == "decides" or (strict and self.kind == "circumstance")) and not self.is_allowed


def block_differences(blocks: Sequence[Mapping[str, Any]], *, allow: Sequence[str] = ()) -> tuple[FieldDifference, ...]:
    """Every field in which the blocks are not known to agree, those that forbid a ranking first.

    allow: names of fields, or of what stands before a dot (`decoding` allows all of `decoding.…`).

    Raises:
        ValueError: `allow` names a field that no block has.
    """
    aligned = aligned_fields([completed(block) for block in blocks])
    fields = [field for field, _ in aligned]
    for name in allow:
        if not any(_covers(name, field) for field in (*fields, *NEEDED)):
            known = ", ".join(dict.fromkeys(field.partition(".")[0] for field in fields))
            raise ValueError(f"--allow names {name!r}, which no comparability block has; they have {known}")
    found = []
    for field, values in aligned:
        known_nowhere = set(values) == {UNKNOWN}
        if len(set(values)) > 1 or (known_nowhere and field in NEEDED):
            found.append(
                FieldDifference(
                    field=field,
                    values=values,
                    kind="unknown" if known_nowhere else _kind(field),
                    is_allowed=any(_covers(name, field) for name in allow),
                )
            )
    order = ("decides", "unknown", "compared", "circumstance")
    return tuple(sorted(found, key=lambda one: (order.index(one.kind), fields.index(one.field))))


def aligned_fields(blocks: Sequence[Mapping[str, Any]]) -> list[tuple[str, tuple[str, ...]]]:
    """Every field of any block, dotted, with a text for each block."""
    rows = [dict(_flat(block)) for block in blocks]
    fields = dict.fromkeys(field for row in rows for field in row)
    return [
        (field, tuple(row.get(field, _missing(block, field)) for row, block in zip(rows, blocks, strict=True)))
        for field in fields
    ]


def completed(block: Mapping[str, Any]) -> dict[str, Any]:
    """A block with every field of `NEEDED`: what follows from others is filled in, the rest is unknown."""
    whole = dict(block)
    limits = whole.get("limits")
    if "top_k" not in whole and isinstance(limits, Mapping) and "top_k" in limits:
        whole["top_k"] = limits["top_k"]
    if "encoder" not in whole and isinstance(whole.get("index"), Mapping):
        whole["encoder"] = describe_encoders(whole["index"])
    return {**dict.fromkeys(NEEDED, UNKNOWN), **whole}


def difference_lines(differences: Sequence[FieldDifference], names: Sequence[str]) -> list[str]:
    """One line a field: `limits.max_turns: A 4, B 6`."""
    return [
        f"{one.field}: " + ", ".join(f"{name} {value}" for name, value in zip(names, one.values, strict=True))
        for one in differences
    ]


def _kind(field: str) -> Kind:
    top = field.partition(".")[0]
    return "compared" if top in COMPARED else "circumstance" if top in CIRCUMSTANCES else "decides"


def _covers(name: str, field: str) -> bool:
    return field == name or field.startswith(f"{name}.")


def _missing(block: Mapping[str, Any], field: str) -> str:
    """What a run says of a field that it does not have: none where it has others beside it, else unknown."""
    above = block.get(field.partition(".")[0], UNKNOWN)
    return UNKNOWN if above == UNKNOWN else "none"


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as (dotted name, text), without what is said twice. A list is one text."""
    if any(_covers(name, prefix) for name in _SAID_TWICE):
        return []
    if isinstance(value, Mapping) and value:
        return [row for key, item in value.items() for row in _flat(item, f"{prefix}.{key}" if prefix else str(key))]
    if value is None:
        return [(prefix, "none")]
    return [(prefix, value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False))]
