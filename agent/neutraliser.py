"""Documents are data: text from outside is made harmless before it reaches a prompt.

A reserved string (a protocol tag, a control token of the tokenizer) found in a text has its brackets replaced by
look-alikes that no tokenizer maps back: `</information>` becomes `‹/information›`. The search runs over the text's
skeleton (compatibility-decomposed, case-folded, without combining and invisible characters), so that `＜answer＞`, or
`<answer>` with a zero-width space inside, which a normalising tokenizer turns into a tag, are found too. Text without
reserved strings comes back unchanged, byte for byte.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# No compatibility or canonical decomposition leads from these back to ASCII brackets.
_HARMLESS = {"<": "‹", ">": "›", "[": "⟦", "]": "⟧", "{": "❴", "}": "❵", "|": "¦"}
_INVISIBLE = frozenset({"Mn", "Me", "Cf", "Cc", "Cs", "Co", "Cn"})
# Control tokens of common chat formats, whatever tokenizer is in use, and the markers of Llama-2-like templates.
_CHAT_MARKER = r"<\|[^<>|\s]{1,64}\|>|\[/?inst\]|<</?sys>>|</?(?:start|end)_of_turn>"
_TEMPLATE_MARKER = re.compile(r"<\|[^<>|\s]{1,64}\|>|\[/?[A-Z_]{2,32}\]|<</?[A-Z]{2,16}>>|</?[a-z_]{2,32}>")
_PLAIN = re.compile(r"[\t\n\r -~]*")


class Neutraliser:
    """Breaks a fixed set of reserved strings wherever they occur in a text."""

    def __init__(self, reserved: Iterable[str], *, spared: Iterable[str] = ()) -> None:
        """Markup is found in any case and disguise, plain words ("EOS") exactly; single characters are left alone.

        A string of `spared` is left as it is where it stands exactly so, also if it is reserved.
        """
        self._spared = frozenset(spared)
        strings = {text for text in reserved if len(text) > 1}
        words = {text for text in strings if text.isalnum()}
        skeletons = sorted({_skeleton(text)[0] for text in strings - words} - {""}, key=lambda s: (-len(s), s))
        self._markup = re.compile("|".join([*map(re.escape, skeletons), _CHAT_MARKER]))
        self._words = re.compile("|".join(map(re.escape, sorted(words, key=lambda s: (-len(s), s)))) or r"(?!)")
        self.clean = lru_cache(maxsize=10_000)(self._clean)

    def _clean(self, text: str) -> str:
        """The text with every reserved string broken; runs until none is left, since one can hide in another."""
        while spans := self._spans(text):
            for start, end in reversed(spans):
                text = text[:start] + _broken(text[start:end]) + text[end:]
        return text

    def _spans(self, text: str) -> list[tuple[int, int]]:
        # Plain ASCII is its own skeleton, up to case: the common passage pays for two searches and no copy.
        if _PLAIN.fullmatch(text):
            spans = [match.span() for match in self._markup.finditer(text.lower())]
        else:
            skeleton, origin = _skeleton(text)
            spans = [(origin[m.start()], origin[m.end() - 1] + 1) for m in self._markup.finditer(skeleton)]
        spans = [(start, end) for start, end in spans if text[start:end] not in self._spared]
        return spans or [match.span() for match in self._words.finditer(text)]


def _skeleton(text: str) -> tuple[str, list[int]]:
    """What a normalising tokenizer could make of a text, and for each of its characters the index it came from."""
    characters: list[str] = []
    origin: list[int] = []
    for index, character in enumerate(text):
        for part in unicodedata.normalize("NFKD", character).casefold():
            if part.isspace() or unicodedata.category(part) not in _INVISIBLE:
                characters.append(part)
                origin.append(index)
    return "".join(characters), origin


def _broken(found: str) -> str:
    """The found text with every bracket, or look-alike of one, replaced; with a space inside where it has none."""
    parts = []
    for character in found:
        decomposed = unicodedata.normalize("NFKD", character)
        bracket = next((_HARMLESS[c] for c in decomposed if c in _HARMLESS), None)
        parts.append(character if bracket is None else bracket)
    broken = "".join(parts)
    return broken if broken != found else f"{found[:1]} {found[1:]}"


def control_tokens(tokenizer: "PreTrainedTokenizerBase") -> frozenset[str]:
    """Strings that this tokenizer turns into control tokens, and the literal markers of its chat template.

    Special tokens always count; other added tokens count where they look like markup (they start and end with
    punctuation), so that a vocabulary extended by ordinary words or runs of spaces stays readable.
    """
    found = {token for token in tokenizer.all_special_tokens if token.strip()}
    for token in getattr(tokenizer, "added_tokens_decoder", {}).values():
        text = token.content.strip()
        if text and (token.special or (len(text) > 2 and not text[0].isalnum() and not text[-1].isalnum())):
            found.add(text)
    template = getattr(tokenizer, "chat_template", None)
    for text in template.values() if isinstance(template, dict) else [template or ""]:
        found.update(_TEMPLATE_MARKER.findall(text))
    return frozenset(found)


_NEUTRALISERS: "WeakKeyDictionary[PreTrainedTokenizerBase, dict[tuple[object, ...], Neutraliser]]" = WeakKeyDictionary()


def neutraliser(
    tokenizer: "PreTrainedTokenizerBase", reserved: tuple[str, ...], *, spared: tuple[str, ...] = ()
) -> Neutraliser:
    """The neutraliser for a tokenizer's control tokens and further reserved strings; made once, then reused."""
    made = _NEUTRALISERS.setdefault(tokenizer, {})
    key = (reserved, spared, str(getattr(tokenizer, "chat_template", None)), len(tokenizer))
    if key not in made:
        made[key] = Neutraliser([*reserved, *control_tokens(tokenizer)], spared=spared)
    return made[key]
