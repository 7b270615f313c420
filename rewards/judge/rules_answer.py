"""Does an answer say what a gold answer says: aliases, numbers, negation, and no second answer beside the first."""

import re
from collections.abc import Sequence

from rewards.answer import normalize_answer
from rewards.judge.wording import (
    MAGNITUDES,
    MONTHS,
    STOP,
    TITLES,
    is_negated,
    is_number,
    names,
    numbers,
    place_of,
    sentences,
    stem,
    tokens,
    without_contrast,
)

_ARTICLES = frozenset({"a", "an", "the"})
_NO_ANSWER = re.compile(
    r"\b(?:cannot be (?:determined|answered|known)|can't be determined|not (?:known|enough information|possible to)|"
    r"unknown|unclear|don't know|do not know|no (?:answer|information))\b"
)
_YES = frozenset(["yes", "yeah", "true", "correct", "indeed", "right"])
_NO = frozenset(["no", "nope", "false", "incorrect", "wrong", "not"])
_HEDGES = frozenset(["maybe", "perhaps", "possibly", "probably", "likely"])
_ALTERNATIVE = re.compile(r"\b(?:or|either|and|versus|vs)\b|[/,;&|]", re.IGNORECASE)


def answer_is_right(question: str, answer: str, golds: Sequence[str]) -> bool:
    """True if the answer commits to one gold.

    It does where it equals a gold (normalised as in exact match), or where one of its sentences states a gold word for
    word, or a number or date by its parts in any order, and: it is not negated, contrasts aside ("not X"); no other
    capitalised word or magnitude stands directly beside the gold, which would name something else; and no other name
    or number is coordinated with it. What the question says, titles and initials are allowed beside it. A part of a
    gold is no gold.
    """
    normal = [normal for normal in map(normalize_answer, golds) if normal]
    if not answer.strip():
        return False
    if normalize_answer(answer) in normal:
        return True
    if _NO_ANSWER.search(answer.lower().replace("’", "'")):
        return False
    if any(gold in ("yes", "no") for gold in normal):
        return _polarity(answer) in normal
    return any(_states(question, answer, gold, golds) for gold in golds if tokens(gold))


def _polarity(answer: str) -> str | None:
    """`yes` or `no`, where the answer's first word says so and no later one says the opposite."""
    words = tokens(answer)
    said = {"yes" for word in words if word in _YES - {"right"}} | {"no" for word in words if word in _NO}
    if words and words[0] in _YES | _NO:
        first = "yes" if words[0] in _YES else "no"
        opposite = _NO - {"not"} if first == "yes" else _YES - {"right"}
        return None if any(word in opposite for word in words[1:]) else first
    return said.pop() if len(said) == 1 else None


def _bare(words: list[str]) -> list[str]:
    return [word for word in words if word not in _ARTICLES and word not in TITLES]


def _states(question: str, answer: str, gold: str, golds: Sequence[str]) -> bool:
    asked = {stem(word) for word in tokens(question)}
    allowed = asked | {stem(word) for other in golds for word in tokens(other)}
    found = False
    for raw in sentences(answer):
        sentence = _last_clause(without_contrast(raw), gold)
        words, wanted = _bare(tokens(sentence)), _bare(tokens(gold))
        if any(is_number(word) for word in wanted):
            place = _place_of_number(words, wanted, asked)
        else:
            place = _place_of_name(words, wanted)
        if place is None:
            continue
        if is_negated(sentence) != is_negated(question) and is_negated(sentence):
            return False
        start, stop = place
        beside = [words[i] for i in (start - 1, stop) if 0 <= i < len(words)]
        capitals = {word for run in names(f"It {sentence}") for word in run}
        if any(_renames(word, capitals, allowed) for word in beside):
            return False
        if _coordinated(sentence, gold, allowed):
            return False
        found = True
    return found


def _last_clause(sentence: str, gold: str) -> str:
    """What follows `but`, where the gold stands there: what comes before it is set aside."""
    before, but, after = sentence.rpartition(" but ")
    dismisses = tokens(before)[-1:] not in (["anything"], ["nothing"], ["all"])
    return after if but and dismisses and set(_bare(tokens(gold))) <= set(tokens(after)) else sentence


def _place_of_name(words: list[str], wanted: list[str]) -> tuple[int, int] | None:
    start = place_of(words, wanted)
    if start is not None:
        return start, start + len(wanted)
    short = [word for word in wanted if len(word) > 1]
    if len(short) >= 2 and len(short) < len(wanted):  # the gold has initials that the answer leaves out
        start = place_of(words, short)
        return None if start is None else (start, start + len(short))
    long = [word for word in words if len(word) > 1 or word.isdigit()]
    if len(wanted) >= 2 and len(long) < len(words):  # the answer has initials that the gold leaves out
        start = place_of(long, wanted)
        if start is not None:
            first = words.index(wanted[0])
            last = len(words) - 1 - words[::-1].index(wanted[-1])
            return first, last + 1
    return None


def _place_of_number(words: list[str], wanted: list[str], asked: set[str]) -> tuple[int, int] | None:
    """Where all parts of a number or date stand, in any order, with no other number than a day beside its month."""
    if not set(wanted) <= set(words):
        return None
    others = {word for word in words if is_number(word)} - set(wanted) - asked
    if others and not (len(others) == 1 and MONTHS & set(words)):
        return None
    places = [words.index(word) for word in wanted]
    start, stop = min(places), max(places) + 1
    if stop < len(words) and words[stop] in MAGNITUDES:
        return None
    return (start, stop) if stop - start <= len(wanted) + 1 else None


def _renames(word: str, capitals: set[str], allowed: set[str]) -> bool:
    """True for a word beside the gold that makes another name of it."""
    return word in capitals and word not in STOP and stem(word) not in allowed and word not in MONTHS


def _coordinated(sentence: str, gold: str, allowed: set[str]) -> bool:
    """True if another name, or another number for a number, is offered beside the gold: `A or B`, `A, B, C`."""
    whole = tokens(gold)
    others = [
        run
        for run in names(f"It {sentence}")
        if not set(run) & set(whole) and any(stem(word) not in allowed for word in run if word not in MONTHS)
    ]
    if numbers(gold):
        others = [run for run in others if any(is_number(word) for word in run)]
    flat = sentence.casefold()
    at = flat.find(whole[0])
    for run in others:
        other = flat.find(run[0])
        if at < 0 or other < 0:
            continue
        first, second = sorted((at, other))
        between = flat[first:second]
        for word in (*whole, *run):
            between = between.replace(word, " ")
        left = [word for word in tokens(_ALTERNATIVE.sub(" ", between)) if word not in STOP and word not in _HEDGES]
        if not left and _ALTERNATIVE.search(between):
            return True
    return False
