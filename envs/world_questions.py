"""The questions of a fictional world: chains put into words, with paraphrases, gold hops and a split.

Every text of a question nests the noun phrases of its relations ("the mayor of the town where ... stands") under an
opening; the paraphrases of one question use other phrases at every place and another opening, so that they share few
words besides the names.
"""

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from envs.datasets import question_row
from envs.question import Hop, Question
from envs.world_chains import Chain, ChainSampler, Step
from envs.world_facts import WorldFacts
from envs.world_names import count_tokens
from envs.world_schema import Relation
from envs.world_settings import SPLITS, QuestionKind, Split

_PERSON_FRAMES = (
    "Who is {np}?",
    "Can you name {np}?",
    "Which name has {np}?",
    "Could you identify {np}?",
    "Do you know {np}?",
    "How is {np} called?",
)
_OTHER_FRAMES = (
    "What is {np}?",
    "Can you name {np}?",
    "Which one is {np}?",
    "Could you identify {np}?",
    "Do you know {np}?",
    "Can you tell {np}?",
)
_INTERSECTIONS = (
    "the person who {p} and {q}",
    "the one who {p} and also {q}",
    "the individual who both {p} and {q}",
    "the human being who {p} and {q}",
    "the figure who {p} and likewise {q}",
    "the only soul who {p} and {q}",
)
_INTERSECTION_ASKS = ("Who {p} and {q}?", "Who both {p} and {q}?")
_MAX_FAILURES = 15_000
"""Draws without a new question after which a world counts as used up; a third of it where other kinds remain."""
_MAX_REWORDINGS = 200
_KIND_CYCLE: tuple[QuestionKind, ...] = ("bridge", "comparison", "bridge", "intersection")
"""Mixtures hold twice as many bridges: there are the most of them to ask about."""


