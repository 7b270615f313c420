"""Unit vectors of texts from a sentence encoder, remembered by text.

Rewards compare the same few queries and answers again and again: the samples of a group mostly say the same things. So
a text is encoded once and looked up afterwards; `hit_rate` tells how much that saved. The encoder is loaded at the
first text that needs it, so a config that names one can be checked without it.
"""

import importlib
import importlib.util
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class TextEncoder(Protocol):
    """Anything that turns texts into vectors: a `SentenceTransformer`, or a few lines in a test."""

    def encode(self, sentences: list[str], /) -> Any:
        """An array `[n, d]`, of any length but zero."""
        ...


class TextEmbeddings:
    """An encoder with a memory of the `max_cached` texts that were used last.

    Args:
        model: a sentence-transformers model, by name or folder. Loaded at the first use.
        encoder: an encoder at hand, used instead of `model`.
        max_cached: texts kept; 1,000 vectors of 384 numbers take 1.5 MB.

    `hits` and `misses` count texts that were asked for, each once a call of `vectors` however often it occurs there.

    >>> class Letters:
    ...     def encode(self, texts):
    ...         return np.array([[text.count("a"), text.count("b")] for text in texts])
    >>> embeddings = TextEmbeddings(None, encoder=Letters(), max_cached=10)
    >>> round(embeddings.cosine("aab", "ab"), 3), embeddings.hit_rate
    (0.949, 0.0)
    >>> embeddings.cosine("aab", "b") < 0.5, embeddings.hits, embeddings.misses
    (True, 1, 3)

    Raises:
        ValueError: neither a model nor an encoder, `max_cached` below 1, or a model by name where sentence-transformers
            is not installed. A model that cannot be loaded is refused at the first use.
    """

    def __init__(self, model: str | None, encoder: TextEncoder | None = None, max_cached: int = 100_000) -> None:
        if encoder is None and not model:
            raise ValueError("text embeddings need a model (a sentence-transformers name or folder) or an encoder")
        if isinstance(max_cached, bool) or not isinstance(max_cached, int) or max_cached < 1:
            raise ValueError(f"max_cached must be a whole number of texts >= 1, got {max_cached!r}")
        if encoder is None and importlib.util.find_spec("sentence_transformers") is None:
            raise ValueError(
                f"the sentence encoder {model!r} needs sentence-transformers, which is not installed: "
                "pip install 'waymark[dense]'"
            )
        self.model = model
        self.max_cached = max_cached
        self.hits = 0
        self.misses = 0
        self._encoder = encoder
        self._vectors: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def hit_rate(self) -> float:
        """Share of the texts asked for that were remembered, in [0, 1]; 0 before the first."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors `[n, d]`, float32; what is not remembered is encoded in one batch. `[0, 0]` for no texts.

        Raises:
            ValueError: one string instead of a list, or the encoder returned another shape, a vector of length zero or
                a number that is not finite.
        """
        if isinstance(texts, str):
            raise ValueError(f"texts is a list of texts, got the single string {texts!r}; write [{texts!r}]")
        if not texts:
            return np.zeros((0, 0), dtype=np.float32)
        with self._lock:
            distinct = dict.fromkeys(texts)
            known = {text: self._vectors[text] for text in distinct if text in self._vectors}
            new = [text for text in distinct if text not in known]
            self.hits += len(known)
            self.misses += len(new)
            if new:
                known.update(zip(new, self._encode(new), strict=True))
            for text in distinct:
                self._vectors[text] = known[text]
                self._vectors.move_to_end(text)
            while len(self._vectors) > self.max_cached:
                self._vectors.popitem(last=False)
        return np.stack([known[text] for text in texts])

    def cosine(self, a: str, b: str) -> float:
        """Cosine of two texts, in [-1, 1]; exactly 1 for equal texts."""
        if a == b:
            return 1.0
        one, other = self.vectors([a, b])
        return float(np.clip(np.dot(one, other), -1.0, 1.0))

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        if self._encoder is None:
            self._encoder = self._loaded()
        rows = np.asarray(self._encoder.encode(texts), dtype=np.float32)
        if rows.ndim != 2 or len(rows) != len(texts):
            raise ValueError(f"the encoder returned shape {rows.shape} for {len(texts)} texts; expected [n, d]")
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or (lengths == 0).any():
            bad = texts[int(np.argmin(np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)))]
            raise ValueError(f"the encoder returned a vector that has no direction (zero or not finite) for {bad!r}")
        return rows / lengths

    def _loaded(self) -> TextEncoder:
        library = importlib.import_module("sentence_transformers")
        try:
            encoder: TextEncoder = library.SentenceTransformer(self.model)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"the sentence encoder {self.model!r} could not be loaded; name a sentence-transformers model or the "
                f"folder of one. The loader says: {said}"
            ) from error
        return encoder
