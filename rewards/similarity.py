"""How alike two answers are, in [0, 1]: BLEU-2, token F1, or the cosine of a sentence encoder.

Answers are normalised first (`normalize_answer`): case, articles and punctuation make no difference. An answer of which
nothing is left is like no other.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable

from rewards.answer import f1, normalize_answer
from rewards.embeddings import TextEmbeddings

Similarity = Callable[[str, str], float]
"""`similarity(answer, other)`: of an answer with another one, which is the reference where the two are not alike."""


def bleu2(answer: str, reference: str) -> float:
    """Sentence BLEU with unigrams and bigrams of the normalised texts, in [0, 1].

    exp(min(0, 1 - r/h)) * (p_1 * p_2)^(1/2), h and r the lengths of answer and reference, p_n the clipped n-gram
    precision. Smoothing is NIST's (Chen and Cherry 2014, method 3): where no bigram matches, p_2 = 1 / (2 * bigrams).
    An answer of one word has no bigrams and p_1 counts alone. 0 where no word matches. Equal to sacrebleu's
    `sentence_score` with max_ngram_order=2, smooth_method="exp", effective_order=True, tokenize="none".

    >>> round(bleu2("the town of Oskel", "Oskel"), 3), bleu2("Oskel", "oskel.")
    (0.289, 1.0)
    """
    words, wanted = normalize_answer(answer).split(), normalize_answer(reference).split()
    num_same = (Counter(words) & Counter(wanted)).total()
    if not num_same:
        return 0.0
    brevity = min(1.0, math.exp(1.0 - len(wanted) / len(words)))
    precision = num_same / len(words)
    num_bigrams = len(words) - 1
    if not num_bigrams:
        return brevity * precision
    bigrams, wanted_bigrams = (Counter(itertools.pairwise(text)) for text in (words, wanted))
    num_same_bigrams = (bigrams & wanted_bigrams).total() or 0.5
    return brevity * math.sqrt(precision * num_same_bigrams / num_bigrams)


def token_f1(answer: str, other: str) -> float:
    """Token F1 of two answers, in [0, 1], symmetric; yes and no are only like themselves."""
    return f1(answer, [other])


def embedding_similarity(embeddings: TextEmbeddings) -> Similarity:
    """Cosine of two normalised answers, in [0, 1]: opposite directions count as 0."""

    def similarity(answer: str, other: str) -> float:
        one, two = normalize_answer(answer), normalize_answer(other)
        return max(0.0, embeddings.cosine(one, two)) if one and two else 0.0

    return similarity
