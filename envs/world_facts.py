"""The facts of a fictional world, each computed from its subject's index when it is asked for.

Nothing is stored: the object of a relation is a hash of (relation, subject index), names are permutations, and the
members of a group stand at known places of a permutation, so that the groups of a person can be found too. A world of
a million passages therefore takes no more memory than a small one.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from envs.world_names import Names, Permutation, mix
from envs.world_people import PEOPLE, PEOPLE_RELATIONS
from envs.world_places import PLACE_RELATIONS, PLACES
from envs.world_schema import EntityType, Relation
from envs.world_settings import Split, WorldSettings
from envs.world_things import THING_RELATIONS, THINGS

RECORD = EntityType(
    name="record", weight=0, naming="after", nouns=("Gazette", "Almanac", "Diary", "Ledger"), generic="the paper"
)
"""Distractor passages are about these: they have names and no facts."""
TYPES: tuple[EntityType, ...] = (*PEOPLE, *PLACES, *THINGS)
RELATIONS: tuple[Relation, ...] = (*PEOPLE_RELATIONS, *PLACE_RELATIONS, *THING_RELATIONS)
TYPE_OF = {kind.name: kind for kind in (*TYPES, RECORD)}
_TYPE_ORDER = {name: order for order, name in enumerate(TYPE_OF)}
GROUP_SIZE = 3
"""Persons in a list relation."""
ROUNDS = 2
"""Groups of each list relation that a person of the listed ones belongs to."""
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_DAYS = 28
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entity:
    """One thing of the world: its type and its index among things of that type, from 0."""

    type: str
    index: int

    @property
    def passage_id(self) -> str:
        """Id of the passage about it."""
        return f"{self.type}-{self.index:06d}"

    @property
    def key(self) -> int:
        """A number that tells entities of all types apart, for hashing."""
        return _TYPE_ORDER[self.type] * (1 << 32) + self.index


@dataclass(frozen=True, slots=True)
class Value:
    """The object of a relation as text. `entity` is None for literals, whose `order` compares them."""

    text: str
    aliases: tuple[str, ...]
    entity: Entity | None = None
    order: int = 0

    @property
    def split_key(self) -> str:
        """Answers with one key stay in one split: equal texts, and counts that differ by their unit alone."""
        return self.text if self.entity is not None or not self.aliases[0].isdigit() else self.aliases[0]


def text_key(seed: int, text: str) -> int:
    """64 bits from a text, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{text}".encode(), digest_size=8).digest(), "big")


