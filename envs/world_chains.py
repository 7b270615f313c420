"""Chains of facts that become questions: which facts, in which order, and what their answer is.

A bridge follows relations from one entity to the next. A comparison looks up one property of two things and asks for
the one that comes first; with 3 or 4 hops one or both of them must be found first. An intersection looks for the one
person in two groups, and may go on from there. A chain is kept only if every fact stands in its subject's passage, if
no passage gives a step away too early, and if its final answer belongs to the split that asks.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from envs.world_facts import Entity, Value, WorldFacts
from envs.world_schema import LITERALS, PERSON_LIST, Relation
from envs.world_settings import QuestionKind, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One fact of a chain: a hop in the making.

    `values` are the accepted answers, the one that the chain goes on with first. `follows` are the indices of the
    steps needed before; `subject_step` is the one whose answer is this step's subject, or None.
    """

    subject: Entity
    relation: Relation
    values: tuple[Value, ...]
    follows: tuple[int, ...] = ()
    subject_step: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The facts behind one question. `compared` holds the two things of a comparison, the answer among them."""

    kind: QuestionKind
    steps: tuple[Step, ...]
    answer: Value

    @property
    def key(self) -> tuple[str, ...]:
        """Equal for chains of the same facts, in whatever order they stand."""
        return tuple(sorted(f"{step.subject.passage_id} {step.relation.name}" for step in self.steps))

    @property
    def links(self) -> tuple[tuple[str, ...], ...]:
        """Every two facts of the chain that follow each other: a shorter chain inside this one has one of them."""
        names = [f"{step.subject.passage_id} {step.relation.name}" for step in self.steps]
        return tuple((names[k], names[i]) for i, step in enumerate(self.steps) for k in step.follows)


class ChainSampler:
    """Draws chains from a world. A draw may fail (None): the facts that it met did not make a good question.

    Raises:
        ValueError: the world's relations allow none of the chains that its settings ask for.
    """

    def __init__(self, facts: WorldFacts) -> None:
        self.facts = facts
        relations, literals = facts.relations, facts.settings.literal_kinds
        self._name_paths = {n: _by_subject(_paths(relations, n, literals=())) for n in (1, 2, 3, 4)}
        self._literal_paths = {n: _by_subject(_paths(relations, n, literals=literals)) for n in (1, 2, 3, 4)}
        self._lists = [r for r in relations if r.target == PERSON_LIST]
        self._compared = [r for r in relations if r.comparisons]
        self._leading_to = {r.subject: [lead for lead in relations if lead.target == r.subject] for r in self._compared}
        self._compared_when_found = [r for r in self._compared if self._leading_to[r.subject]]
        self._check_kinds()

    def draw(self, kind: QuestionKind, hops: int, split: Split, rng: random.Random) -> Chain | None:
        """One chain of a kind and number of hops (2, 3 or 4) for a split, or None."""
        if kind == "intersection":
            chain = self._intersection(hops, split, rng)
        else:
            chain = (self._bridge if kind == "bridge" else self._comparison)(hops, rng)
        if chain is None or self.facts.split_of(chain.answer) != split:
            return None
        if self.facts.settings.held_out_wordings:
            test = split == "test"
            if any(self.facts.is_held_out(step.subject) != test for step in chain.steps):
                return None
        return chain if self._is_sound(chain) else None

    def _check_kinds(self) -> None:
        settings = self.facts.settings
        lacking = {
            "bridge": not all(self._name_paths[hops][None] for hops in settings.hops)
            or (settings.literal_kinds and not all(self._literal_paths[hops][None] for hops in settings.hops)),
            "comparison": not self._compared or (max(settings.hops) > 2 and not self._compared_when_found),
            "intersection": len(self._lists) < 2,
        }
        for kind in settings.kinds:
            if lacking[kind]:
                raise ValueError(
                    f"the chosen relations allow no {kind} questions of {settings.hops} hops; add relations (a bridge "
                    "follows one relation to the next, a comparison needs a date, a year or a count, an intersection "
                    "two lists of persons), or leave the kind out of kinds"
                )

    def _bridge(self, hops: int, rng: random.Random) -> Chain | None:
        path = self._path(hops, rng)
        start = Entity(path[0].subject, rng.randrange(self.facts.sizes[path[0].subject]))
        steps = self._follow(start, path, before=())
        return Chain(kind="bridge", steps=steps, answer=steps[-1].values[0]) if steps else None

    def _intersection(self, hops: int, split: Split, rng: random.Random) -> Chain | None:
        person = Entity("person", rng.randrange(self.facts.num_listed))
        answer = self._as_value(person)
        if hops == 2 and self.facts.split_of(answer) != split:
            return None
        groups = [(group, relation) for relation in self._lists for group in self.facts.groups_of(person, relation)]
        if len(groups) < 2:
            return None
        groups = rng.sample(groups, 2)
        first, second = (self.facts.listed(group, relation) for group, relation in groups)
        if len(set(first) & set(second)) != 1:
            return None
        tail = self._follow(person, self._path(hops - 2, rng, subject="person"), before=(0, 1)) if hops > 2 else ()
        if len(tail) != hops - 2:
            return None
        if tail:
            answer = tail[-1].values[0]
            if self.facts.split_of(answer) != split:
                return None
        steps = []
        for (group, relation), people in zip(groups, (first, second), strict=True):
            ordered = (person, *(other for other in people if other != person))
            steps.append(Step(subject=group, relation=relation, values=tuple(map(self._as_value, ordered))))
        return Chain(kind="intersection", steps=(*steps, *tail), answer=answer)

    def _comparison(self, hops: int, rng: random.Random) -> Chain | None:
        relation = rng.choice(self._compared if hops == 2 else self._compared_when_found)
        found: list[Step] = []
        compared: list[tuple[Entity, int | None]] = []
        for must_be_found in (hops > 2, hops > 3):
            if must_be_found:
                leading = rng.choice(self._leading_to[relation.subject])
                source = Entity(leading.subject, rng.randrange(self.facts.sizes[leading.subject]))
                if leading not in self.facts.stated(source):
                    return None
                value = self.facts.value(source, leading)
                assert value.entity is not None
                compared.append((value.entity, len(found)))
                found.append(Step(subject=source, relation=leading, values=(value,)))
            else:
                compared.append((Entity(relation.subject, rng.randrange(self.facts.sizes[relation.subject])), None))
        values = [self.facts.value(entity, relation) for entity, _ in compared]
        if values[0].order == values[1].order or any(relation not in self.facts.stated(e) for e, _ in compared):
            return None
        looked_up = [
            Step(
                subject=entity,
                relation=relation,
                values=(value,),
                follows=() if source is None else (source,),
                subject_step=source,
            )
            for (entity, source), value in zip(compared, values, strict=True)
        ]
        wins = values[0].order > values[1].order if relation.target == "count" else values[0].order < values[1].order
        winner = compared[0 if wins else 1][0]
        return Chain(kind="comparison", steps=(*found, *looked_up), answer=self._as_value(winner))

    def _follow(self, start: Entity, path: Sequence[Relation], before: tuple[int, ...]) -> tuple[Step, ...]:
        """The steps of a path from `start`, or () where a passage does not state its fact. `before` are the steps
        that found `start`."""
        steps: list[Step] = []
        entity: Entity | None = start
        for relation in path:
            if entity is None or relation not in self.facts.stated(entity):
                return ()
            last = len(before) + len(steps) - 1
            follows, source = ((last,), last) if steps else (before, before[0] if before else None)
            value = self.facts.value(entity, relation)
            steps.append(Step(subject=entity, relation=relation, values=(value,), follows=follows, subject_step=source))
            entity = value.entity
        return tuple(steps)

    def _path(self, hops: int, rng: random.Random, subject: str | None = None) -> tuple[Relation, ...]:
        literal = self.facts.settings.literal_kinds and rng.random() < self.facts.settings.literal_answer_share
        paths = (self._literal_paths if literal else self._name_paths)[hops]
        return rng.choice(paths[subject])

    def _as_value(self, entity: Entity) -> Value:
        return Value(self.facts.name(entity), self.facts.aliases(entity), entity)

    def _is_sound(self, chain: Chain) -> bool:
        """True if all things of the chain differ, and each is mentioned only where the chain leads to it."""
        subjects = [step.subject for step in chain.steps]
        if len(set(subjects)) != len(subjects):
            return False
        mentions = [self._mentioned_by(subject) for subject in subjects]
        things = [*subjects, chain.answer.entity] if chain.kind != "comparison" else subjects
        for number, thing in enumerate(things):
            if thing is None:
                continue
            if number == len(subjects) and thing in subjects:
                return False
            expected = set(chain.steps[number].follows) if number < len(subjects) else self._answered_in(chain)
            if any(thing in mentioned and place not in expected for place, mentioned in enumerate(mentions)):
                return False
        return True

    def _answered_in(self, chain: Chain) -> set[int]:
        if chain.kind == "intersection" and len(chain.steps) == 2:
            return {0, 1}
        return {len(chain.steps) - 1}

    def _mentioned_by(self, entity: Entity) -> set[Entity]:
        mentioned: set[Entity] = set()
        for relation in self.facts.stated(entity):
            if relation.is_list:
                mentioned.update(self.facts.listed(entity, relation))
            elif not relation.is_literal:
                mentioned.add(self.facts.target(entity, relation))
        return mentioned


def _by_subject(paths: list[tuple[Relation, ...]]) -> dict[str | None, list[tuple[Relation, ...]]]:
    """The paths by the type that they start from; under None all of them."""
    grouped: dict[str | None, list[tuple[Relation, ...]]] = {None: paths}
    for path in paths:
        grouped.setdefault(path[0].subject, []).append(path)
    return grouped


def _paths(relations: Sequence[Relation], hops: int, literals: Sequence[str]) -> list[tuple[Relation, ...]]:
    """All sequences of relations that follow each other; they end in one of `literals`, or in a name if that is ()."""
    usual = [r for r in relations if r.target not in LITERALS and r.target != PERSON_LIST]
    ends = [r for r in relations if r.target in literals] if literals else usual
    paths: list[tuple[Relation, ...]] = [(r,) for r in ends]
    for _ in range(hops - 1):
        paths = [(r, *path) for r in usual for path in paths if r.target == path[0].subject]
    return paths
