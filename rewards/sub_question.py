"""The sub-questions of a question's hops, with the gold answers of earlier hops filled in, and their key words."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence

from envs.question import Hop
from rewards.answer import normalize_answer

_REFERENCE = re.compile(r"#(\d+)")
_FUNCTION_WORDS_TEXT = """
and are as at be been being but by can could did do does for from had has have he her his how i if in into is
it its me my name of on one or our please she so tell that their them they this those these to us was we were
what when where which who whom whose why will with would you your
"""
_FUNCTION_WORDS = frozenset(_FUNCTION_WORDS_TEXT.split())


def filled_sub_questions(hops: Sequence[Hop], index: int, *, max_variants: int = 8) -> tuple[str, ...]:
    """The sub-question of `hops[index]` with `#k` replaced by the answers of hop k (from 1).

    One text for each combination of the answers' aliases, the first ones first, at most `max_variants`. A reference to
    a hop that is not there, or has no answers, is left out of the text.
    """
    text = hops[index].question
    numbers = list(dict.fromkeys(int(number) for number in _REFERENCE.findall(text)))
    choices = [hops[k - 1].answers or ("",) if 1 <= k <= len(hops) else ("",) for k in numbers]
    variants: dict[str, None] = {}
    for answers in itertools.islice(itertools.product(*choices), max_variants):
        filling = dict(zip(numbers, answers, strict=True))
        filled = _REFERENCE.sub(lambda match, filling=filling: filling[int(match[1])], text)  # type: ignore[misc]
        variants.setdefault(" ".join(filled.split()))
    return tuple(variants)


def key_word_counts(text: str) -> Counter[str]:
    """The words of the normalised text that carry meaning, as a multiset: without articles and function words.

    >>> sorted(key_word_counts("In which town did the founder of Lomira grow up?"))
    ['founder', 'grow', 'lomira', 'town', 'up']
    """
    return Counter(word for word in normalize_answer(text).split() if word not in _FUNCTION_WORDS)


def key_word_f1(query: Counter[str], reference: Counter[str]) -> float:
    """F1 of two multisets of words, in [0, 1]; 0 where one of them is empty."""
    num_same = (query & reference).total()
    if not num_same:
        return 0.0
    precision, recall = num_same / query.total(), num_same / reference.total()
    return 2 * precision * recall / (precision + recall)


def key_word_recall(reference: Counter[str], text: Counter[str]) -> float:
    """Share of the words of `reference` that `text` has too, in [0, 1]; 0 for an empty reference."""
    return (reference & text).total() / reference.total() if reference else 0.0
