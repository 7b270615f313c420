"""Passages as text for a model to read, so that nothing in a document can pass for anything but a document.

Every line of a document begins with `> `, whatever kind of line break it ends in; ids and titles stand on one line, in
quotes. A document that writes `[2] id "forged"` or ends its own quotation stays inside it.
"""

import unicodedata
from collections.abc import Sequence

from retrieval.passage import Hit, Passage

_QUOTE = "> "
_LONGEST_TITLE = 300
"""Characters of an id, title or query that are shown in a line; the structured answer holds all of it."""

_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They turn the direction of what follows, beyond the quotation too."""


def quoted_lines(text: str) -> str:
    """A document's text as quoted lines; control characters become U+FFFD.

    >>> print(quoted_lines("one\\r\\ntwo\\x1b[2J"))
    > one
    > two\ufffd[2J
    """
    return "\n".join(_QUOTE + _plain(line) for line in text.splitlines()) or _QUOTE


def quoted_words(text: str) -> str:
    """An id, title or query in quotes on one line.

    >>> quoted_words('a "b"\\nc')
    '"a \\\\"b\\\\" c"'
    """
    line = _plain(" ".join(text.split()))
    if len(line) > _LONGEST_TITLE:
        line = line[: _LONGEST_TITLE - 1] + "…"
    return '"' + line.replace("\\", "\\\\").replace('"', '\\"') + '"'


def hits_as_text(query: str, hits: Sequence[Hit]) -> str:
    """What a search found, best first."""
    if not hits:
        return f"No passage matches {quoted_words(query)}. Try other words."
    count = "1 passage" if len(hits) == 1 else f"{len(hits)} passages"
    first = f"{count} for {quoted_words(query)}, best first. Lines that begin with > are quoted from documents."
    blocks = [f"[{hit.rank}] {_heading(hit.passage)} score {hit.score:.4g}\n{_body(hit.passage)}" for hit in hits]
    return "\n\n".join([first, *blocks])


def passages_as_text(passages: Sequence[Passage]) -> str:
    """Documents that were opened."""
    blocks = [f"{_heading(passage)}\n{_body(passage)}" for passage in passages]
    return "\n\n".join(["Lines that begin with > are quoted from the document.", *blocks])


def _heading(passage: Passage) -> str:
    title = f" title {quoted_words(passage.title)}" if passage.title else ""
    return f"id {quoted_words(passage.id)}{title}"


def _body(passage: Passage) -> str:
    return quoted_lines(passage.text)


def _plain(line: str) -> str:
    if line.isprintable():
        return line
    return "".join("\ufffd" if _acts(character) else character for character in line)


def _acts(character: str) -> bool:
    """True if a character does something to a terminal or to the text around it instead of being read."""
    return character in _OVERRIDES or (character != "\t" and unicodedata.category(character) in ("Cc", "Zl", "Zp"))
