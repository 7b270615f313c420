"""The words of a text as the rules of rewards compare them: as sets, remembered by text.

Words are cut and stemmed as the rules judge does it (`rewards.judge.wording`); phrases are matched as answers are
(`rewards.answer.normalize_answer`). The samples of a group read the same passages again and again, so each text is
taken apart once.
"""

from collections.abc import Iterable, Set
from functools import lru_cache

from rewards.answer import normalize_answer
from rewards.judge.wording import content, name_words, numbers, stem, tokens

_REMEMBERED_TEXTS = 12_000
"""Of each kind; a passage of 100 words takes some 40 kB in all of them, so these are half a gigabyte at most."""


@lru_cache(maxsize=_REMEMBERED_TEXTS)
def _padded(text: str) -> str:
    return f" {normalize_answer(text)} "


def named_in(text: str, names: Iterable[str]) -> str | None:
    """The first of these names that stands in the text in whole words, both normalised: "ten" is not in "often"."""
    padded = _padded(text)
    return next((name for name in names if (wanted := _padded(name)).strip() and wanted in padded), None)


def mentions(text: str, phrases: Iterable[str]) -> bool:
    """True if one of the phrases stands in the text (`named_in`)."""
    return named_in(text, phrases) is not None


@lru_cache(maxsize=_REMEMBERED_TEXTS)
def all_words(text: str) -> frozenset[str]:
    """Every word, folded and not stemmed."""
    return frozenset(tokens(text))


@lru_cache(maxsize=_REMEMBERED_TEXTS)
def content_words(text: str) -> frozenset[str]:
    """Stems of the words that are neither function words nor negations.

    >>> sorted(content_words("Which green towns did Oskel see?"))
    ['green', 'oskel', 'see', 'town']
    """
    return frozenset(content(text))


@lru_cache(maxsize=_REMEMBERED_TEXTS)
def key_words(text: str) -> frozenset[str]:
    """Stems of the names, and the numbers; of a text without any (a question in lower case) its content words."""
    return name_stems(text) | numbers(text) or content_words(text)


@lru_cache(maxsize=_REMEMBERED_TEXTS)
def name_stems(text: str) -> frozenset[str]:
    """Stems of the words of all names: capitalised words, a sentence's first one only where it looks like a name."""
    return frozenset(map(stem, name_words(text)))


def recall(wanted: Set[str], found: Set[str]) -> float:
    """Share of the wanted words that were found, in [0, 1]; 0 where none are wanted."""
    return len(wanted & found) / len(wanted) if wanted else 0.0


def jaccard(a: Set[str], b: Set[str]) -> float:
    """Words that two texts share, as a share of all words of both, in [0, 1]; 0 where neither has one."""
    return len(a & b) / len(a | b) if a | b else 0.0
