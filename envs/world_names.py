"""Invented names, computed from an entity's index and never stored.

Every invented word is one of `FIRST_PARTS` and one or two of `INNER_PARTS`: "Vel" "kor", "Tam" "rik" "und". No part is
the beginning of another, so a word falls into its parts in one way only, greedily from the left. Types share their
words: surnames are also the words of towns, ships and institutes, and many persons share a given name, so that a
search for half a name finds the wrong passage.

Which word stands at which place is an affine permutation of a fixed range: a bijection that costs one multiplication
and can be undone, so two entities of a type never get the same name however many there are.
"""

import math
import random
import re
from dataclasses import dataclass
from functools import lru_cache

from envs.world_schema import EntityType


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_PARTS = _words(
    """Bal Bor Bran Cal Dag Dal Dor Drin Fal Fen Gal Gor Gren Hal Hel Jor Kal Kel Kren Lan Lor Mar Mel Mor Nal Nor Pel
    Por Quil Ral Ren Rov Sal Sel Sor Tam Tol Tul Val Vel Vor Wen Wil Yar Yor Zan Zel Zor"""
)
INNER_PARTS = _words(
    """bak bin bur dak dim dun dov fik gam gan gor gum kab kar kim kor kun lam lim lok mak mir mok nak nim nor pak pol
    rak rik rom tak tim tok tun vam van vik vor zak zim zor arn elk ilm olf osk und"""
)
TWO_PART_WORDS = len(FIRST_PARTS) * len(INNER_PARTS)
THREE_PART_WORDS = TWO_PART_WORDS * len(INNER_PARTS)
_GIVEN_PER_ROOT, _MAX_GIVEN = 5.0, 900
_SURNAMES_PER_ROOT, _MAX_SURNAMES = 7.0, 1_400
"""Given names and surnames grow with the square root of the persons, so that each is shared by a handful of them."""
_SPARE = 6.0
"""Names of a noun type per entity: more would share fewer words, 1 would use every combination."""
_NEW_STEMS = 0.4
"""Share of a type's words that the type before does not have: about 1 / share types have a word in common."""
_MAX_STEMS = 50_000
_CACHED_NAMES = 20_000
_TOKEN = re.compile(r"[A-Za-z]+|\d+|[^\sA-Za-z\d]")
_NAME = re.compile(f"(?:{'|'.join(FIRST_PARTS)})(?:{'|'.join(INNER_PARTS)})+")
_PART = re.compile("|".join((*FIRST_PARTS, *INNER_PARTS)))
_MASK = (1 << 64) - 1


def mix(key: int, index: int) -> int:
    """64 pseudo-random bits of `index` under `key` (the finaliser of SplitMix64; Steele et al. 2014)."""
    bits = (key + index * 0x9E3779B97F4A7C15) & _MASK
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
    return bits ^ (bits >> 31)


