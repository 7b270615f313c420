"""How good a thought or a query is, by PPR's principles as far as words tell: relevant, faithful, clear, concise."""

import re
from collections.abc import Sequence
from itertools import pairwise

from rewards.judge.rules_evidence import recall, supports
from rewards.judge.wording import (
    PRONOUNS,
    STOP,
    content,
    is_negated,
    name_words,
    names,
    numbers,
    sentences,
    tokens,
)

BAD_STEP = 0.3
"""Most that a step with a disqualifying fault earns."""
MOST_QUERY_WORDS = 15
REPEATED = 0.8
"""Jaccard overlap of words from which a query counts as one asked before."""
_LOOP_WORDS = 12
_REPORTED = re.compile(
    r"^(?:so|thus|therefore|now|hence)?,?\s*(?:according to [^,]*,|(?:the|this|that|these)\s+(?:first |second |last )?"
    r"(?:passage|document|text|result|source|page|article)s?\s+\w+(?:\s+us)?(?:\s+that)?\b)\s*",
    re.IGNORECASE,
)
_INTENT = re.compile(
    r"\b(?:i|we|let me|let us|let's)\b.*\b(?:need|should|must|will|want|have to|search|look|find out|check|do not know|"
    r"don't know)\b|\b(?:needs? to|should|must|still|whether|next|time to|one more|remains)\b",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"\b(?:document|doc|passage|result|source|step|hop)\s*#?\d+\b|\[\d+\]", re.IGNORECASE)


def thought_score(question: str, thought: str, context: Sequence[str]) -> float:
    """Mean of relevance, faithfulness and progress, in [0, 1]; at most `BAD_STEP` where it invents or contradicts.

    Relevant: it shares a name with question or context, or holds a third of the question's content words. Faithful: its
    names and numbers occur in question or context, and each sentence that states something of two names or with a
    number, or denies something, is held by a sentence of the context. Progress: it names something or says what to do
    next. 0 for less than three words, or a loop (fewer than half of its word pairs differ).
    """
    thought = _REFERENCE.sub("it", thought)
    words = tokens(thought)
    if len(words) < 3 or _is_loop(words):
        return 0.0
    seen = [question, *context]
    known_words = {word for text in seen for word in tokens(text)}
    known_names = {word for text in seen for word in name_words(text)}
    own = name_words(thought)
    if _repeats_itself(thought):
        return BAD_STEP
    invented = bool(own - known_words) or bool(numbers(thought) - {n for text in seen for n in numbers(text)})
    faithful = not invented and all(_is_held(sentence, seen) for sentence in sentences(thought))
    shares_words = recall(content(question), content(thought)) >= 1 / 3
    relevant = bool(own & known_names) or shares_words
    progress = bool(own) or bool(_INTENT.search(thought))
    score = (relevant + faithful + progress) / 3
    return score if faithful and relevant else min(score, BAD_STEP)


def _is_loop(words: list[str]) -> bool:
    pairs = list(pairwise(words))
    return len(words) >= _LOOP_WORDS and len(set(pairs)) < len(pairs) / 2


def _repeats_itself(text: str) -> bool:
    said = [tuple(tokens(sentence)) for sentence in sentences(text)]
    return len(said) >= 3 and len(set(said)) <= len(said) / 2


def _is_held(sentence: str, seen: Sequence[str]) -> bool:
    """True for a plan or an inference about one thing; a statement of fact has to be held by what was seen."""
    sentence = _REPORTED.sub("", sentence)
    if _INTENT.search(sentence) or sentence.rstrip().endswith("?"):
        return True
    states_a_fact = len(names(f"It {sentence}")) >= 2 or bool(numbers(sentence))
    if not states_a_fact and not is_negated(sentence):
        return True
    return supports(sentence, list(seen), 0.6)


def query_score(question: str, thought: str, query: str, context: Sequence[str]) -> float:
    """Mean of key entity, clarity and concision, in [0, 1]; at most `BAD_STEP` with a disqualifying fault.

    Key entity: it holds a whole name of question or context. Clarity: no pronoun. Concision: 2 to 15 words. Faults: no
    key entity; a name or number that occurs nowhere before; part of a name of the question or the thought; none of the
    thought's names, where it has any; a negation that the question does not have; words of which more than `REPEATED`
    are those of an earlier text of the context that is as short as a query.
    """
    words = tokens(query)
    if not words:
        return 0.0
    seen = [question, *context]
    known_words = {word for text in seen for word in tokens(text)}
    known_runs = {run for text in seen for run in names(text)}
    touched = [run for run in known_runs if set(run) & set(words) - STOP]
    whole = [run for run in touched if set(run) <= set(words)]
    invented = bool(name_words(query) - known_words) or bool(
        numbers(query) - {n for text in seen for n in numbers(text)}
    )
    thought_names = name_words(thought)
    off_thought = bool(thought_names) and not thought_names & set(words)
    turned = is_negated(query) and not is_negated(question)
    unclear = any(word in PRONOUNS - {"that", "this", "there", "those", "these"} for word in words)
    score = (bool(whole) + (not unclear) + (2 <= len(words) <= MOST_QUERY_WORDS)) / 3
    halved = [
        run
        for run in {*names(question), *names(thought)}
        if set(run) & set(words) - STOP and not any(set(run) & set(words) <= set(other) for other in whole)
    ]
    fault = not whole or bool(halved) or invented or off_thought or turned or _asked_before(words, context)
    return min(score, BAD_STEP) if fault else score


def _asked_before(words: list[str], context: Sequence[str]) -> bool:
    own = set(words) - STOP
    for text in context:
        earlier = tokens(text)
        if len(earlier) <= MOST_QUERY_WORDS + 5:
            other = set(earlier) - STOP
            if own and len(own & other) / len(own | other) > REPEATED:
                return True
    return False
