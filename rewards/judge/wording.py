"""What a text says on its surface: content words, names, numbers, sentences and what they deny.

Words are compared by their English stem (Snowball), with a few dozen relation words of question answering mapped to one
class each ("born", "birthplace"). A name is a run of capitalised words. A contrast ("not in Besk", "rather than Besk")
is cut out of its sentence, since what it names is denied; the polarity of the rest is the parity of its negations.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import Stemmer
import yaml

_LISTS: dict[str, Any] = yaml.safe_load((files("rewards.judge") / "english.yaml").read_text(encoding="utf-8"))


def _listed(name: str) -> frozenset[str]:
    return frozenset(_LISTS[name].split())


STOP = _listed("stop")
PRONOUNS = _listed("pronouns")
TITLES = _listed("titles")
MONTHS = _listed("months")
MAGNITUDES = _listed("magnitudes")
NEGATIONS = _listed("negations")
_FOLLOWS_A_NAME = _listed("follows_a_name")
_AUXILIARIES = _listed("auxiliaries")
_INSIDE_A_NAME = _listed("inside_a_name")
_NUMBER_WORDS = {word: str(number) for number, word in enumerate(_LISTS["number_words"].split(), start=2)}
_CLASS_OF = {word: words.split()[0] for words in _LISTS["classes"] for word in words.split()}
_WORD = re.compile(r"\d+(?:\.\d+)?|[^\W_]+(?:'[^\W_]+)?")
_CAPITAL_WORD = re.compile(r"[^\W\d_][\w'’.-]*")
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+(?=[\"'(A-Z0-9])|(?<=;)\s+|\n+")
_DENYING_PHRASE = re.compile(
    r"\b(?:ruled out|far from|by no means|anything but|out of the question|points? away from|came to nothing)\b"
)
_CLEFT = re.compile(r"it (?:is|was) .*\b(?:who|that|which)\b", re.IGNORECASE)
_INSTEAD = re.compile(r"^(?:instead of|rather than|unlike|contrary to)\s[^,;.]*,\s*", re.IGNORECASE)
_NOT_BUT = re.compile(r"\bnot\s+[^,;.]*?,?\s+but\s+(?:rather\s+)?", re.IGNORECASE)
_CONTRAST = re.compile(
    r"(?:,\s*|\s+(?:and|but)\s+|\s+)"
    r"(?:not|(?:definitely|certainly|and) not|by no means|rather than|instead of|as opposed to|but never)\s+"
    r"(?=(?:in|at|on|by|from|to|of|the|a|an|for|with)\s|[A-Z0-9])[^,;.]*",
)
_stemmer = Stemmer.Stemmer("english")


def folded(text: str) -> str:
    """Lower case without accents, typographic quotes or thousands separators."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    plain = plain.replace("’", "'").replace("‘", "'").replace("´", "'")
    return re.sub(r"(?<=\d),(?=\d{3}\b)", "", plain).casefold()


def tokens(text: str) -> list[str]:
    """Folded words and numbers in order; a possessive's 's is left out, number words become digits."""
    words = (word.removesuffix("'s") for word in _WORD.findall(folded(text)))
    return [_NUMBER_WORDS.get(word, word) for word in words if word]


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """The stem of a folded word, or of the class of relation words that it belongs to."""
    return _CLASS_OF.get(word) or str(_stemmer.stemWord(word))


ASKING = frozenset(map(stem, _listed("asking")))
SYMMETRIC = frozenset(map(stem, _listed("symmetric")))


def is_number(word: str) -> bool:
    """True for a word that begins with a digit: 7, 3.5, 19th."""
    return word[0].isdigit()


def is_negation(word: str) -> bool:
    """True for a word that turns a sentence around."""
    return word in NEGATIONS or word.endswith("n't")


def content(text: str) -> list[str]:
    """Stems of the words that are neither function words nor negations, in order."""
    return [stem(word) for word in tokens(text) if word not in STOP and not is_negation(word)]


def numbers(text: str) -> frozenset[str]:
    """The numbers, ordinals by their digits."""
    found = (re.match(r"\d+(?:\.\d+)?", word) for word in tokens(text))
    return frozenset(match.group() for match in found if match)


def is_negated(text: str) -> bool:
    """True if the text has an odd number of negations."""
    words = tokens(_DENYING_PHRASE.sub("not", folded(text).removeprefix("no, ")))
    return sum(is_negation(word) for word in words) % 2 == 1


def without_contrast(sentence: str) -> str:
    """The sentence without what it names only to deny it beside the truth.

    >>> without_contrast("She was born in Arlen, not in Besk.")
    'She was born in Arlen .'
    >>> without_contrast("She was not born in Besk but in Arlen.")
    'She was in Arlen.'
    >>> without_contrast("Her home is not Besk.")
    'Her home is not Besk.'
    """
    return _CONTRAST.sub(_unless_it_is_the_verb, _NOT_BUT.sub("", _INSTEAD.sub("", sentence)))


