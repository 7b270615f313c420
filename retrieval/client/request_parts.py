"""One long list of texts for a server, asked in several requests, a few of them under way at a time.

A part is as large as the server says that it may be, in texts, hits and bytes; one that is too large all the same (413,
from a proxy in between for example) is halved.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from retrieval.request import RequestError
from retrieval.retriever import RetrievalError

PARTS_UNDER_WAY = 4
"""Requests of one call that a server has at a time: enough to keep it busy, and never its whole queue."""

_HITS_PER_PART = 20_000
_BYTES_PER_PART = 4 << 20
_BYTES_AROUND = 256
"""What a body holds beside its texts."""

Answer = TypeVar("Answer")


class TooLarge(RequestError):
    """The body of a request is larger than the server, or something before it, takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartLimits:
    """How large one part may be, and how many are sent at once."""

    texts: int
    body_bytes: int
    under_way: int


def part_limits(said: Mapping[str, Any], *, max_texts: int, hits_per_text: int) -> PartLimits:
    """The limits for texts that each bring up to `hits_per_text` answers.

    Args:
        said: the `limits` of a server's health, `max_queries`, `max_hits`, `max_body_bytes` and `max_waiting`; what is
            not there is not limited by the server.
        max_texts: most texts in a part, whatever the server allows.
        hits_per_text: at least 1.
    """

    def at_most(name: str, most: int) -> int:
        value = said.get(name)
        return min(value, most) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else most

    hits = at_most("max_hits", _HITS_PER_PART)
    texts = max(1, min(at_most("max_queries", max_texts), hits // hits_per_text))
    return PartLimits(
        texts=texts,
        body_bytes=at_most("max_body_bytes", _BYTES_PER_PART),
        under_way=max(1, at_most("max_waiting", texts * PARTS_UNDER_WAY) // texts),
    )


def parts_of(texts: Sequence[str], limits: PartLimits) -> list[list[str]]:
    """The texts in their order, as many to a part as the limits allow; a text that is too large has one to itself."""
    parts: list[list[str]] = []
    room = left = limits.body_bytes - _BYTES_AROUND
    for text in texts:
        size = len(json.dumps(text, ensure_ascii=False).encode("utf-8")) + 1
        if not parts or len(parts[-1]) == limits.texts or size > left:
            parts.append([])
            left = room
        parts[-1].append(text)
        left -= size
    return parts


async def in_parts(
    ask: Callable[[Sequence[str]], Awaitable[list[Answer]]], parts: Sequence[Sequence[str]], under_way: int
) -> list[Answer]:
    """One answer for every text of all parts, in their order; at most `under_way` parts are asked at once.

    Raises:
        RetrievalError, ValueError: of the first part that has one. Parts that were not asked yet are not asked then.
    """
    if len(parts) == 1:
        return await _halved_if_too_large(ask, parts[0])
    answers: dict[int, list[Answer]] = {}
    errors: dict[int, RetrievalError | ValueError] = {}
    numbered = iter(enumerate(parts))

    async def ask_one_after_the_other() -> None:
        for number, part in numbered:
            try:
                answers[number] = await _halved_if_too_large(ask, part)
            except (RetrievalError, ValueError) as error:  # as a value: it reaches the caller as itself, in no group
                errors[number] = error
            if errors:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(min(under_way, len(parts))):
            group.create_task(ask_one_after_the_other())
    if errors:
        raise errors[min(errors)]
    return [answer for number in range(len(parts)) for answer in answers[number]]


async def _halved_if_too_large(
    ask: Callable[[Sequence[str]], Awaitable[list[Answer]]], part: Sequence[str]
) -> list[Answer]:
    try:
        return await ask(part)
    except TooLarge:
        if len(part) == 1:
            raise
    half = len(part) // 2
    first = await _halved_if_too_large(ask, part[:half])
    return first + await _halved_if_too_large(ask, part[half:])