class Permutation:
    """A bijection of `range(size)` chosen by a key: `permutation[i]`, and `permutation.index_of(value)` undoes it."""

    __slots__ = ("_inverse", "_offset", "_step", "size")

    def __init__(self, size: int, key: int) -> None:
        self.size = size
        step = mix(key, 0) % size if size > 1 else 1
        while math.gcd(step, size) != 1 or (step < size // 3 and size > 8):
            step = step + 1 if step < size else 1 + size // 3
        self._step = step
        self._offset = mix(key, 1) % size
        self._inverse = pow(step, -1, size) if size > 1 else 0

    def __getitem__(self, index: int) -> int:
        return (index * self._step + self._offset) % self.size

    def index_of(self, value: int) -> int:
        """The index at which `value` stands."""
        return (value - self._offset) * self._inverse % self.size


@dataclass(frozen=True, slots=True)
class Naming:
    """The names of one entity type: a place is (first word, second word), or (first word, noun).

    `first` and `second` count them; `offset` is where the type's own stretch of the shared words begins.
    """

    type: EntityType
    places: Permutation
    first: int
    second: int
    offset: int


class Names:
    """Names and aliases of all entities of a world.

    `sizes` gives the number of entities of each type; `key` seeds the order of the words.

    Raises:
        ValueError: more entities of a type than there are names for it.
    """

    def __init__(self, types: tuple[EntityType, ...], sizes: dict[str, int], key: int) -> None:
        self._key = key
        rng = random.Random(key)
        self._first = rng.sample(FIRST_PARTS, len(FIRST_PARTS))
        self._inner = rng.sample(INNER_PARTS, len(INNER_PARTS))
        self._last = rng.sample(INNER_PARTS, len(INNER_PARTS))
        self._parts = lru_cache(maxsize=_CACHED_NAMES)(self._parts_of)
        self._namings: dict[str, Naming] = {}
        persons = sizes.get("person", 0)
        self._num_given = min(_MAX_GIVEN, math.ceil(_GIVEN_PER_ROOT * math.sqrt(persons)))
        offset = 0
        for order, kind in enumerate(types):
            size = sizes[kind.name]
            if kind.naming == "person":
                first = self._num_given
                second = min(_MAX_SURNAMES, math.ceil(_SURNAMES_PER_ROOT * math.sqrt(persons)))
            else:
                second = max(1, len(kind.nouns))
                first = min(_MAX_STEMS, math.ceil(size * _SPARE / second))
            if first * second < size:
                raise ValueError(
                    f"{size} entities of type {kind.name} are more than the syllables have names for "
                    f"({first * second}); lower num_passages"
                )
            places = Permutation(first * second, mix(key, 10 + order))
            self._namings[kind.name] = Naming(kind, places, first, second, offset)
            if kind.nouns:
                offset += round(first * _NEW_STEMS)

    def name(self, type_name: str, index: int) -> str:
        """The full name, unique in the world."""
        word, noun = self._parts(type_name, index)
        kind = self._namings[type_name].type
        if kind.naming == "before":
            return f"{noun} {word}"
        return f"{word} {noun}" if noun else word

    def aliases(self, type_name: str, index: int) -> tuple[str, ...]:
        """Other ways to write the name, at least one; none of them names another entity."""
        word, noun = self._parts(type_name, index)
        kind = self._namings[type_name].type
        if kind.naming == "person":
            return (f"{noun}, {word}",)
        if kind.naming == "word":
            return (f"{kind.generic} of {word}",)
        return (f"{noun} of {word}",)

    def _parts_of(self, type_name: str, index: int) -> tuple[str, str]:
        """The two words of a name. Rotating each by a hash of the other keeps the bijection and hides its steps."""
        naming = self._namings[type_name]
        first, second = divmod(naming.places[index], naming.second)
        first = (first + mix(self._key, second)) % naming.first
        second = (second + mix(self._key, first)) % naming.second
        if naming.type.naming == "person":
            return self._word(first), self._word(self._num_given + second)
        if naming.type.naming == "word":
            return self._long_word(THREE_PART_WORDS - 1 - first), ""
        stem = (naming.offset + first) % (_MAX_STEMS + _MAX_SURNAMES)
        return self._word(self._num_given + stem), naming.type.nouns[second]

    def _word(self, number: int) -> str:
        """Words in an order in which the first few already use every part."""
        if number >= TWO_PART_WORDS:
            return self._long_word(number - TWO_PART_WORDS)
        row, first = divmod(number, len(self._first))
        return self._first[first] + self._inner[(row + first) % len(self._inner)]

    def _long_word(self, number: int) -> str:
        rest, first = divmod(number, len(self._first))
        last, inner = divmod(rest, len(self._inner))
        middle = self._inner[(inner + 7 * first) % len(self._inner)]
        return self._first[first] + middle + self._last[(last + inner + 5 * first) % len(self._last)]


def split_word(word: str) -> tuple[str, ...] | None:
    """The parts of an invented word, or None if the word is not made of them."""
    return tuple(_PART.findall(word)) if _NAME.fullmatch(word) else None


def count_tokens(text: str) -> int:
    """Tokens of a text: words, numbers and punctuation marks count 1, an invented word as many as its syllables."""
    return sum(1 if token.islower() else len(split_word(token) or ("",)) for token in _TOKEN.findall(text))
