"""Terms and their numbers: of a process while it cuts shards, of a corpus in the order in which it first used them."""

import json
import threading
from array import array
from collections.abc import Iterable
from pathlib import Path

from retrieval.analyzer import Analyzer

_MAX_CACHED_WORDS = 1_000_000
_NOT_A_TERM = -1


class WordNumbers(dict[str, int]):
    """Words to term numbers of this process: equal terms have equal numbers, a stopword has -1.

    The numbers mean something until `forget_if_full` and in this process only. A lookup never fails: a new word is
    analysed when it is first looked up.
    """

    def __init__(self, analyzer: Analyzer) -> None:
        super().__init__()
        self._analyzer = analyzer
        self._number_of_term: dict[str, int] = {}
        self.terms: list[str] = []

    def __missing__(self, word: str) -> int:
        term = self._analyzer.derive(word) if len(word) > 1 else None
        if term is None:
            number = _NOT_A_TERM
        else:
            number = self._number_of_term.setdefault(term, len(self.terms))
            if number == len(self.terms):
                self.terms.append(term)
        self[word] = number
        return number

    def cut(self, texts: Iterable[str]) -> "tuple[array[int], array[int]]":
        """The words of texts as numbers, one text after the other, and where in them each text ends."""
        numbers, ends = array("i"), array("q")
        pieces_of, number = self._analyzer.pieces, self.__getitem__
        for text in texts:
            numbers.extend(map(number, pieces_of(text)))
            ends.append(len(numbers))
        return numbers, ends

    def forget_if_full(self) -> None:
        """Start over where more than a million words are remembered: memory is bounded, numbers change."""
        if len(self) >= _MAX_CACHED_WORDS:
            self.clear()
            self._number_of_term.clear()
            self.terms = []


class Vocabulary:
    """The terms of a finished index: turns queries into term numbers. Thread-safe."""

    def __init__(self, analyzer: Analyzer, terms: dict[str, int]) -> None:
        self.analyzer = analyzer
        self.terms = terms
        self._number_of: dict[str, int] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.terms)

    def look_up(self, text: str) -> list[int]:
        """The numbers of the known terms of a text in its order; unknown terms are left out."""
        known = self._number_of
        numbers = []
        for word in self.analyzer.words(text):
            number = known.get(word)
            if number is None:
                number = self._number(word)
            if number >= 0:
                numbers.append(number)
        return numbers

    def _number(self, word: str) -> int:
        term = self.analyzer.term(word)
        number = _NOT_A_TERM if term is None else self.terms.get(term, _NOT_A_TERM)
        with self._lock:
            if len(self._number_of) >= _MAX_CACHED_WORDS:
                self._number_of.clear()
            self._number_of[word] = number
        return number


def write_vocabulary(path: Path, terms: Iterable[str]) -> None:
    """Write `{term: number}` as JSON, term after term, numbered from 0."""
    encode = json.JSONEncoder(ensure_ascii=False).encode
    with path.open("w", encoding="utf-8") as file:
        file.write("{")
        for number, term in enumerate(terms):
            file.write(f"{', ' if number else ''}{encode(term)}: {number}")
        file.write("}")
