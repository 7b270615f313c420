"""What kinds of things the fictional world has, and how what is true of them is put into words.

An entity type has a share of the corpus and a way of naming. A relation leads from a subject to an entity of another
type, to a list of persons, or to a literal (a date, a year, a count). Its wordings come in three forms: `statements`
stand in passages ({s} is always in subject position, so that a pronoun fits), `phrases` are noun phrases that nest
into questions, `asks` are direct questions; `comparisons` ask which of {a} and {b} comes first. The tables themselves
are in `world_people`, `world_places` and `world_things`.
"""

from dataclasses import dataclass
from typing import Literal

LiteralKind = Literal["date", "year", "count"]
LITERALS: tuple[LiteralKind, ...] = ("date", "year", "count")
PERSON_LIST = "persons"
NUM_WORDINGS = 6
"""Statements, phrases and comparisons of every relation that has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityType:
    """A kind of entity. `weight` is its share among entities, relative to the other types.

    `naming` is "person" (given name and surname), "word" (one invented word), "before" or "after" (one of `nouns`
    before or after an invented word). `generic` is what passages call it instead of its name.
    """

    name: str
    weight: float
    naming: Literal["person", "word", "before", "after"]
    nouns: tuple[str, ...] = ()
    generic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """One relation and all its wordings. `target` is an entity type, a literal kind, or `PERSON_LIST`.

    The phrases of a list relation are predicates ("belongs to {s}"). `unit` follows a count, `scale` names its
    alternative spelling.
    """

    name: str
    subject: str
    target: str
    statements: tuple[str, ...]
    phrases: tuple[str, ...]
    asks: tuple[str, ...]
    comparisons: tuple[str, ...] = ()
    unit: str = ""

    @property
    def is_literal(self) -> bool:
        """True if the object is a date, a year or a count."""
        return self.target in LITERALS

    @property
    def is_list(self) -> bool:
        """True if the object is a list of persons."""
        return self.target == PERSON_LIST


def _wordings(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("|") if part.strip())


def relation(
    name: str,
    subject: str,
    target: str,
    *,
    say: str,
    phrase: str,
    ask: str,
    compare: str = "",
    unit: str = "",
) -> Relation:
    """A relation from wordings separated by `|`; the table is checked where it is written.

    Raises:
        ValueError: too few wordings, or one without the slot that it needs.
    """
    made = Relation(
        name=name,
        subject=subject,
        target=target,
        statements=_wordings(say),
        phrases=_wordings(phrase),
        asks=_wordings(ask),
        comparisons=_wordings(compare),
        unit=unit,
    )
    for form, wordings, least, slots in (
        ("statements", made.statements, NUM_WORDINGS, ("{s}", "{o}")),
        ("phrases", made.phrases, NUM_WORDINGS, ("{s}",)),
        ("asks", made.asks, 2, ("{s}",)),
        ("comparisons", made.comparisons, NUM_WORDINGS if made.is_literal else 0, ("{a}", "{b}")),
    ):
        if len(set(wordings)) != len(wordings) or len(wordings) < least:
            raise ValueError(f"relation {name} needs {least} different {form}, got {len(set(wordings))}")
        for wording in wordings:
            if any(wording.count(slot) != 1 for slot in slots):
                raise ValueError(f"relation {name}: {wording!r} must have {' and '.join(slots)} once each")
    return made