def _unless_it_is_the_verb(match: re.Match[str]) -> str:
    """`is not Besk` denies the sentence itself; a contrast stands after something that is asserted."""
    before = match.string[: match.start()].split()
    cut = match.group().lstrip(" ,")
    denies_the_verb = cut.startswith("not") and (not before or folded(before[-1]) in _AUXILIARIES)
    return match.group() if denies_the_verb else " "


def sentences(text: str) -> list[str]:
    """The sentences, and lines, of a text."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]


def names(text: str) -> list[tuple[str, ...]]:
    """Runs of capitalised words, folded, titles left out; a sentence's first word only where it looks like a name."""
    return [run for sentence in sentences(text) for run in _names_of_sentence(sentence)]


def name_words(text: str) -> frozenset[str]:
    """The words of all names."""
    return frozenset(word for run in names(text) for word in run if word not in _INSIDE_A_NAME)


@lru_cache(maxsize=20_000)
def _names_of_sentence(sentence: str) -> tuple[tuple[str, ...], ...]:
    found: list[tuple[str, ...]] = []
    run: list[str] = []
    last_end = 0
    matches = list(_CAPITAL_WORD.finditer(sentence))
    for position, match in enumerate(matches):
        raw = match.group().rstrip(".-")
        possessive = raw.endswith(("'s", "’s"))
        word = folded(raw).removesuffix("'s")
        following = matches[position + 1].group() if position + 1 < len(matches) else ""
        begins = position == 0
        is_name = raw[:1].isupper() and word not in STOP and word not in TITLES and not is_negation(word)
        if begins and is_name and len(matches) > 1:
            next_is_name = following[:1].isupper() and folded(following) not in STOP
            is_name = next_is_name or possessive or folded(following) in _FOLLOWS_A_NAME
        joined = not sentence[last_end : match.start()].strip()
        if run and not joined:
            found.append(tuple(run))
            run = []
        if is_name or (run and word in _INSIDE_A_NAME and following[:1].isupper()):
            run.append(word)
        elif run:
            found.append(tuple(run))
            run = []
        if run and possessive:
            found.append(tuple(run))
            run = []
        last_end = match.end()
    if run:
        found.append(tuple(run))
    return tuple(found)


def holds_run(words: list[str], run: Iterable[str]) -> bool:
    """True if `run` occurs in `words` word after word."""
    return place_of(words, run) is not None


def holds_name(words: list[str], run: tuple[str, ...]) -> bool:
    """True if a name stands in `words`; one of four words or more may be two names side by side, as in a query."""

    def holds_part(part: tuple[str, ...]) -> bool:
        return holds_run(words, part[1:] if part[0] in _INSIDE_A_NAME else part)

    splits = range(2, len(run) - 1)
    return holds_run(words, run) or any(holds_part(run[:i]) and holds_part(run[i:]) for i in splits)


def place_of(words: list[str], run: Iterable[str]) -> int | None:
    """Where `run` begins in `words`, word after word; None where it does not occur or is empty."""
    wanted = list(run)
    if not wanted:
        return None
    starts = range(len(words) - len(wanted) + 1)
    return next((i for i in starts if words[i : i + len(wanted)] == wanted), None)


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence as evidence: contrasts cut out, with what a pronoun in it may refer to (`context`)."""

    text: str
    context: str
    negated: bool

    @property
    def whole(self) -> str:
        """Sentence and what it refers to."""
        return f"{self.context}\n{self.text}" if self.context else self.text


@lru_cache(maxsize=4_000)
def statements(passage: str) -> tuple[Statement, ...]:
    """The sentences of a passage.

    A first line without a full stop is its title. A sentence that begins with a pronoun, or has no name, refers to the
    title and to the names of the sentence before; another one stands for itself.
    """
    head, newline, body = passage.partition("\n")
    has_title = bool(newline) and not head.rstrip().endswith((".", "!", "?"))
    title = head.strip() if has_title else ""
    made: list[Statement] = []
    before = ""
    for sentence in sentences(body if has_title else passage):
        asserted = without_contrast(sentence)
        words = tokens(asserted)
        refers = bool(words) and (words[0] in PRONOUNS or not names(asserted)) and not _CLEFT.match(asserted)
        named = [" ".join(word.capitalize() for word in run) for run in names(before)]
        context = "\n".join(dict.fromkeys(filter(None, (title, *named)))) if refers else ""
        made.append(Statement(asserted, context, is_negated(asserted)))
        before = before if refers else asserted
    return tuple(made)
