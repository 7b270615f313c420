"""Cases from a family of templates: for each criterion as many that hold as that do not, half of them adversarial.

Adversarial cases that do not hold deny the fact, put another entity in its place, or have part of a name or a namesake;
those that do hold have the same traps beside the truth.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.judge_cases.family import Family, Relation
from rewards.judge.judge import JudgeRequest

TRAPS = ("negation", "swapped entity", "partial alias")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A request and what a right judge says: `holds`, or one of a nugget's labels. `trap` is None for a plain case."""

    request: JudgeRequest
    wanted: str
    trap: str | None
    template: str


@dataclass(slots=True)
class _Draw:
    """One fact with everything that can be put in its place."""

    family: Family
    rng: random.Random
    relation: Relation = field(init=False)
    words: dict[str, str] = field(init=False)
    used: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        family, rng = self.family, self.rng
        self.relation = rng.choice(family.relations)
        firsts, lasts = rng.sample(family.first_names, 4), rng.sample(family.last_names, 5)
        objects = {
            "person": [f"{firsts[2]} {lasts[2]}", f"{firsts[3]} {lasts[3]}"],
            "place": rng.sample(family.places, 2),
            "year": [str(year) for year in rng.sample(range(*family.years), 2)],
        }[self.relation.kind]
        self.words = {
            "s": f"{firsts[0]} {lasts[0]}",
            "t": f"{firsts[1]} {lasts[1]}",
            "n": f"{firsts[0]} {lasts[4]}",
            "p": firsts[0],
            "o": objects[0],
            "x": objects[1],
        }

    def say(self, templates: tuple[str, ...], **instead: str) -> str:
        """One of the templates, filled in; `instead` puts one word for another, `s="t"`."""
        template = self.rng.choice(templates)
        self.used.append(template)
        words = self.words | {name: self.words.get(other, other) for name, other in instead.items()}
        return template.format(**words)

    def passage(self, *told: str, title: str = "s") -> str:
        """A passage with sentences in any order, fillers among them."""
        lines = [*told, self.rng.choice(self.family.fillers)]
        self.rng.shuffle(lines)
        return f"{self.words.get(title, title)}\n{' '.join(lines)}"

    def fact(self, **instead: str) -> str:
        """The fact in one of its wordings."""
        return self.say(self.relation.facts, **instead)

    def part_of_object(self) -> str | None:
        """A name's last word; None where it has one word."""
        first, space, rest = self.words["o"].partition(" ")
        del first
        return rest if space else None


Made = tuple[dict[str, Any], str]
"""Fields of a request, and the verdict that is right."""


def _answer(d: _Draw, holds: bool, trap: str | None) -> Made:
    family = d.family
    golds = [d.words["o"]]
    if trap is None:
        said = d.say(family.right_answers) if holds else d.say((*family.right_answers, *family.empty_answers), o="x")
    elif holds:
        said = d.say(
            {"negation": family.contrasted_answers, "swapped entity": d.relation.contrasts}.get(trap, d.relation.facts)
        )
        if trap == "partial alias":
            golds = [f"{d.words['o']} Elder", d.words["o"]]
    elif trap == "negation":
        said = d.say((*family.denied_answers, *d.relation.denials))
    elif trap == "swapped entity":
        said = (
            d.say((*family.hedged_answers, *d.relation.facts), o="x")
            if d.rng.random() < 0.5
            else d.say(family.hedged_answers)
        )
    else:
        part = d.part_of_object()
        if d.relation.kind == "year":
            said = d.say(family.right_answers, o=d.words["o"][:3])
        else:
            said = d.say(family.right_answers, o=part) if part else d.say(family.longer_names)
    return {"question": d.say((d.relation.question,)), "answer": said, "golds": golds}, _holds(holds)


def _evidence(d: _Draw, holds: bool, trap: str | None) -> list[str]:
    """Passages that hold the fact, or fall short of it in the way of the trap."""
    other = d.passage(d.fact(s="t", o="x"), title="t")
    if trap is None:
        return [other, d.passage(d.fact())] if holds else [d.passage(title="t"), other]
    if holds:
        if trap == "negation":
            return [d.passage(d.say(d.relation.contrasts))]
        if trap == "swapped entity":
            return [d.passage(d.fact(), d.fact(s="t", o="x"))]
        return [d.passage(d.fact(s="n", o="x"), title="n"), d.passage(d.fact())]
    if trap == "negation":
        return [d.passage(d.say(d.relation.denials))]
    if trap == "swapped entity":
        return [d.passage(d.fact(o="x"), d.fact(s="t"))]
    return [d.passage(d.fact(s="n"), title="n")]


def _supports(d: _Draw, holds: bool, trap: str | None) -> Made:
    return {"claim": d.say(d.relation.claims), "passages": _evidence(d, holds, trap)}, _holds(holds)


