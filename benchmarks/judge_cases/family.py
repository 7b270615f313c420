"""What a family of templates is made of; the two families share this form, and no template, relation or name.

In a template {s} is the entity that a fact is about and {o} its object; {x} is another object of the same kind, {t}
another entity, {p} part of the name {s} and {n} a namesake that shares that part.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """One relation in the family's words. `kind` is what the object is: a person, a place, or a year."""

    kind: str
    question: str
    facts: tuple[str, ...]
    claims: tuple[str, ...]
    denials: tuple[str, ...]
    contrasts: tuple[str, ...]
    queries: tuple[str, ...]
    goals: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Names, relations, and the sentences around them."""

    name: str
    first_names: tuple[str, ...]
    last_names: tuple[str, ...]
    places: tuple[str, ...]
    years: tuple[int, int]
    relations: tuple[Relation, ...]
    fillers: tuple[str, ...]
    right_answers: tuple[str, ...]
    contrasted_answers: tuple[str, ...]
    denied_answers: tuple[str, ...]
    hedged_answers: tuple[str, ...]
    longer_names: tuple[str, ...]
    empty_answers: tuple[str, ...]
    thoughts: tuple[str, ...]
    plans: tuple[str, ...]
    poor_thoughts: tuple[str, ...]
    poor_queries: tuple[str, ...]
