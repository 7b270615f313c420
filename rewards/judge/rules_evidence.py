"""What passages say of a claim, a query or a goal, by the words, names, numbers and negations of single sentences.

Only one sentence at a time is evidence (with what its pronoun refers to): words gathered from all over a passage would
let a passage about two people support what is true of the other one.
"""

import re
from collections.abc import Sequence

from rewards.judge.wording import (
    ASKING,
    SYMMETRIC,
    Statement,
    content,
    holds_name,
    holds_run,
    is_negated,
    name_words,
    names,
    numbers,
    statements,
    stem,
    tokens,
    without_contrast,
)

SUPPORT_RECALL = 0.75
"""Share of a claim's content words that a sentence has to hold."""
RELATION_RECALL = 0.5
"""Share of the words beside names and numbers that the sentence itself has to hold: names alone relate nothing."""
NUGGET_RECALL, PARTIAL_RECALL = 0.8, 0.5
GOAL_RECALL = 0.6
"""Share of a goal's content words where no gold is known; the threshold of RE-Searcher's rule."""
OTHER_ENTITY = 0.4
"""Most relevance of a passage that lacks a name of the query."""
_GIVEN = frozenset({"went", "goes", "given", "awarded", "belongs", "belonged"})
_JOINED = re.compile(r",?\s+and\s+(?=[a-z])|,\s+and\s+")


def _same(word: str, others: set[str]) -> bool:
    """True if a stem, or one with the same first five letters (direct, director), is among the others."""
    if word in others:
        return True
    return len(word) >= 5 and any(len(other) >= 5 and other[:5] == word[:5] for other in others)


def recall(wanted: Sequence[str], held: Sequence[str]) -> float:
    """Share of the distinct wanted stems that are held; 1 where nothing is wanted."""
    words, others = set(wanted), set(held)
    return sum(_same(word, others) for word in words) / len(words) if words else 1.0


def _broken_name(text: str, statement: Statement) -> bool:
    """True if a name of the text does not stand in the sentence, or before it, word after word."""
    words = tokens(statement.whole)
    return not all(holds_name(words, run) for run in names(text))


