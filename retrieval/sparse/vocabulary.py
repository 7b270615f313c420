"""Terms and their numbers, in the order in which a corpus first used them; stored as JSON."""

import json
import threading
from pathlib import Path

from retrieval.analyzer import Analyzer

_MAX_CACHED_WORDS = 2_000_000
_NOT_A_TERM = -1


class Vocabulary:
    """Turns text into term numbers through an analyzer. Thread-safe once it no longer grows."""

    def __init__(self, analyzer: Analyzer, terms: dict[str, int] | None = None) -> None:
        self.analyzer = analyzer
        self.terms: dict[str, int] = terms if terms is not None else {}
        self._number_of: dict[str, int] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.terms)

    def learn(self, text: str) -> list[int]:
        """The term numbers of a text in its order; new terms get the next numbers."""
        return self._numbers(text, grow=True)

    def look_up(self, text: str) -> list[int]:
        """The numbers of the known terms of a text in its order; unknown terms are left out."""
        return self._numbers(text, grow=False)

    def _numbers(self, text: str, *, grow: bool) -> list[int]:
        known = self._number_of
        numbers = []
        for word in self.analyzer.words(text):
            number = known.get(word)
            if number is None:
                number = self._number(word, grow)
            if number >= 0:
                numbers.append(number)
        return numbers

    def _number(self, word: str, grow: bool) -> int:
        term = self.analyzer.term(word)
        if term is None:
            number = _NOT_A_TERM
        elif grow:
            number = self.terms.setdefault(term, len(self.terms))
        else:
            number = self.terms.get(term, _NOT_A_TERM)
        with self._lock:
            if len(self._number_of) >= _MAX_CACHED_WORDS:
                self._number_of.clear()
            self._number_of[word] = number
        return number

    def write(self, path: Path) -> None:
        """Write `{term: number}` as JSON."""
        path.write_text(json.dumps(self.terms, ensure_ascii=False), encoding="utf-8")
