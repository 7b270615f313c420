"""One long list of questions to a server, asked in several requests at once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from retrieval.retriever import RetrievalError

Answer = TypeVar("Answer")


async def in_parts(
    ask: Callable[[Sequence[str]], Awaitable[list[Answer]]], texts: Sequence[str], size: int
) -> list[Answer]:
    """One answer for every text: `ask` gets at most `size` of them, and all parts are asked at once.

    Raises:
        RetrievalError, ValueError: of the first part that has one, once all have ended.
    """
    parts = [texts[start : start + size] for start in range(0, len(texts), size)]
    if len(parts) == 1:
        return await ask(parts[0])

    async def ask_quietly(part: Sequence[str]) -> list[Answer] | Exception:
        """An error as a value, so that it reaches the caller as itself and not in a group."""
        try:
            return await ask(part)
        except (RetrievalError, ValueError) as error:
            return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask_quietly(part)) for part in parts]
    answers: list[Answer] = []
    for task in tasks:
        result = task.result()
        if isinstance(result, Exception):
            raise result
        answers.extend(result)
    return answers
