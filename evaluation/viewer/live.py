"""Server-sent events of a run, and of all runs: one whenever figures or trajectories have come."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

Snapshot = dict[str, Any]

POLL_S = 1.0
_HEARTBEAT_POLLS = 15


async def events(
    look: Callable[[], Snapshot], is_gone: Callable[[], Awaitable[bool]], *, every_s: float = POLL_S
) -> AsyncIterator[str]:
    """Send what `look` gives whenever it differs from the last time; `look` runs on a thread.

    Every so often a comment is sent, so that a closed connection is noticed.
    """
    last: Snapshot | None = None
    polls = 0
    yield "retry: 2000\n\n"
    while not await is_gone():
        now = await asyncio.to_thread(look)
        if now != last:
            yield f"event: {'hello' if last is None else 'change'}\ndata: {json.dumps(now)}\n\n"
            last = now
        polls += 1
        if polls % _HEARTBEAT_POLLS == 0:
            yield ": still here\n\n"
        await asyncio.sleep(every_s)