def _roles(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """(owners, doers): names after `of` or with 's, and the names after `by` or `went to`, or else the first one."""
    owners: set[str] = set()
    doers: set[str] = set()
    runs = names(f"It {text}")
    words = tokens(text)
    raw = re.findall(r"\d+(?:\.\d+)?|[^\W_]+(?:'[^\W_]+)?", text.replace("’", "'"))
    possessive = {word[:-2].casefold() for word in raw if word.endswith("'s")}
    for run in runs:
        at = next((i for i in range(len(words)) if tuple(words[i : i + len(run)]) == run), None)
        if at is None:
            continue
        if (at > 0 and words[at - 1] == "of") or run[-1] in possessive:
            owners.update(run)
        if at > 0 and (words[at - 1] == "by" or (words[at - 1] == "to" and words[at - 2] in _GIVEN)):
            doers.update(run)
    if not doers and runs:
        doers.update(runs[0])
    return frozenset(owners), frozenset(doers)


def _swapped(claim: str, statement: Statement) -> bool:
    """True if claim and sentence relate the same two names the other way round, as far as `of`, 's and `by` tell.

    Where a relation is the same both ways (spouses), or one of the two is a place ("where"), nothing is swapped.
    """
    if len(names(f"It {claim}")) != 2 or len(names(f"It {statement.text}")) != 2:
        return False
    if SYMMETRIC & {*content(claim), *content(statement.text)} or "where" in tokens(f"{claim} {statement.text}"):
        return False
    owners, doers = _roles(claim)
    other_owners, other_doers = _roles(statement.text)
    if owners and other_owners:
        return not owners & other_owners
    return not (owners or other_owners) and not doers & other_doers


def _relation(text: str) -> list[str]:
    """The content words that are neither of a name nor numbers."""
    own = {stem(word) for word in name_words(text)} | numbers(text)
    return [word for word in content(text) if word not in own]


def _is_supported_by(claim: str, statement: Statement, least: float) -> bool:
    return (
        not _broken_name(claim, statement)
        and numbers(claim) <= numbers(statement.text)
        and recall(content(claim), content(statement.whole)) >= least
        and (bool(_relation(claim)) or len(names(claim)) > 1 or bool(numbers(claim)))
        and recall(_relation(claim), content(statement.text)) >= RELATION_RECALL
        and is_negated(claim) == statement.negated
        and not _swapped(claim, statement)
    )


def _parts(claim: str) -> list[str]:
    """What a claim says with `and`; a part without a name of its own at its beginning has the claim's first one."""
    pieces = [piece for piece in _JOINED.split(claim) if content(piece)]
    first = names(claim)[:1]
    if len(pieces) == 1 or not first:
        return [claim]
    subject = " ".join(word.capitalize() for word in first[0])
    return [
        pieces[0],
        *(piece if piece[0].isupper() or len(names(piece)) > 1 else f"{subject} {piece}" for piece in pieces[1:]),
    ]


def supports(claim: str, passages: Sequence[str], least: float = SUPPORT_RECALL) -> bool:
    """True if a sentence of the passages holds the claim, or one each of the parts that `and` joins.

    A sentence holds it with at least the share `least` of its content words, all its names word for word, all its
    numbers, the same polarity, and no swap of two names around `of`, 's or `by`.
    """
    said = [statement for passage in passages for statement in statements(passage)]
    asserted = without_contrast(claim)
    if not content(asserted):
        return False

    def held(part: str) -> bool:
        return any(_is_supported_by(part, statement, least) for statement in said)

    return all(map(held, _parts(asserted))) or (
        " and " in asserted and not _says_two_things(asserted) and held(asserted)
    )


def _says_two_things(claim: str) -> bool:
    """True if more than one of the parts that `and` joins has a relation of its own: names alone are one list."""
    return sum(bool(_relation(part)) for part in _parts(claim)) > 1


def relevance(query: str, passages: Sequence[str]) -> float:
    """The best passage's share of the query's content words, names counted twice, in [0, 1].

    Words that only ask (year, find) do not count. Half is the share held by the whole passage, half that of its best
    sentence. Where a name of the query is not there word for word the passage is about something else, and its share is
    multiplied by `OTHER_ENTITY`.
    """
    return max((_relevance(query, passage) for passage in passages), default=0.0)


def _relevance(query: str, passage: str) -> float:
    wanted = set(content(query)) - ASKING or set(content(query))
    if not wanted:
        return 0.0
    heavy = {stem(word) for word in name_words(query)}
    total = sum(2.0 if word in heavy else 1.0 for word in wanted)

    def share(text: str) -> float:
        held = set(content(text))
        return sum((2.0 if word in heavy else 1.0) for word in wanted if _same(word, held)) / total

    best = max((share(statement.whole) for statement in statements(passage)), default=0.0)
    score = (share(passage) + best) / 2
    return score if has_names(query, passage) else OTHER_ENTITY * score


def has_names(query: str, passage: str) -> bool:
    """True if every name of the query stands in the passage word for word."""
    words = tokens(passage)
    return all(holds_name(words, run) for run in names(query))


def gives_gold(wanted: str, passages: Sequence[str], golds: Sequence[str], least_without: float) -> bool:
    """True if a sentence answers what is wanted (a query or a goal) with a gold.

    It has a gold word for word in a longer name's place never, holds all names of what is wanted and half of its other
    content words, and is not negated. Without golds, or where they are yes or no, a sentence has to hold the share
    `least_without` of the content words instead.
    """
    said = [statement for passage in passages for statement in statements(passage)]
    findable = [gold for gold in golds if tokens(gold) and tokens(gold) not in (["yes"], ["no"])]
    if not findable:
        return any(
            not _broken_name(wanted, s) and not s.negated and recall(content(wanted), content(s.whole)) >= least_without
            for s in said
        )
    gold_stems = {stem(word) for gold in findable for word in tokens(gold)}
    relation = [word for word in _relation(wanted) if word not in gold_stems and word not in ASKING]
    return any(
        _states_a_gold(s, findable)
        and not _broken_name(wanted, s)
        and not s.negated
        and recall(relation, content(s.text)) >= RELATION_RECALL
        for s in said
    )


def _states_a_gold(statement: Statement, golds: Sequence[str]) -> bool:
    words = tokens(statement.text)
    runs = names(statement.text)
    for gold in golds:
        wanted = [word for word in tokens(gold) if word not in ("the", "a", "an")]
        inside = [run for run in runs if len(run) > len(wanted) and holds_run(list(run), wanted)]
        if holds_run(words, wanted) and not inside:
            return True
    return False


def nugget_label(text: str, nugget: str) -> str:
    """`support`, `partial_support` or `not_support`, by the best sentence of the text.

    Support: content recall of at least 0.8 with names, numbers and polarity as in the nugget. Partial: one of the parts
    that `and` joins, or half of the words, is there and nothing of it contradicted (by the polarity, or by another name
    or number in the place).
    """
    said = statements(text)
    asserted = without_contrast(nugget)
    if not content(asserted) or not said:
        return "not_support"
    if supports(asserted, [text], NUGGET_RECALL):
        return "support"
    shares = [_standing(part, text, said) for part in _parts(asserted)]
    return "partial_support" if max(shares) > 0 and min(shares) >= 0 else "not_support"


def _standing(part: str, text: str, said: Sequence[Statement]) -> int:
    """1 if a part of a nugget is stated, in whole or by half of its words; -1 if it is contradicted; else 0."""
    if supports(part, [text], NUGGET_RECALL):
        return 1
    best = max(said, key=lambda s: recall(content(part), content(s.whole)))
    if recall(content(part), content(best.whole)) < PARTIAL_RECALL:
        return 0
    if recall(_relation(part), content(best.text)) < RELATION_RECALL:
        return 0
    return -1 if _contradicts(part, best) else 1


def _contradicts(claim: str, statement: Statement) -> bool:
    """True if the sentence has another polarity, swapped roles, or another number or name in the claim's place."""
    if is_negated(claim) != statement.negated or _swapped(claim, statement):
        return True
    wanted_numbers, held_numbers = numbers(claim), numbers(statement.text)
    if wanted_numbers - numbers(statement.whole) and held_numbers - wanted_numbers:
        return True
    held = set(tokens(statement.whole))
    lost = [run for run in names(claim) if not set(run) <= held]
    own = set(tokens(claim))
    foreign = [run for run in names(f"It {statement.text}") if not set(run) <= own]
    return bool(lost and foreign)
