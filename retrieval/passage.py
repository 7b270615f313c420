"""The two types that leave the retrieval room, and what a text of theirs is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One retrievable piece of text. `id` is unique in its corpus; `title` may be empty."""

    id: str
    title: str
    text: str

    @property
    def contents(self) -> str:
        """Title and text as one string: what the sparse backends index."""
        return f"{self.title} {self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A passage found by a query. `rank` counts from 1; `score` is the backend's own, higher is better."""

    passage: Passage
    score: float
    rank: int


def is_text(text: str) -> bool:
    """True if it can be written and sent: it holds no half of a surrogate pair, which is no character."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
