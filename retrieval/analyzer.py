"""Text to terms, for the sparse backends: what bm25s does by default, with English stopwords and the Snowball stemmer.

Lower case, words of two or more word characters, stopwords dropped, then stemmed. Settings travel in the manifest of an
index, so a query is always cut as the corpus was.
"""

import re
import threading
from collections.abc import Mapping
from typing import Any, Literal

import Stemmer
from pydantic import BaseModel, ConfigDict, model_validator

_WORDS = re.compile(r"(?u)\b\w\w+\b").findall
_ASCII_WORDS = bytes(
    ord(chr(code).lower()) if code < 128 and (chr(code).isalnum() or chr(code) == "_") else ord(" ")
    for code in range(256)
)
"""Every byte to its lower case where it is part of a word, to a space where it is not."""
_MAX_CACHED_WORDS = 2_000_000

# Equal to bm25s's `STOPWORDS_EN` (a test compares them); written out so that an index does not change with a library.
_STOPWORD_LINE = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with"
)
ENGLISH_STOPWORDS = frozenset(_STOPWORD_LINE.split())


class AnalyzerSettings(BaseModel):
    """How text becomes terms."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stopwords: Literal["english"] | None = "english"
    """Words that are left out; None keeps all."""
    stemmer: Literal["english", "porter"] | None = "english"
    """Snowball's English stemmer (Porter 2), Porter's own (Lucene's default), or None to leave words as they are."""

    @model_validator(mode="before")
    @classmethod
    def _is_set_by_its_parts(cls, value: Any) -> Any:
        if not isinstance(value, AnalyzerSettings | Mapping):
            raise ValueError(
                "an analyzer is set by its parts: analyzer.stopwords (english or null) and analyzer.stemmer (english, "
                "porter or null)"
            )
        return value


class Analyzer:
    """Cuts text into terms. Thread-safe; a word is stemmed once and remembered.

    >>> Analyzer().terms("The cats of Istanbul were sleeping")
    ['cat', 'istanbul', 'were', 'sleep']
    """

    def __init__(self, settings: AnalyzerSettings | None = None) -> None:
        self.settings = settings or AnalyzerSettings()
        self._stopwords = ENGLISH_STOPWORDS if self.settings.stopwords == "english" else frozenset()
        self._stemmer = Stemmer.Stemmer(self.settings.stemmer) if self.settings.stemmer else None
        self._term_of: dict[str, str | None] = {}
        self._lock = threading.Lock()

    @staticmethod
    def words(text: str) -> list[str]:
        """The lower-case words of a text, stopwords included."""
        return _WORDS(text.lower())

    @staticmethod
    def pieces(text: str) -> list[str]:
        """The words of a text, and perhaps words of one letter between them: twice as fast as `words` in ASCII."""
        if text.isascii():
            return text.encode("ascii").translate(_ASCII_WORDS).decode("ascii").split()
        return _WORDS(text.lower())

    def term(self, word: str) -> str | None:
        """The term that a lower-case word stands for; None for a stopword."""
        try:
            return self._term_of[word]
        except KeyError:
            return self._new_term(word)

    def terms(self, text: str) -> list[str]:
        """The terms of a text in its order, repeats kept."""
        return [term for word in self.words(text) if (term := self.term(word)) is not None]

    def _new_term(self, word: str) -> str | None:
        term = self.derive(word)
        with self._lock:
            if len(self._term_of) >= _MAX_CACHED_WORDS:
                self._term_of.clear()
            self._term_of[word] = term
        return term

    def derive(self, word: str) -> str | None:
        """The term of a lower-case word, worked out anew: for callers that remember it themselves."""
        if word in self._stopwords:
            return None
        if self._stemmer is None:
            return word
        with self._lock:  # PyStemmer's objects are not safe to share between threads.
            stem: str = self._stemmer.stemWord(word)
            return stem


def no_terms(dropped: str = "the analyzer drops stopwords and words of one letter") -> str:
    """The message for a corpus in which a sparse backend finds nothing to search for; `dropped`: what was left out."""
    return (
        f"no passage of the corpus has a single term to search for; {dropped}: check that the texts are where the "
        "format says"
    )
