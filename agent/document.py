"""A document in windows: what `open` shows of it at once.

A document is the passages that were opened, in order. Its windows are the same whenever it is opened with the same
limit, so that the second goes on where the first ended. They are cut at the ends of words, over passages that have been
made harmless already; a window holds whole passages and parts of them, and each keeps its own id and number.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from agent.neutraliser import neutraliser
from agent.protocol import AgentProtocol
from retrieval.passage import Passage

CUT = re.compile(r"\S{1,16}")
"""Cuts fall at the ends of words; a run without spaces (CJK, a URL) can be cut every 16 characters."""

_A_NUMBER = 99  # what a passage's number is counted as


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A passage, or the part of it that stands in a window; `title` and `text` are as the policy may see them."""

    passage: Passage
    title: str
    text: str
    whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentWindow:
    """What one `open` came to. `windows` is 0 where there is no such document, `pieces` empty where no such window.

    `refused` tells that it was not looked for, because the episode may open no more documents.
    """

    document: str
    window: int
    windows: int = 0
    pieces: tuple[Piece, ...] = ()
    refused: bool = False


def harmless(protocol: AgentProtocol, tokenizer: PreTrainedTokenizerBase, passage: Passage) -> Piece:
    """A passage as this protocol shows it: markup broken, on one line where the protocol wants that."""
    clean = neutraliser(tokenizer, (*protocol.tags, *protocol.reserved))
    title, text = passage.title, passage.text
    if protocol.one_line:
        title, text = " ".join(title.split()), " ".join(text.split())
    return Piece(passage=passage, title=clean.clean(title), text=clean.clean(text))


def split_document(
    protocol: AgentProtocol, tokenizer: PreTrainedTokenizerBase, passages: Sequence[Passage], *, max_tokens: int
) -> list[tuple[Piece, ...]]:
    """The windows of a document: each of at most `max_tokens` tokens, but of one word at least.

    The tokens are those of the window's lines, titles and numbers included; what an observation puts around them is
    not. All windows together are the whole document, every word once.

    Raises:
        ValueError: `max_tokens` < 1.
    """
    if max_tokens < 1:
        raise ValueError(f"a window of {max_tokens} tokens holds nothing; allow at least 1")
    whole = [harmless(protocol, tokenizer, passage) for passage in passages]
    if not whole:
        return []
    ends = [[match.end() for match in CUT.finditer(piece.text)] or [0] for piece in whole]
    costs = _costs(protocol, tokenizer, whole, ends)
    places = [(i, j) for i, cuts in enumerate(ends) for j in range(len(cuts))]
    windows = []
    start = 0
    while start < len(places):
        stop, used = start, 0
        while stop < len(places):
            i, j = places[stop]
            used += costs[i][1 + j] + (costs[i][0] if stop == start or j == 0 else 0)
            if used > max_tokens and stop > start:
                break
            stop += 1
        window = _pieces(whole, ends, places[start:stop])
        while stop > start + 1 and _num_tokens(protocol, tokenizer, window) > max_tokens:
            stop -= 1  # words were counted one by one: together they can take more
            window = _pieces(whole, ends, places[start:stop])
        windows.append(window)
        start = stop
    return windows


def _costs(
    protocol: AgentProtocol, tokenizer: PreTrainedTokenizerBase, whole: Sequence[Piece], ends: Sequence[Sequence[int]]
) -> list[list[int]]:
    """For each passage the tokens of its line without text, then those of each stretch up to the next cut."""
    texts: list[str] = []
    for piece, cuts in zip(whole, ends, strict=True):
        texts.append(line(protocol, _A_NUMBER, piece.title, ""))
        texts.extend(piece.text[a:b] for a, b in zip([0, *cuts], cuts, strict=False))
    counts = iter([len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]])
    return [[next(counts) for _ in range(1 + len(cuts))] for cuts in ends]


def _pieces(
    whole: Sequence[Piece], ends: Sequence[Sequence[int]], places: Sequence[tuple[int, int]]
) -> tuple[Piece, ...]:
    """The pieces that these stretches make up."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for i, j in places:
        first.setdefault(i, j)
        last[i] = j
    pieces = []
    for i in first:
        begin, end = ends[i][first[i] - 1] if first[i] else 0, ends[i][last[i]]
        is_whole = first[i] == 0 and last[i] == len(ends[i]) - 1
        text = whole[i].text if is_whole else whole[i].text[begin:end].strip()
        pieces.append(Piece(passage=whole[i].passage, title=whole[i].title, text=text, whole=is_whole))
    return tuple(pieces)


def line(protocol: AgentProtocol, number: int, title: str, text: str) -> str:
    """One passage in the protocol's words."""
    return protocol.passage.format(number=number, title=title, text=text)


def _num_tokens(protocol: AgentProtocol, tokenizer: PreTrainedTokenizerBase, pieces: Sequence[Piece]) -> int:
    text = "".join(line(protocol, _A_NUMBER, piece.title, piece.text) for piece in pieces)
    return len(tokenizer.encode(text, add_special_tokens=False))