def _relevance(d: _Draw, holds: bool, trap: str | None) -> Made:
    if trap == "swapped entity" and not holds:
        passages = [d.passage(d.fact(s="t"), title="t")]
    elif trap == "negation" and not holds:  # a denied fact is still about the query: the entity is another one here
        passages = [d.passage(d.say(d.relation.denials, s="t"), title="t")]
    else:
        passages = _evidence(d, holds, trap)
    question = d.say((d.relation.question,))
    return {"question": question, "query": d.say(d.relation.queries), "passages": passages}, _holds(holds)


def _usefulness(d: _Draw, holds: bool, trap: str | None) -> Made:
    made, wanted = _relevance_fields(d), _holds(holds)
    return made | {"passages": _evidence(d, holds, trap), "golds": [d.words["o"]]}, wanted


def _relevance_fields(d: _Draw) -> dict[str, Any]:
    return {"question": d.say((d.relation.question,)), "query": d.say(d.relation.queries)}


def _goal_met(d: _Draw, holds: bool, trap: str | None) -> Made:
    passages = _evidence(d, holds, trap)
    return {"goal": d.say(d.relation.goals), "passages": passages, "golds": [d.words["o"]]}, _holds(holds)


def _nugget(d: _Draw, holds: bool, trap: str | None) -> Made:
    nugget = d.say(d.relation.claims)
    if holds and d.rng.random() < 0.5:  # half of what is there is there in part
        others = [relation for relation in d.family.relations if relation is not d.relation]
        second = d.rng.choice(others)
        added = {"person": d.words["t"], "place": d.rng.choice(d.family.places), "year": str(d.family.years[1] + 7)}
        claim = second.claims[0].format(**d.words | {"o": added[second.kind]})
        joined = nugget.rstrip(".") + ", and " + claim
        return {
            "text": " ".join(p.partition("\n")[2] for p in _evidence(d, True, trap)),
            "nugget": joined,
        }, "partial_support"
    text = " ".join(passage.partition("\n")[2] for passage in _evidence(d, holds, trap))
    return {"text": text, "nugget": nugget}, "support" if holds else "not_support"


def _thought(d: _Draw, holds: bool, trap: str | None) -> Made:
    context = [d.passage(d.fact()), d.passage(d.fact(s="t", o="x"), title="t")]
    plan = d.say(d.family.plans)
    if trap is None and not holds:
        said = d.say(d.family.poor_thoughts)
    elif holds and trap == "negation":
        said = d.say(d.relation.contrasts)
    elif holds and trap == "partial alias":
        said = plan
    elif holds:
        said = f"{d.say(d.family.thoughts, fact=d.say(d.relation.claims))} {plan if trap else ''}".strip()
    elif trap == "negation":
        said = d.say(d.relation.denials)
    elif trap == "swapped entity":
        said = d.say(d.family.thoughts, fact=d.say(d.relation.claims, o="x"))
    else:
        said = d.say(d.family.thoughts, fact=d.say(d.relation.claims, s="n"))
    return {"question": d.say((d.relation.question,)), "thought": said, "context": context}, _holds(holds)


def _query(d: _Draw, holds: bool, trap: str | None) -> Made:
    context = [d.passage(d.fact(s="t", o="x"), title="t")]
    thought = d.say(d.family.plans)
    query = d.say(d.relation.queries)
    if trap is None and not holds:
        query = d.say(d.family.poor_queries)
    elif holds and trap is not None:
        query = query.lower() if trap == "partial alias" else query
    elif trap == "negation":
        query = d.say(d.relation.denials, o="x")
    elif trap == "swapped entity":
        query = d.say(d.relation.queries, s="t")
    elif trap == "partial alias":
        query = d.say(d.relation.queries, s=d.rng.choice("np"))
    fields = {"question": d.say((d.relation.question,)), "thought": thought, "query": query, "context": context}
    return fields, _holds(holds)


def _holds(holds: bool) -> str:
    return "holds" if holds else "fails"


MAKERS: dict[str, Callable[[_Draw, bool, str | None], Made]] = {
    "answer": _answer,
    "supports": _supports,
    "relevance": _relevance,
    "usefulness": _usefulness,
    "goal_met": _goal_met,
    "nugget": _nugget,
    "thought": _thought,
    "query": _query,
}


def make_cases(family: Family, criterion: str, count: int) -> list[Case]:
    """`count` cases of a criterion, the same at every call; every second one adversarial, every second pair holds."""
    cases = []
    for i in range(count):
        draw = _Draw(family, random.Random(f"{family.name}/{criterion}/{i}"))
        holds, trap = (i // 2) % 2 == 0, TRAPS[(i // 4) % len(TRAPS)] if i % 2 else None
        fields, wanted = MAKERS[criterion](draw, holds, trap)
        request = JudgeRequest(criterion=criterion, fields=fields)
        cases.append(Case(request=request, wanted=wanted, trap=trap, template=" | ".join(draw.used)))
    return cases