class WorldFacts:
    """All facts of the world that some settings describe.

    `types` and `relations` are those that the settings keep. `sizes` is the number of entities of each type,
    `num_distractors` the number of passages about none. The first `num_listed` persons are those that groups list:
    few enough that each of them is in several groups.

    Raises:
        ValueError: an unknown relation, or one that leads to a type of which nothing would be said.
    """

    def __init__(self, settings: WorldSettings) -> None:
        self.settings = settings
        self.num_distractors = round(settings.num_passages * settings.distractor_share)
        self.relations = chosen_relations(settings.relations)
        subjects = {relation.subject for relation in self.relations}
        self.types = tuple(kind for kind in TYPES if kind.name in subjects)
        self.sizes = _sizes(settings.num_passages - self.num_distractors, self.types)
        self.names = Names(
            (*self.types, RECORD), {**self.sizes, RECORD.name: self.num_distractors}, text_key(settings.seed, "names")
        )
        self.relations_of = {t.name: tuple(r for r in self.relations if r.subject == t.name) for t in self.types}
        self._keys = {r.name: text_key(settings.seed, f"relation {r.name}") for r in self.relations}
        self._listed_and_others = {
            kind: ([r for r in relations if r.is_list], [r for r in relations if not r.is_list])
            for kind, relations in self.relations_of.items()
        }
        self._stating_key = text_key(settings.seed, "stating")
        self._side_key = text_key(settings.seed, "side")
        smallest = min((self.sizes[r.subject] for r in self.relations if r.is_list), default=0)
        self.num_listed = max(GROUP_SIZE + 1, smallest * GROUP_SIZE // ROUNDS)
        self._lists = {
            r.name: [Permutation(self.num_listed, mix(self._keys[r.name], turn)) for turn in range(ROUNDS)]
            for r in self.relations
            if r.is_list
        }

    def name(self, entity: Entity) -> str:
        """The entity's full name."""
        return self.names.name(entity.type, entity.index)

    def aliases(self, entity: Entity) -> tuple[str, ...]:
        """The entity's other names."""
        return self.names.aliases(entity.type, entity.index)

    def target(self, entity: Entity, relation: Relation) -> Entity:
        """The object of a relation that leads to one entity; never the subject itself."""
        size = self.sizes[relation.target]
        index = mix(self._keys[relation.name], entity.index) % size
        if relation.target == entity.type and index == entity.index:
            index = (index + 1) % size
        return Entity(relation.target, index)

    def value(self, entity: Entity, relation: Relation) -> Value:
        """The object of a relation, list relations aside, with its text and aliases."""
        if relation.is_literal:
            return self._literal(entity, relation)
        target = self.target(entity, relation)
        return Value(self.name(target), self.aliases(target), target)

    def listed(self, group: Entity, relation: Relation) -> tuple[Entity, ...]:
        """The persons of a group under a list relation: `[GROUP_SIZE]`."""
        people = []
        for slot in range(group.index * GROUP_SIZE, (group.index + 1) * GROUP_SIZE):
            turn, place = divmod(slot, self.num_listed)
            people.append(Entity("person", self._lists[relation.name][turn % ROUNDS][place]))
        return tuple(people)

    def groups_of(self, person: Entity, relation: Relation) -> list[Entity]:
        """The groups whose list has this person, at most `ROUNDS`."""
        groups = []
        for turn, people in enumerate(self._lists[relation.name]):
            index = (turn * self.num_listed + people.index_of(person.index)) // GROUP_SIZE
            if person.index < self.num_listed and index < self.sizes[relation.subject]:
                groups.append(Entity(relation.subject, index))
        return groups

    def stated(self, entity: Entity) -> tuple[Relation, ...]:
        """The relations that the entity's passage states, in the order of its sentences.

        A passage has room for `facts_per_passage`; which ones it states is drawn for each entity. Lists always fit.
        """
        bits = mix(self._stating_key, entity.key)
        listed, others = self._listed_and_others[entity.type]
        room = self.settings.facts_per_passage - len(listed)
        return tuple(listed + shuffled(others, bits)[: max(room, 1)])

    def is_held_out(self, entity: Entity) -> bool:
        """True if the passage about this entity uses the held-out wordings."""
        if not self.settings.held_out_wordings:
            return False
        return mix(self._side_key, entity.key) % 1000 < self.settings.held_out_share * 1000

    def split_of(self, answer: Value) -> Split:
        """The one split whose questions may have this final answer."""
        place = text_key(self.settings.seed, f"answer {answer.split_key}") % 10_000 / 10_000
        if place < self.settings.test_answer_share:
            return "test"
        return "dev" if place < self.settings.test_answer_share + self.settings.dev_answer_share else "train"

    def _literal(self, entity: Entity, relation: Relation) -> Value:
        bits = mix(self._keys[relation.name], entity.index)
        settings = self.settings
        half = settings.num_years // 2
        if relation.target == "year":
            year = settings.first_year + half + bits % (settings.num_years - half)
            return Value(str(year), (f"the year {year}",), order=year)
        if relation.target == "date":
            year = settings.first_year + bits % half
            month, day = (bits >> 20) % 12, 1 + (bits >> 32) % _DAYS
            text = f"{day} {MONTHS[month]} {year}"
            return Value(text, (f"{MONTHS[month]} {day}, {year}",), order=(year * 12 + month) * 31 + day)
        count = 2 + bits % (settings.max_count - 1)
        alias = f"{count},000" if relation.unit == "thousand" else f"{count}"
        return Value(f"{count} {relation.unit}", (alias,), order=count)


def shuffled(items: list[T], bits: int) -> list[T]:
    """The items in an order drawn from 64 random bits (Fisher-Yates; up to about 12 items)."""
    items = list(items)
    for last in range(len(items) - 1, 0, -1):
        bits, place = divmod(bits, last + 1)
        items[last], items[place] = items[place], items[last]
    return items


def chosen_relations(names: Sequence[str]) -> tuple[Relation, ...]:
    """The relations of these names in the order of the tables; () chooses all of them.

    Raises:
        ValueError: an unknown name, or a relation that leads to a type which none of the others speaks about.
    """
    if not names:
        return RELATIONS
    known = [relation.name for relation in RELATIONS]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no relation is named {', '.join(unknown)}; relations: {', '.join(known)}")
    chosen = tuple(relation for relation in RELATIONS if relation.name in names)
    subjects = {relation.subject for relation in chosen}
    for relation in chosen:
        target = "person" if relation.is_list else relation.target
        if not relation.is_literal and target not in subjects:
            about = [other.name for other in RELATIONS if other.subject == target]
            raise ValueError(
                f"relation {relation.name} leads to a {target}, and no chosen relation says anything about one; "
                f"add one of {', '.join(about)} to relations"
            )
    return chosen


def _sizes(num_entities: int, types: Sequence[EntityType]) -> dict[str, int]:
    weight = sum(kind.weight for kind in types)
    sizes = {kind.name: math.floor(num_entities * kind.weight / weight) for kind in types}
    sizes[types[0].name] += num_entities - sum(sizes.values())
    return sizes
