"""What the environment says to the policy: passages in their wrapper, cut to a token budget, or a correction.

An observation is encoded once, as one piece, and its ids are appended as they are. The budget cuts passages, never
tags: last passages are dropped or shortened, and the wrapper is always closed. Where tools are called in JSON the
wrapper is what the chat template puts around results, one message for each call, from the end of the policy's turn to
the beginning of its next.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from agent.chat import chat_template
from agent.document import CUT, DocumentWindow, Piece, harmless, line
from agent.neutraliser import neutraliser
from agent.protocol import AgentProtocol
from agent.tools import OPEN
from agent.trajectory import Shown
from retrieval.passage import Hit

# A later passage is shortened to no fewer words than this; with less room it is dropped.
MIN_WORDS_SHOWN = 5
_MOST_WINDOWS = 999  # a window's line is budgeted as if it had such numbers
_MOST_NAMED = 80  # characters of a document's name that are repeated to the policy

Found = Sequence[Hit] | DocumentWindow
"""What one call brought: the hits of a search, or a window of a document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Token ids to append, `[num_tokens]`, and the passages that stand in them, in order."""

    ids: tuple[int, ...]
    shown: tuple[Shown, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A passage with what stands before it, or (`piece` None) words of the environment, which are never shortened."""

    call: int
    words: str = ""
    piece: Piece | None = None
    number: int = 0

    @property
    def text(self) -> str:
        return self.words if self.piece is None else self.piece.text


def render_observation(
    protocol: AgentProtocol,
    tokenizer: PreTrainedTokenizerBase,
    results: Sequence[Found],
    *,
    numbers: dict[str, int],
    max_tokens: int,
    last_id: int | None = None,
) -> Observation:
    """The results of one turn's calls as an observation of at most `max_tokens` tokens, wrapper included.

    Results stand in the order of their calls; a passage that two queries found is shown once. No hits at all give
    the wrapper around `protocol.nothing_found`. A window of a document stands under a line that says which it is.

    Args:
        results: for every call of the turn the hits of a search, or the window that was opened.
        numbers: passage id -> number over the trajectory; extended in place by the passages shown, where the protocol
            numbers by trajectory, and left alone where it numbers by turn.
        max_tokens: limit on the whole observation (`max_observation_tokens`).
        last_id: the last id that the policy sampled: a turn that it has ended is not ended again. For tags of no use.

    Raises:
        ValueError: `max_tokens` is smaller than the empty wrapper.
    """
    check_observation_budget(protocol, tokenizer, max_tokens, calls=len(results))
    lines = _lines(protocol, tokenizer, results, numbers)

    def encoded(num_lines: int, end: int | None = None) -> tuple[int, ...]:
        """The observation with the first lines, the last of them up to `end`."""
        bodies = [""] * max(1, len(results))
        for i, each in enumerate(lines[:num_lines]):
            bodies[each.call] += _text(protocol, each, end if i == num_lines - 1 else None)
        return _wrapped(protocol, tokenizer, bodies, last_id)

    ids, shown_lines, cut = encoded(len(lines)), len(lines), False
    if len(ids) > max_tokens:
        candidates = _cuts(lines)
        # Invariant: everything before `low` is known to fit, everything from `high` on is taken not to.
        low, high, ids, shown_lines = 0, len(candidates), encoded(0), 0
        while low < high:
            middle = (low + high) // 2
            i, end = candidates[middle]
            tried = encoded(i + 1, end)
            if len(tried) <= max_tokens:
                low, ids, shown_lines, cut = middle + 1, tried, i + 1, end < len(lines[i].text)
            else:
                high = middle
    shown = tuple(
        Shown(
            number=each.number,
            passage_id=each.piece.passage.id,
            truncated=not each.piece.whole or (cut and i == shown_lines - 1),
        )
        for i, each in enumerate(lines[:shown_lines])
        if each.piece is not None
    )
    if protocol.numbers == "trajectory":
        numbers.update((s.passage_id, s.number) for s in shown)
    return Observation(ids=ids, shown=shown)


def render_correction(
    protocol: AgentProtocol,
    tokenizer: PreTrainedTokenizerBase,
    error: str | None = None,
    *,
    last_id: int | None = None,
    as_tool: bool = False,
) -> tuple[int, ...]:
    """The ids of what an invalid action is answered with. `error` fills `{error}` where the protocol's text has it.

    Where tools are called in JSON it is a message, from the user or (`as_tool`) from the tool that was to be called;
    `last_id` as in `render_observation`. What `error` repeats of the policy's own words is made harmless.
    """
    # Not the tags that the policy is to write: a correction names them, and some templates reserve them as well.
    written = (*(part for _, tag in protocol.calls for part in tag), *protocol.answer)
    clean = neutraliser(tokenizer, (*protocol.information, *protocol.reserved), spared=written)
    text = protocol.correction.replace("{error}", clean.clean(error or "invalid action"))
    if protocol.tool_call is None:
        return _encode(tokenizer, text)
    chat = chat_template(protocol, tokenizer)
    if as_tool:
        return chat.tool_results([text.strip()], last_id=last_id)
    return chat.user_message(text.strip(), last_id=last_id)


