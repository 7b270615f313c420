"""TF-IDF vectors of passages, with the IDF of the whole corpus, for similarities inside the RL loop.

The weighting is the textbook one of scikit-learn's `TfidfVectorizer` with its defaults: words of two letters or more,
lower-cased; raw term counts; idf = ln((1 + N) / (1 + df)) + 1; unit length. Vectors and the cosines between gold and
retrieved passages are cached by passage id, because the samples of a group see the same passages again and again.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache

from retrieval.passage import Passage
from rewards.reward import PassageRows

_WORD = re.compile(r"\b\w\w+\b")

SparseVector = dict[str, float]
"""Weight by word; unit length, or empty for a text without words."""


def words(text: str) -> list[str]:
    """Lower-cased words of two characters or more."""
    return _WORD.findall(text.lower())


class TfIdf:
    """Inverse document frequencies of a corpus, and the vectors that follow from them."""

    def __init__(self, document_frequency: Counter[str], num_documents: int) -> None:
        self.num_documents = num_documents
        self._idf = {
            word: math.log((1 + num_documents) / (1 + count)) + 1.0 for word, count in document_frequency.items()
        }
        self._idf_of_unknown = math.log(1 + num_documents) + 1.0

    @classmethod
    def fit(cls, texts: Iterable[str]) -> "TfIdf":
        """Count in how many texts each word occurs: one pass."""
        frequency: Counter[str] = Counter()
        num_documents = 0
        for text in texts:
            frequency.update(set(words(text)))
            num_documents += 1
        return cls(frequency, num_documents)

    def idf(self, word: str) -> float:
        """ln((1 + N) / (1 + df)) + 1, with df = 0 for a word that the corpus does not have."""
        return self._idf.get(word, self._idf_of_unknown)

    def vector(self, text: str) -> SparseVector:
        """Term count times IDF, scaled to unit length; empty for a text without words."""
        weights = {word: count * self.idf(word) for word, count in Counter(words(text)).items()}
        length = math.sqrt(sum(weight * weight for weight in weights.values()))
        return {word: weight / length for word, weight in weights.items()}


def cosine(a: SparseVector, b: SparseVector) -> float:
    """Cosine of two unit vectors, in [0, 1]; 0 where one of them is empty."""
    if len(a) > len(b):
        a, b = b, a
    return min(sum(weight * b[word] for word, weight in a.items() if word in b), 1.0)


def evenly_spaced(corpus: PassageRows, limit: int) -> Iterable[Passage]:
    """At most `limit` passages at equal distances, the whole corpus where it is no larger."""
    stride = max(1, -(-len(corpus) // limit))
    return (corpus[i] for i in range(0, len(corpus), stride))


class PassageSimilarity:
    """Cosines between passages by id. Fits the IDF at the first use, then only looks up."""

    def __init__(
        self,
        passage: Callable[[str], Passage],
        corpus: Callable[[], PassageRows],
        *,
        max_fit_passages: int,
        max_cached_passages: int,
    ) -> None:
        self._passage = passage
        self._corpus = corpus
        self._max_fit_passages = max_fit_passages
        self._tfidf: TfIdf | None = None
        self.vector = lru_cache(maxsize=max_cached_passages)(self._compute_vector)
        self.cosine = lru_cache(maxsize=4 * max_cached_passages)(self._compute_cosine)

    @property
    def tfidf(self) -> TfIdf:
        """The fitted weights.

        Raises:
            ValueError: the corpus is empty.
        """
        if self._tfidf is None:
            passages = self._corpus()
            if not len(passages):
                raise ValueError("the corpus is empty: there is nothing to fit the IDF on; check the index")
            self._tfidf = TfIdf.fit(p.contents for p in evenly_spaced(passages, self._max_fit_passages))
        return self._tfidf

    def knows(self, passage_id: str) -> bool:
        """True if the corpus has this passage."""
        try:
            self.vector(passage_id)
        except KeyError:
            return False
        return True

    def _compute_vector(self, passage_id: str) -> SparseVector:
        return self.tfidf.vector(self._passage(passage_id).contents)

    def _compute_cosine(self, a: str, b: str) -> float:
        return 1.0 if a == b and self.vector(a) else cosine(self.vector(a), self.vector(b))
