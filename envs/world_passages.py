"""The passages of a fictional world, one by one.

A passage has an entity's name as its title and states some facts of it, the first with the name, the others with a
pronoun or "the town". Distractor passages are records (a gazette, a diary) that mention names, and ask what others
answer, but state no fact.
"""

from collections.abc import Iterator

from envs.world_facts import RECORD, TYPE_OF, Entity, WorldFacts, shuffled, text_key
from envs.world_names import Permutation, mix
from envs.world_schema import Relation
from retrieval.passage import Passage

_FILLERS = (
    "{s} is mentioned in many old letters",
    "{s} appears on a painting in a private collection",
    "{s} is the subject of several songs",
    "{s} has been praised and blamed in equal measure",
    "{s} is less known abroad",
    "{s} was once the talk of every dinner table",
    "{s} has a place in most travel guides",
    "{s} is remembered fondly by older people",
)
_MENTIONS = (
    "a letter on the front page praises {o}",
    "an editor recalls a visit to {o}",
    "a short note concerns {o}",
    "the weather report also speaks of {o}",
    "one column makes fun of {o}",
    "a reader complains about {o}",
)
_RIDDLES = ("a reader asks about {q}", "one column only guesses at {q}", "a riddle concerns {q}")
_QUESTION_WORDS = frozenset(("who", "whom", "whose", "which", "where", "when", "that"))
"""Passages hold none of these: where one word of a query is rare in the corpus, BM25 follows it past every name."""
_MENTIONS_PER_RECORD = 3


class WorldPassages:
    """All passages of a world, in a fixed order; entities of all types stand mixed."""

    def __init__(self, facts: WorldFacts) -> None:
        self.facts = facts
        seed = facts.settings.seed
        self._order = Permutation(facts.settings.num_passages, text_key(seed, "passage order"))
        self._wording_key = text_key(seed, "statement wording")
        self._style_key = text_key(seed, "style")
        self._alias_key = text_key(seed, "alias")
        self._record_key = text_key(seed, "record")
        usual = facts.settings.question_wordings - facts.settings.held_out_wordings
        self._riddle_phrases = {
            kind: [
                phrase
                for relation in relations
                for phrase in relation.phrases[:usual]
                if not relation.is_list and not _QUESTION_WORDS & set(phrase.split())
            ]
            for kind, relations in facts.relations_of.items()
        }
        self._starts: list[tuple[int, str]] = []
        start = 0
        for kind in facts.types:
            self._starts.append((start, kind.name))
            start += facts.sizes[kind.name]

    def __len__(self) -> int:
        return self.facts.settings.num_passages

    def __iter__(self) -> Iterator[Passage]:
        return (self.at(position) for position in range(len(self)))

    def at(self, position: int) -> Passage:
        """The passage at a position of the corpus, from 0."""
        place = self._order[position]
        if place >= len(self) - self.facts.num_distractors:
            return self._record(place - (len(self) - self.facts.num_distractors))
        return self.about(self._entity(place))

    def about(self, entity: Entity) -> Passage:
        """The passage about an entity."""
        title = self.facts.name(entity)
        bits = mix(self._style_key, entity.key)
        kind = TYPE_OF[entity.type]
        pronoun = ("she", "he")[bits & 1] if kind.naming == "person" else "it"
        sentences = [self._statement(entity, relation) for relation in self.facts.stated(entity)]
        sentences = shuffled(sentences, bits >> 8)
        for number in range(self._num_fillers(entity, bits >> 32)):
            sentences.append(_FILLERS[mix(bits, number) % len(_FILLERS)])
        subjects = [title]
        for number in range(1, len(sentences)):
            subjects.append(kind.generic if kind.generic and mix(bits, 100 + number) % 3 == 0 else pronoun)
        text = " ".join(_sentence(s.replace("{s}", name)) for s, name in zip(sentences, subjects, strict=True))
        return Passage(id=entity.passage_id, title=title, text=text)

    def statement_wording(self, entity: Entity, relation: Relation) -> int:
        """Which of the relation's statements the entity's passage uses."""
        settings = self.facts.settings
        bits = mix(self._wording_key ^ text_key(0, relation.name), entity.key)
        usual = settings.statement_wordings - settings.held_out_wordings
        if self.facts.is_held_out(entity):
            return usual + bits % settings.held_out_wordings
        return bits % usual

    def _statement(self, entity: Entity, relation: Relation) -> str:
        if relation.is_list:
            names = [self.facts.name(person) for person in self.facts.listed(entity, relation)]
            shown = f"{', '.join(names[:-1])} and {names[-1]}"
        else:
            value = self.facts.value(entity, relation)
            bits = mix(self._alias_key ^ text_key(0, relation.name), entity.key)
            can_alias = value.entity is not None and TYPE_OF[value.entity.type].naming == "after"
            use_alias = can_alias and bits % 1000 < self.facts.settings.alias_rate * 1000
            shown = value.aliases[0] if use_alias else value.text
        return relation.statements[self.statement_wording(entity, relation)].replace("{o}", shown)

    def _num_fillers(self, entity: Entity, bits: int) -> int:
        """How many fillers a passage gets; those with a list are long enough."""
        if any(relation.is_list for relation in self.facts.relations_of[entity.type]):
            return 0
        mean = self.facts.settings.filler_per_passage
        whole = int(mean)
        return whole + (bits % 1000 < (mean - whole) * 1000)

    def _entity(self, place: int) -> Entity:
        start, name = next(entry for entry in reversed(self._starts) if entry[0] <= place)
        return Entity(name, place - start)

    def _record(self, index: int) -> Passage:
        record = Entity(RECORD.name, index)
        num_entities = len(self) - self.facts.num_distractors
        sentences = []
        for number in range(_MENTIONS_PER_RECORD):
            bits = mix(self._record_key, index * _MENTIONS_PER_RECORD + number)
            entity = self._entity(bits % num_entities)
            name = self.facts.name(entity)
            bits >>= 32
            if bits % 3 == 0:
                phrases = self._riddle_phrases[entity.type]
                riddle = _RIDDLES[(bits >> 9) % len(_RIDDLES)].replace("{q}", phrases[(bits >> 12) % len(phrases)])
                sentences.append(_sentence(riddle.replace("{s}", name)))
            else:
                mention = _MENTIONS[(bits >> 9) % len(_MENTIONS)]
                sentences.append(_sentence(mention.replace("{o}", name)))
        return Passage(id=record.passage_id, title=self.facts.name(record), text=" ".join(sentences))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
