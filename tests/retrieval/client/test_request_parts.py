"""A long list in parts: within every limit, in order, a few under way, halved where they are too large."""

import asyncio
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.client.request_parts import PartLimits, TooLarge, in_parts, part_limits, parts_of
from retrieval.retriever import RetrievalError


@given(
    st.lists(st.text(alphabet='aé中😀"\\\n', max_size=40), max_size=60),
    st.integers(1, 20),
    st.integers(1, 2000),
)
def test_parts_hold_every_text_in_order_and_keep_to_the_limits(texts: list[str], most: int, body_bytes: int) -> None:
    parts = parts_of(texts, PartLimits(texts=most, body_bytes=body_bytes, under_way=1))
    assert [text for part in parts for text in part] == texts
    for part in parts:
        body = {"queries": part, "topk": 10**6, "return_scores": True, "dialect": "waymark"}
        size = len(json.dumps(body, ensure_ascii=False).encode())
        assert 1 <= len(part) <= most and (len(part) == 1 or size - len(part) <= body_bytes)


@pytest.mark.parametrize(
    ("said", "k", "expected"),
    [
        ({}, 3, (256, 4 << 20, 4)),
        ({"max_queries": 64, "max_hits": 1000, "max_body_bytes": 5000, "max_waiting": 4096}, 20, (50, 5000, 4)),
        ({"max_queries": 10_000, "max_hits": 10**9, "max_body_bytes": 1 << 40}, 1, (256, 4 << 20, 4)),
        ({"max_queries": 64, "max_waiting": 130}, 1, (64, 4 << 20, 2)),
        ({"max_hits": 5, "max_waiting": 0}, 100, (1, 4 << 20, 4)),
        ({"max_queries": True, "max_hits": "many", "max_body_bytes": None, "max_waiting": -1}, 100, (200, 4 << 20, 4)),
    ],
)
def test_the_limits_are_the_smaller_ones_of_both_sides(
    said: dict[str, object], k: int, expected: tuple[int, int, int]
) -> None:
    limits = part_limits(said, max_texts=256, hits_per_text=k)
    assert (limits.texts, limits.body_bytes, limits.under_way) == expected


async def test_so_many_are_under_way_and_no_more() -> None:
    now = most = 0

    async def ask(part: Sequence[str]) -> list[str]:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001 * (len(part[0]) % 3))
        now -= 1
        return [text.upper() for text in part]

    texts = ["a" * i for i in range(1, 30)]
    assert await in_parts(ask, [[text] for text in texts], 3) == [text.upper() for text in texts]
    assert most == 3


async def test_the_first_error_in_order_is_raised_and_the_rest_is_not_asked() -> None:
    asked: list[str] = []

    async def ask(part: Sequence[str]) -> list[str]:
        asked.extend(part)
        await asyncio.sleep(0.01 if part[0] == "1" else 0)
        if part[0] in "12":
            raise RetrievalError(part[0]) if part[0] == "1" else ValueError(part[0])
        return list(part)

    with pytest.raises(RetrievalError, match="1"):
        await in_parts(ask, [[str(i)] for i in range(100)], 4)
    assert len(asked) <= 6


async def test_what_is_too_large_is_halved_down_to_one() -> None:
    sizes: list[int] = []

    async def ask(part: Sequence[str]) -> list[str]:
        sizes.append(len(part))
        if len(part) > 2 or "never" in part:
            raise TooLarge("413")
        return list(part)

    assert await in_parts(ask, [list("abcdefg")], 4) == list("abcdefg")
    assert sizes == [7, 3, 1, 2, 4, 2, 2]
    with pytest.raises(ValueError, match="413"):
        await in_parts(ask, [["a", "never"]], 4)
