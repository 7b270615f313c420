"""What a scripted policy may read: the passages that were shown, the queries that were asked, the names in a text.

Scripted policies look at `Turn.shown`, as rewards do: a passage that was retrieved and did not fit the observation is
not there for them either.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from agent.trajectory import Turn
from retrieval.passage import Passage

_WORD = r"[A-Z][\w-]*(?:['’](?!s\b)[\w-]+)*"
_CAPITALISED = re.compile(rf"{_WORD}(?: {_WORD})*")
_NUMBER = re.compile(r"\d[\d,.]*\d|\d")
FUNCTION_WORD = re.compile(
    "a|after|also|an|and|are|as|at|be|before|but|by|can|did|do|does|during|for|from|had|has|have|he|her|his|how|if|in|is|it"
    "|its|of|on|or|she|since|so|some|such|that|the|their|there|these|they|this|those|though|to|under|until|was|were|what"
    "|when|where|which|while|who|whom|whose|why|with",
    re.IGNORECASE,
)
_SENTENCE_OPENER = re.compile("All|Born|Both|Built|First|Founded|Later|Many|Most|Near|No|Once|One|Other|Today|Yes")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPassage:
    """A passage in the context, under the number that it was shown with."""

    number: int
    passage: Passage


def seen_passages(turns: Iterable[Turn]) -> dict[str, SeenPassage]:
    """Passages shown so far by id, in the order in which they were first shown."""
    seen: dict[str, SeenPassage] = {}
    for turn in turns:
        found = {hit.passage.id: hit.passage for call in turn.calls for hit in call.hits}
        for shown in turn.shown:
            if shown.passage_id not in seen:
                seen[shown.passage_id] = SeenPassage(number=shown.number, passage=found[shown.passage_id])
    return seen


def asked_queries(turns: Iterable[Turn]) -> list[str]:
    """Every query of the episode, in order: those in the actions, so refused ones count as asked."""
    return [request.argument for turn in turns for request in turn.action.requests]


def names_in(text: str) -> list[str]:
    """Capitalised phrases in the order of their first occurrence, without leading function words."""
    names: dict[str, None] = {}
    for match in _CAPITALISED.finditer(text):
        words = match.group().split(" ")
        while words and (FUNCTION_WORD.fullmatch(words[0]) or _SENTENCE_OPENER.fullmatch(words[0])):
            words.pop(0)
        if words:
            names[" ".join(words)] = None
    return list(names)


def candidate_answers(question_text: str, seen: Iterable[SeenPassage], *, like: str) -> list[str]:
    """Things in the context that could pass for an answer of the form of `like`.

    Numbers where `like` holds a digit (names where the context has none), names otherwise: titles, then names in the
    passages, then names in the question.
    """
    passages = [s.passage for s in seen]
    if any(c.isdigit() for c in like):
        numbers = dict.fromkeys(n for p in passages for n in _NUMBER.findall(p.text))
        if numbers:
            return list(numbers)
    names = dict.fromkeys(p.title for p in passages if p.title)
    for passage in passages:
        names.update(dict.fromkeys(names_in(passage.text)))
    if not names:
        names.update(dict.fromkeys(names_in(question_text)))
    return list(names)


def occurs_in(phrase: str, passages: Iterable[Passage]) -> bool:
    """True if the phrase stands in one of the passages as it is, not inside a longer word."""
    return any(_occurs(phrase, passage.title) or _occurs(phrase, passage.text) for passage in passages)


def _occurs(phrase: str, text: str) -> bool:
    start = text.find(phrase) if phrase else -1
    while start >= 0:
        end = start + len(phrase)
        if not (_is_word(text[start - 1 : start]) or _is_word(text[end : end + 1])):
            return True
        start = text.find(phrase, start + 1)
    return False


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
