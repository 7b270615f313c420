"""What the environment says to the policy: passages in their wrapper, cut to a token budget, or a correction.

An observation is encoded once, as one piece, and its ids are appended as they are. The budget cuts passages, never
tags: last passages are dropped or shortened, and the wrapper is always closed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from agent.neutraliser import Neutraliser, neutraliser
from agent.protocol import AgentProtocol
from agent.trajectory import Shown
from retrieval.passage import Hit, Passage

# A later passage is shortened to no fewer words than this; with less room it is dropped.
MIN_WORDS_SHOWN = 5
# Cuts fall at the ends of words; a run without spaces (CJK, a URL) can be cut every 16 characters.
_CUT = re.compile(r"\S{1,16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Token ids to append, `[num_tokens]`, and the passages that stand in them, in order."""

    ids: tuple[int, ...]
    shown: tuple[Shown, ...] = ()


def render_observation(
    protocol: AgentProtocol,
    tokenizer: PreTrainedTokenizerBase,
    results: Sequence[Sequence[Hit]],
    *,
    numbers: dict[str, int],
    max_tokens: int,
) -> Observation:
    """The results of one turn's searches as an observation of at most `max_tokens` tokens, wrapper included.

    Results stand in the order of their queries; a passage that two queries found is shown once. No hits at all give
    the wrapper around `protocol.nothing_found`.

    Args:
        results: the hits of every query of the turn.
        numbers: passage id -> number over the trajectory; extended in place by the passages shown, where the protocol
            numbers by trajectory, and left alone where it numbers by turn.
        max_tokens: limit on the whole observation (`max_observation_tokens`).

    Raises:
        ValueError: `max_tokens` is smaller than the empty wrapper.
    """
    check_observation_budget(protocol, tokenizer, max_tokens)
    passages = list({hit.passage.id: hit.passage for hits in results for hit in hits}.values())
    if not passages:
        ids = _encode(tokenizer, _wrap(protocol, protocol.nothing_found))
        return Observation(ids=ids if len(ids) <= max_tokens else _encode(tokenizer, _wrap(protocol, "")))
    numbered = _number(protocol, passages, numbers)
    clean = neutraliser(tokenizer, (*protocol.tags, *protocol.reserved))
    fields = [_fields(protocol, clean, passage) for passage in passages]
    body = [_line(protocol, number, *field) for number, field in zip(numbered, fields, strict=True)]
    ids = _encode(tokenizer, _wrap(protocol, "".join(body)))
    last, cut = len(passages) - 1, None
    if len(ids) > max_tokens:
        candidates = _cuts([text for _, text in fields])
        # Invariant: everything before `low` is known to fit, everything from `high` on is taken not to.
        low, high, ids, last = 0, len(candidates), _encode(tokenizer, _wrap(protocol, "")), -1
        while low < high:
            middle = (low + high) // 2
            i, end = candidates[middle]
            title, text = fields[i]
            shortened = _line(protocol, numbered[i], title, text[:end])
            tried = _encode(tokenizer, _wrap(protocol, "".join([*body[:i], shortened])))
            if len(tried) <= max_tokens:
                low, ids, last, cut = middle + 1, tried, i, end if end < len(text) else None
            else:
                high = middle
    shown = tuple(
        Shown(number=numbered[i], passage_id=passages[i].id, truncated=i == last and cut is not None)
        for i in range(last + 1)
    )
    if protocol.numbers == "trajectory":
        numbers.update((s.passage_id, s.number) for s in shown)
    return Observation(ids=ids, shown=shown)


def render_correction(
    protocol: AgentProtocol, tokenizer: PreTrainedTokenizerBase, error: str | None = None
) -> tuple[int, ...]:
    """The ids of what an invalid action is answered with. `error` fills `{error}` where the protocol's text has it."""
    return _encode(tokenizer, protocol.correction.replace("{error}", error or "invalid action"))


def check_observation_budget(protocol: AgentProtocol, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> int:
    """Tokens of the empty wrapper, if the budget holds it: call this when a config is read.

    Raises:
        ValueError: the budget is smaller than the wrapper.
    """
    wrapper = len(_encode(tokenizer, _wrap(protocol, "")))
    if max_tokens < wrapper:
        raise ValueError(
            f"max_observation_tokens is {max_tokens}, but the empty observation wrapper of protocol {protocol.name!r} "
            f"alone takes {wrapper} tokens with this tokenizer; allow at least {wrapper}, and some 100 for each passage"
        )
    return wrapper


def _wrap(protocol: AgentProtocol, body: str) -> str:
    before, after = protocol.wrapper
    return f"{before}{body.strip()}{after}"


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def _number(protocol: AgentProtocol, passages: Sequence[Passage], numbers: dict[str, int]) -> list[int]:
    """Numbers to show, without touching `numbers`: a passage that the budget drops must not use one up."""
    if protocol.numbers == "turn":
        return list(range(1, len(passages) + 1))
    numbered, fresh = [], max(numbers.values(), default=0) + 1
    for passage in passages:
        numbered.append(numbers.get(passage.id, fresh))
        fresh += passage.id not in numbers
    return numbered


def _fields(protocol: AgentProtocol, clean: Neutraliser, passage: Passage) -> tuple[str, str]:
    title, text = passage.title, passage.text
    if protocol.one_line:
        title, text = " ".join(title.split()), " ".join(text.split())
    return clean.clean(title), clean.clean(text)


def _line(protocol: AgentProtocol, number: int, title: str, text: str) -> str:
    return protocol.passage.format(number=number, title=title, text=text)


def _cuts(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Every allowed end of the shown part, shortest first: (last passage, characters of its text)."""
    cuts: list[tuple[int, int]] = []
    for i, text in enumerate(texts):
        ends = [match.end() for match in _CUT.finditer(text)]
        least = 1 if i == 0 else MIN_WORDS_SHOWN
        cuts.extend((i, end) for end in ends[least - 1 : -1])
        cuts.append((i, len(text)))
    return cuts