def check_observation_budget(
    protocol: AgentProtocol, tokenizer: PreTrainedTokenizerBase, max_tokens: int, *, calls: int = 1
) -> int:
    """Tokens of the empty wrapper, if the budget holds it: call this when a config is read.

    Args:
        calls: of the turn; where tools are called in JSON each has a message of its own.

    Raises:
        ValueError: the budget is smaller than the wrapper.
    """
    wrapper = len(_wrapped(protocol, tokenizer, [""] * max(1, calls), None))
    if max_tokens < wrapper:
        of_calls = f" of {calls} calls" if protocol.tool_call is not None and calls > 1 else ""
        raise ValueError(
            f"max_observation_tokens is {max_tokens}, but the empty observation wrapper{of_calls} of protocol "
            f"{protocol.name!r} alone takes {wrapper} tokens with this tokenizer; allow at least {wrapper}, and some "
            "100 for each passage"
        )
    return wrapper


def window_tokens(
    protocol: AgentProtocol,
    tokenizer: PreTrainedTokenizerBase,
    max_observation_tokens: int,
    max_open_tokens: int | None = None,
) -> int:
    """Tokens of a document in one window: `max_open_tokens`, or all that an observation has room for.

    Raises:
        ValueError: an observation does not hold that many beside its wrapper and the line over the window.
    """
    numbered = protocol.window.format(window=_MOST_WINDOWS, windows=_MOST_WINDOWS)
    around = len(_wrapped(protocol, tokenizer, [f"{numbered}."], None))
    room = max_observation_tokens - around
    if room < (max_open_tokens or 1):
        raise ValueError(
            f"max_open_tokens is {max_open_tokens or 'not set'} and max_observation_tokens {max_observation_tokens}, "
            f"but what stands around an opened document takes {around} tokens under protocol {protocol.name!r} with "
            f"this tokenizer, so {max(room, 0)} are left for it: raise max_observation_tokens, lower max_open_tokens, "
            f"or leave {OPEN!r} out of the protocol's tools"
        )
    return max_open_tokens or room


def _lines(
    protocol: AgentProtocol, tokenizer: PreTrainedTokenizerBase, results: Sequence[Found], numbers: dict[str, int]
) -> list[_Line]:
    """Everything that there is to show, in order and with its numbers, whether it fits or not."""
    by_trajectory = protocol.numbers == "trajectory"
    given = dict(numbers) if by_trajectory else {}  # a passage that the budget drops must not use up a number
    fresh = max(given.values(), default=0)
    seen: set[str] = set()
    lines: list[_Line] = []

    def add(call: int, piece: Piece, words: str = "") -> None:
        nonlocal fresh
        if not by_trajectory or piece.passage.id not in given:
            fresh += 1
            given[piece.passage.id] = fresh
        if piece.whole:
            seen.add(piece.passage.id)
        lines.append(_Line(call=call, words=words, piece=piece, number=given[piece.passage.id]))

    for call, found in enumerate(results):
        if isinstance(found, DocumentWindow):
            words = _words_about(protocol, tokenizer, found)
            if not found.pieces:
                lines.append(_Line(call=call, words=words))
            for i, piece in enumerate(found.pieces):
                add(call, piece, "" if i else words)
            continue
        before = frozenset(seen)
        for passage in {hit.passage.id: hit.passage for hit in found}.values():
            if passage.id not in before:
                add(call, harmless(protocol, tokenizer, passage))
            elif protocol.repeated:
                title = harmless(protocol, tokenizer, passage).title
                words = protocol.repeated.format(number=given[passage.id], title=title)
                lines.append(_Line(call=call, words=words))
        if not found and protocol.tool_call is not None:
            lines.append(_Line(call=call, words=protocol.nothing_found))
    return lines or [_Line(call=0, words=protocol.nothing_found)]


def _words_about(protocol: AgentProtocol, tokenizer: PreTrainedTokenizerBase, found: DocumentWindow) -> str:
    """The line over a window, or what is said instead of one."""
    if found.refused:
        return protocol.opens_used_up
    if found.pieces:
        return protocol.window.format(window=found.window, windows=found.windows)
    clean = neutraliser(tokenizer, (*protocol.tags, *protocol.reserved))
    document = clean.clean(" ".join(found.document.split())[:_MOST_NAMED])
    if not found.windows:
        return protocol.no_document.format(document=document)
    return protocol.no_window.format(window=found.window, windows=found.windows, document=document)


def _text(protocol: AgentProtocol, each: _Line, end: int | None = None) -> str:
    if each.piece is None:
        return each.words
    return each.words + line(protocol, each.number, each.piece.title, each.piece.text[:end])


def _wrapped(
    protocol: AgentProtocol, tokenizer: PreTrainedTokenizerBase, bodies: Sequence[str], last_id: int | None
) -> tuple[int, ...]:
    """The ids of an observation: one wrapper around all results, or a message of the chat for each."""
    if protocol.tool_call is not None:
        return chat_template(protocol, tokenizer).tool_results([body.strip() for body in bodies], last_id=last_id)
    before, after = protocol.wrapper
    return _encode(tokenizer, f"{before}{''.join(bodies).strip()}{after}")


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def _cuts(lines: Sequence[_Line]) -> list[tuple[int, int]]:
    """Every allowed end of the shown part, shortest first: (last line, characters of its text)."""
    cuts: list[tuple[int, int]] = []
    for i, each in enumerate(lines):
        if each.piece is not None:
            ends = [match.end() for match in CUT.finditer(each.text)]
            least = 1 if i == 0 else MIN_WORDS_SHOWN
            cuts.extend((i, end) for end in ends[least - 1 : -1])
        cuts.append((i, len(each.text)))
    return cuts
