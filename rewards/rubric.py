"""Citation rubrics: a question as single-hop claims about entities, some of which have to be found.

`<E0>` in a rubric's text is the answer, `<E1>`, `<E2>`, ... are hidden entities, everything else is given by the
question: "<E1> founded Lomira", "<E1> grew up in <E0>". Rubrics and entities form a bipartite graph; a claim counts
towards the answer only where claims that are supported lead to it from `<E0>`. `rubric_of_hops` makes rubrics of a
question's decomposition, `rewards.rubric_file` reads them.
"""

import re
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from envs.question import Hop, Question
from rewards.answer import normalize_answer

PLACEHOLDER = re.compile(r"<E(\d+)>")
_REFERENCE = re.compile(r"#(\d+)")
_EVIDENCE = re.compile(r"^(?P<subject>.+?) >> (?P<relation>.+)$")  # 2WikiMultihopQA's steps as texts
ANSWER = 0
"""The number of the answer's entity."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One rubric. `mentions` are the names in `text` that the question gives; `supporting_id` is the gold passage."""

    text: str
    mentions: tuple[str, ...] = ()
    supporting_id: str | None = None

    @cached_property
    def entities(self) -> frozenset[int]:
        """The numbers of the entities in the text."""
        return frozenset(int(number) for number in PLACEHOLDER.findall(self.text))

    def filled(self, names: Mapping[int, str]) -> str:
        """The text with names for its entities.

        Raises:
            KeyError: an entity has no name.
        """
        return PLACEHOLDER.sub(lambda match: names[int(match[1])], self.text)


@dataclass(frozen=True, kw_only=True)
class Rubric:
    """The claims of one question; `aliases` has the names of every entity that occurs in them.

    `joined` are the entities that the question itself puts side by side (the two dates of a comparison): each of them
    leads to the others without a claim of its own, which would have nothing to cite.
    """

    claims: tuple[Claim, ...]
    aliases: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    joined: frozenset[int] = frozenset()


def connected(
    claims: Sequence[Collection[int]], supported: Sequence[bool], joined: Collection[int] = (), start: int = ANSWER
) -> list[bool]:
    """Which supported claims a breadth-first search from an entity reaches.

    Args:
        claims: the entities of each claim.
        supported: whether each claim is supported; others are no edges and are never reached.
        joined: entities that lead to each other without a claim.
        start: the entity to begin at.

    >>> connected([{1}, {0, 1}, {2}], [True, True, True])
    [True, True, False]
    """
    reached = [False] * len(claims)
    seen, queue = {start}, deque([start])
    while queue:
        entity = queue.popleft()
        neighbours: set[int] = set(joined) if entity in joined else set()
        for i, entities in enumerate(claims):
            if supported[i] and entity in entities:
                reached[i] = True
                neighbours.update(entities)
        queue.extend(neighbours - seen)
        seen |= neighbours
    return reached


@lru_cache(maxsize=10_000)
def rubric_of_hops(question: Question) -> Rubric | None:
    """One claim per hop; None where there is no hop or a hop has no answers.

    A hop's answer is the entity of its number (counted from 1), or the answer `<E0>` where no other hop depends on it
    and it shares a name with the gold answers. The subject of its triple is the entity of the hop that it refers to
    (`#k`), or whose answer it equals, or `<E0>` where it equals a gold answer, or else given by the question. Without
    a triple the text is the sub-question with its answer. Entities that no hop depends on, and that are not the answer,
    are joined with it: a comparison.
    """
    hops = question.hops
    if not hops or any(not hop.answers for hop in hops):
        return None
    triples = [hop.triple or _evidence(hop) for hop in hops]
    golds = {normalize_answer(gold) for gold in question.golden_answers}
    names = [{normalize_answer(answer) for answer in hop.answers} for hop in hops]
    subjects = [_subject(triples[i], i, hops, names) for i in range(len(hops))]
    followed = {k for i, hop in enumerate(hops) for k in (*hop.depends_on, *_referred(hop, i))}
    followed |= {k for k in subjects if k is not None}
    entity = [ANSWER if i not in followed and names[i] & golds else i + 1 for i in range(len(hops))]
    aliases: dict[int, tuple[str, ...]] = {ANSWER: question.golden_answers}
    aliases |= {entity[i]: hop.answers for i, hop in enumerate(hops) if entity[i] != ANSWER}
    claims = []
    for i, (hop, triple, subject) in enumerate(zip(hops, triples, subjects, strict=True)):
        if triple is None:
            asked = _with_placeholders(f"{hop.question} #{i + 1}", entity)
            claims.append(Claim(text=asked, supporting_id=hop.supporting_id))
            continue
        if subject is not None:
            start = f"<E{entity[subject]}>"
        else:
            start = f"<E{ANSWER}>" if normalize_answer(triple[0]) in golds else triple[0]
        start = _with_placeholders(start, entity[:i])
        mentions = () if PLACEHOLDER.search(start) else (start,)
        relation = _with_placeholders(triple[1].replace("_", " "), entity[:i])
        text = f"{start} {relation} <E{entity[i]}>"
        claims.append(Claim(text=text, mentions=mentions, supporting_id=hop.supporting_id))
    ends = {entity[i] for i in range(len(hops)) if i not in followed} - {ANSWER}
    return Rubric(claims=tuple(claims), aliases=aliases, joined=frozenset(ends | {ANSWER}) if ends else frozenset())


def _with_placeholders(text: str, entity: Sequence[int]) -> str:
    """`#k` as the placeholder of the k-th of these hops' entities; other numbers stay."""
    for k, number in enumerate(entity, start=1):
        text = re.sub(rf"#{k}(?!\d)", f"<E{number}>", text)
    return text


def _referred(hop: Hop, index: int) -> list[int]:
    """The earlier hops, counted from 0, that the sub-question names as `#k`."""
    return sorted({int(k) - 1 for k in _REFERENCE.findall(hop.question) if 1 <= int(k) <= index})


def _evidence(hop: Hop) -> tuple[str, str, str] | None:
    match = _EVIDENCE.match(hop.question.strip())
    return (match["subject"], match["relation"], hop.answers[0]) if match else None


def _subject(
    triple: tuple[str, str, str] | None, index: int, hops: Sequence[Hop], names: Sequence[Collection[str]]
) -> int | None:
    """The earlier hop whose answer a triple speaks of, or None."""
    if triple is None:
        return None
    reference = _REFERENCE.fullmatch(triple[0].strip())
    if reference is not None and 1 <= int(reference[1]) <= index:
        return int(reference[1]) - 1
    subject = normalize_answer(triple[0])
    earlier = [k for k in range(index) if subject in names[k]]
    depends_on = hops[index].depends_on
    return next((k for k in earlier if k in depends_on), earlier[0] if earlier else None)
