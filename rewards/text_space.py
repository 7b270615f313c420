"""Where rewards measure how near two texts are: cosines in a space of TF-IDF weights or of a sentence encoder.

A reward asks for all the texts of a trajectory at once and gets one table of cosines. Without a model the space is
TF-IDF with the corpus's IDF: deterministic, cheap, non-negative, blind to synonyms. With a model the same table comes
from the encoder. Both are cached by text, because a group says and reads the same things again and again.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from rewards.embeddings import TextEmbeddings
from rewards.reward import PassageRows, RewardContext, whole_parameter
from rewards.tfidf import SparseVector, TfIdf, cosine, evenly_spaced

_EMBEDDINGS: WeakValueDictionary[str, TextEmbeddings] = WeakValueDictionary()


class TextSpace(Protocol):
    """Texts as unit vectors."""

    def cosines(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Cosine of every pair, `[num_texts, num_texts]`, symmetric; row and column 0 for a text without content."""
        ...


class TfIdfSpace:
    """TF-IDF weights with the IDF of a corpus, fitted at the first use. Cosines are in [0, 1].

    corpus: gives the passages to fit on, at most `max_fit_passages` of them, evenly spaced.

    Raises (at the first use):
        ValueError: the corpus is empty.
    """

    def __init__(
        self, corpus: Callable[[], PassageRows], *, max_fit_passages: int = 50_000, max_cached_texts: int = 100_000
    ) -> None:
        self._corpus = corpus
        self._max_fit_passages = max_fit_passages
        self._tfidf: TfIdf | None = None
        self._vector = lru_cache(maxsize=max_cached_texts)(self._compute_vector)

    def cosines(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Cosine of every pair, `[num_texts, num_texts]`, in [0, 1]."""
        vectors = [self._vector(text) for text in texts]
        table = np.zeros((len(texts), len(texts)))
        for i, a in enumerate(vectors):
            table[i, i] = 1.0 if a else 0.0
            for j in range(i):
                table[i, j] = table[j, i] = 1.0 if a and texts[i] == texts[j] else cosine(a, vectors[j])
        return table

    def _compute_vector(self, text: str) -> SparseVector:
        if self._tfidf is None:
            passages = self._corpus()
            if not len(passages):
                raise ValueError("the corpus is empty: there is nothing to fit the IDF on; check the index")
            self._tfidf = TfIdf.fit(p.contents for p in evenly_spaced(passages, self._max_fit_passages))
        return self._tfidf.vector(text)


class EncoderSpace:
    """A sentence encoder's vectors. Cosines are in [-1, 1]."""

    def __init__(self, embeddings: TextEmbeddings) -> None:
        self.embeddings = embeddings
        """The vectors remembered by text, with their hit rate."""

    def cosines(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Cosine of every pair, `[num_texts, num_texts]`. A text of whitespace alone is not encoded: its row is 0."""
        table = np.zeros((len(texts), len(texts)))
        said = [i for i, text in enumerate(texts) if text.strip()]
        if said:
            vectors = self.embeddings.vectors([texts[i] for i in said]).astype(np.float64)
            table[np.ix_(said, said)] = np.clip(vectors @ vectors.T, -1.0, 1.0)
        return table


def open_text_space(
    context: RewardContext, *, reward: str, model: str | None, max_fit_passages: int = 50_000
) -> TextSpace:
    """The encoder's space where a model is named (a folder or a hub id), else the corpus's TF-IDF space.

    Raises:
        ValueError: a parameter has no sense. A model that cannot be loaded is told at the first text.
        retrieval.retriever.CorpusElsewhere: no model is named, and the corpus to fit the IDF on is on a server.
    """
    if model is None:
        limit = whole_parameter(reward, "max_fit_passages", max_fit_passages, minimum=1)
        corpus = context.corpus()  # refused now, not in the middle of a run; nothing is read yet
        return TfIdfSpace(lambda: corpus, max_fit_passages=limit)
    if not isinstance(model, str) or not model:
        raise ValueError(f"reward {reward}: model must be a folder or a hub id of a sentence encoder, got {model!r}")
    return EncoderSpace(shared_embeddings(model))


def shared_embeddings(model: str) -> TextEmbeddings:
    """The memory of this encoder's vectors that all rewards with the same model share, as long as one of them lives.

    They read the same queries and passages: one model is loaded, and a text is encoded once.

    Raises:
        ValueError: sentence-transformers is not installed.
    """
    found = _EMBEDDINGS.get(model)
    if found is None:
        found = _EMBEDDINGS[model] = TextEmbeddings(model)
    return found