class WorldQuestions:
    """Draws the questions of all splits.

    Splits are drawn test first, and a later split leaves alone what an earlier one took: whole chains, pairs of facts
    that follow each other, and (through `WorldFacts.split_of`) final answers. Where a mixture runs out of a kind the
    other kinds fill its place; `exhausted` then names kind, hops and split.
    """

    def __init__(self, facts: WorldFacts) -> None:
        self.facts = facts
        self._sampler = ChainSampler(facts)
        self.exhausted: list[str] = []
        self._taken: set[tuple[str, ...]] = set()
        self._answered: dict[int, Counter[str]] = {}
        self._split_of_link: dict[tuple[str, ...], Split] = {}

    def rows(self) -> Iterator[tuple[Split, dict[str, Any]]]:
        """Every question as a row of the jsonl format, with its split.

        Raises:
            ValueError: the world has fewer different questions of a kind than the settings ask for.
        """
        for split in reversed(SPLITS):
            for question, hops in self._of_split(split):
                filled = [_filled(hop.question, question.hops) for hop in question.hops]
                row = question_row(question)
                for step, text in zip(row["decomposition"], filled, strict=True):
                    step["question_filled"] = text
                yield split, row | {"hops": hops}

    def _of_split(self, split: Split) -> Iterator[tuple[Question, int]]:
        settings = self.facts.settings
        rng = random.Random(f"{settings.seed} questions {split}")
        kinds = {hops: [kind for kind in _KIND_CYCLE if kind in settings.kinds] for hops in settings.hops}
        self._answered = {hops: Counter() for hops in settings.hops}
        for number in range(settings.num_questions(split)):
            for hops in settings.hops:
                chain = None
                while chain is None:
                    if not kinds[hops]:
                        raise ValueError(self._too_few(hops, split, number))
                    kind = kinds[hops][number % len(kinds[hops])]
                    draws = _MAX_FAILURES if len(set(kinds[hops])) == 1 else _MAX_FAILURES // 3
                    chain = self._new_chain(kind, hops, split, draws, rng)
                    if chain is None:
                        self.exhausted.append(f"{kind} {hops} hops {split}")
                        kinds[hops] = [other for other in kinds[hops] if other != kind]
                yield self._question(chain, split, f"{split}-{kind}-{hops}hop-{number:05d}", rng), hops

    def _new_chain(self, kind: QuestionKind, hops: int, split: Split, draws: int, rng: random.Random) -> Chain | None:
        """A chain that is not taken, or None where many draws found none: the world has no more of them."""
        most = max(2, math.ceil(self.facts.settings.num_questions(split) * self.facts.settings.max_answer_share))
        for _ in range(draws):
            chain = self._sampler.draw(kind, hops, split, rng)
            if chain is None or chain.key in self._taken or self._answered[hops][chain.answer.split_key] >= most:
                continue
            if any(self._split_of_link.get(link, split) != split for link in chain.links):
                continue
            self._taken.add(chain.key)
            self._answered[hops][chain.answer.split_key] += 1
            self._split_of_link.update(dict.fromkeys(chain.links, split))
            return chain
        return None

    def _too_few(self, hops: int, split: Split, number: int) -> str:
        settings = self.facts.settings
        return (
            f"the world has too few different questions of {hops} hops for {split} ({', '.join(settings.kinds)}): "
            f"{_MAX_FAILURES} draws found no new one after {number} of {settings.num_questions(split)}. Lower "
            f"{split}_questions, or raise num_passages ({settings.num_passages}) "
            f"or max_answer_share ({settings.max_answer_share})"
            + (f" or {split}_answer_share" if split != "train" else "")
            + (", or set held_out_wordings to 0" if settings.held_out_wordings else "")
        )

    def _question(self, chain: Chain, split: Split, question_id: str, rng: random.Random) -> Question:
        held_out = self.facts.settings.held_out_wordings > 0 and split == "test"
        texts = self._texts(chain, held_out, rng)
        answer = chain.answer
        return Question(
            id=question_id,
            text=texts[0],
            golden_answers=(answer.text, *answer.aliases),
            kind=chain.kind,
            supporting_ids=tuple(dict.fromkeys(step.subject.passage_id for step in chain.steps)),
            hops=tuple(self._hop(step, held_out) for step in chain.steps),
            paraphrases=tuple(texts[1:]),
            split=split,
            split_group=answer.entity.passage_id if answer.entity else answer.split_key,
            selection="complete",
        )

    def _hop(self, step: Step, held_out: bool) -> Hop:
        subject = self.facts.name(step.subject)
        asked = subject if step.subject_step is None else f"#{step.subject_step + 1}"
        first, *others = step.values
        ask = step.relation.asks[0]
        if held_out:
            phrase = step.relation.phrases[self._phrase_indices(held_out)[0]]
            ask = f"Who {phrase}?" if step.relation.is_list else self._frames(step.relation)[0].replace("{np}", phrase)
        aliases = () if others else first.aliases
        return Hop(
            question=ask.replace("{s}", asked),
            answers=(first.text, *aliases, *(other.text for other in others)),
            supporting_id=step.subject.passage_id,
            depends_on=step.follows,
            triple=(subject, step.relation.name, first.text),
        )

    def _texts(self, chain: Chain, held_out: bool, rng: random.Random) -> list[str]:
        """The question's text and its paraphrases, all different, with different wordings at every place."""
        wanted = 1 + self.facts.settings.paraphrases
        reuse = 0.0 if held_out else self.facts.settings.phrase_reuse
        phrases = self._phrase_indices(held_out)
        orders = [rng.sample(phrases, len(phrases)) for _ in range(len(chain.steps) + 1)]
        openings = self._openings(chain, held_out)
        rng.shuffle(openings)
        texts: list[str] = []
        for attempt in range(_MAX_REWORDINGS):
            shift = attempt + attempt // len(phrases)
            chosen = [order[shift * (rng.random() >= reuse) % len(order)] for order in orders]
            text = self._text(chain, openings[attempt % len(openings)], chosen, rng)
            too_long = attempt < _MAX_REWORDINGS // 2 and count_tokens(text) > 12 + 5 * len(chain.steps)
            if text not in texts and not too_long:
                texts.append(text)
            if len(texts) == wanted:
                return texts
        raise ValueError(
            f"a {chain.kind} question of {len(chain.steps)} hops has {len(texts)} different wordings, {wanted} are "
            f"needed; raise question_wordings or lower held_out_wordings"
        )

    def _phrase_indices(self, held_out: bool) -> list[int]:
        settings = self.facts.settings
        usual = settings.question_wordings - settings.held_out_wordings
        return list(range(usual, settings.question_wordings) if held_out else range(usual))

    def _openings(self, chain: Chain, held_out: bool) -> list[str]:
        """What a text may begin with. Held-out texts keep to the general frames, so that only their phrases speak."""
        last = chain.steps[-1].relation
        if chain.kind == "comparison":
            if not self.facts.settings.held_out_wordings:
                return list(last.comparisons)
            half = len(last.comparisons) // 2
            return list(last.comparisons[half:] if held_out else last.comparisons[:half])
        if last.is_list:
            return [*_INTERSECTION_ASKS, *_PERSON_FRAMES]
        return [*self._frames(last), *(() if held_out else last.asks)]

    def _frames(self, relation: Relation) -> tuple[str, ...]:
        return _PERSON_FRAMES if relation.target == "person" else _OTHER_FRAMES

    def _text(self, chain: Chain, opening: str, chosen: Sequence[int], rng: random.Random) -> str:
        if chain.kind == "comparison":
            sides = [self._noun_phrase(chain, step, chosen) for step in chain.steps[-2:]]
            first, second = rng.sample(sides, 2)
            text = opening.replace("{a}", first).replace("{b}", second)
        elif "{np}" in opening:
            text = opening.replace("{np}", self._found(chain, len(chain.steps) - 1, chosen))
        elif "{p}" in opening:
            text = self._both(chain, opening, chosen)
        else:
            text = opening.replace("{s}", self._noun_phrase(chain, chain.steps[-1], chosen))
        return text[0].upper() + text[1:]

    def _noun_phrase(self, chain: Chain, step: Step, chosen: Sequence[int]) -> str:
        """What names the subject of a step: its own name, or the phrase of the step that finds it."""
        return (
            self.facts.name(step.subject)
            if step.subject_step is None
            else self._found(chain, step.subject_step, chosen)
        )

    def _found(self, chain: Chain, number: int, chosen: Sequence[int]) -> str:
        """The noun phrase for the answer of a step."""
        step = chain.steps[number]
        if step.relation.is_list:
            return self._both(chain, _INTERSECTIONS[chosen[-1]], chosen)
        return _phrase(step.relation, chosen[number], self._noun_phrase(chain, step, chosen))

    def _both(self, chain: Chain, wording: str, chosen: Sequence[int]) -> str:
        predicates = [
            _phrase(step.relation, chosen[number], self.facts.name(step.subject))
            for number, step in enumerate(chain.steps[:2])
        ]
        return wording.replace("{p}", predicates[0]).replace("{q}", predicates[1])


def _phrase(relation: Relation, number: int, subject: str) -> str:
    return relation.phrases[number].replace("{s}", subject)


def _filled(text: str, hops: Sequence[Hop]) -> str:
    """A sub-question with the gold answers of the hops that it refers to."""
    for number, hop in enumerate(hops, start=1):
        text = text.replace(f"#{number}", hop.answers[0])
    return text
