"""A server on the event loop of the test that answers after as long as it is told, and counts."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from retrieval.identity import IDENTITY_HEADER


class Counting:
    """Keeps connections; `/health` and `/retrieve` take `slow_s` seconds each, or until the client has left."""

    def __init__(self) -> None:
        self.url = ""
        self.slow_s = 0.0
        self.identity = "old"
        self.asked: Counter[str] = Counter()
        self.connections = 0
        self.under_way = self.most_under_way = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                lengths = [line.split(":")[1] for line in head.split("\r\n") if line.startswith("content-length:")]
                body = await reader.readexactly(int(lengths[0])) if lengths else b""
                await self._answer_one(head.split()[1], body, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.connections -= 1
            writer.close()

    async def _answer_one(
        self, path: str, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.asked[path] += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        identity = self.identity
        until = time.monotonic() + self.slow_s
        while time.monotonic() < until and not reader.at_eof():
            await asyncio.sleep(0.005)
        self.under_way -= 1
        said: dict[str, Any] = {"num_passages": 5, "index_hash": identity, "limits": {}}
        if path == "/retrieve":
            hit = {"document": {"id": identity, "title": "", "text": "x"}, "score": 1.0}
            said = {"result": [[hit] for _ in json.loads(body)["queries"]]}
        content = json.dumps(said).encode()
        head = f"HTTP/1.1 200 OK\r\n{IDENTITY_HEADER}: {identity}\r\nContent-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        await writer.drain()


@asynccontextmanager
async def counting() -> AsyncIterator[Counting]:
    """One that runs until the block ends."""
    said = Counting()
    running: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        with suppress(asyncio.CancelledError):
            await said.answer(reader, writer)
        running.discard(task)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    said.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield said
    server.close()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
