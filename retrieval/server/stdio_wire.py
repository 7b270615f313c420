"""Standard input and output as the wire of a JSON-RPC server: lines in, lines out, and an end that loses no answer.

Both descriptors are served by threads of their own, which can be left behind: a process that waits for a line, or for a
client that reads nothing, still ends on Ctrl-C. While the wire is open, descriptor 0 is the null device and 1 is
standard error, so what other code reads and prints stays off it.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import orjson

_NO_JSON, _NO_MESSAGE = -32700, -32600
"""Codes of JSON-RPC 2.0, section 5.1."""
_OF_A_MESSAGE = frozenset({"method", "result", "error"})

_CHUNK = 1 << 16
_LINES_AHEAD = 16
_POLL_S = 0.02


class StdioWire:
    """Iterates over the lines of input, and has the `write` and `flush` of an output file. Make it on the event loop.

    The lines end when input does, on `stop`, or when nobody takes the output any more; but not before every request
    that came in (a JSON object with `method` and `id`) has its answer, or `patience_s` seconds have passed.

    A line that is no JSON object is answered here, with JSON-RPC's error -32700 or -32600, and not passed on: whoever
    sent it has no other way to learn of it. Blank lines are passed over.

    Args:
        longest: bytes of a line; a longer one is such an error, and is not kept.
        patience_s: see above.
    """

    def __init__(self, *, longest: int, patience_s: float) -> None:
        self._longest = longest
        self._patience_s = patience_s
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[tuple[str, bool] | None] = asyncio.Queue()
        self._room = threading.Semaphore(_LINES_AHEAD)
        self._outgoing: SimpleQueue[tuple[bytes, asyncio.Future[None]]] = SimpleQueue()
        self._unanswered: set[str] = set()
        self._unwritten: set[asyncio.Future[None]] = set()
        self._is_broken = False
        self._input, self._output = os.dup(0), os.dup(1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        for job in (self._read, self._write):
            threading.Thread(target=job, daemon=True, name="stdio").start()

    def stop(self) -> None:
        """Take no further line."""
        self._lines.put_nowait(None)

    def close(self) -> None:
        """Give the descriptors back to the process."""
        os.dup2(self._input, 0)
        os.dup2(self._output, 1)

    async def __aiter__(self) -> AsyncIterator[str]:
        while (taken := await self._lines.get()) is not None:
            self._room.release()
            line, is_cut = taken
            if error := self._error_of(line, is_cut):
                await self._refuse(error)
            elif not line.isspace():
                self._note_request(line)
                yield line
        try:
            async with asyncio.timeout(self._patience_s):
                while self._unanswered and not self._is_broken:
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            self._break_off()

    async def write(self, text: str) -> None:
        """Write whole lines, and come back when the operating system has them."""
        if self._is_broken:
            return
        written: asyncio.Future[None] = self._loop.create_future()
        self._unwritten.add(written)
        self._outgoing.put((text.encode("utf-8", "replace"), written))
        await written
        self._unwritten.discard(written)
        self._note_answer(text)

    async def flush(self) -> None:
        """Nothing is held back."""

    def _error_of(self, line: str, is_cut: bool) -> dict[str, Any] | None:
        """The answer to a line that is no message; None for one that is."""
        shown = repr(line.strip()[:80])
        if is_cut:
            return _error(_NO_JSON, f"the line is longer than {self._longest} bytes; send a shorter one")
        if line.isspace():
            return None
        try:
            message = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            return _error(_NO_JSON, f"the line {shown} is no JSON ({error}); send one JSON-RPC message a line")
        if isinstance(message, dict) and message.keys() & _OF_A_MESSAGE:
            return None
        what = f"the line {shown} is no JSON-RPC message; send an object with a `method`"
        return _error(_NO_MESSAGE, what, message.get("id") if isinstance(message, dict) else None)

    async def _refuse(self, error: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._patience_s):  # a client that reads nothing is given up
                await self.write(orjson.dumps(error).decode() + "\n")
        except TimeoutError:
            self._break_off()

    def _note_request(self, line: str) -> None:
        message = _message(line)
        if "method" in message and "id" in message:
            self._unanswered.add(repr(message["id"]))
        elif message.get("method") == "notifications/cancelled" and isinstance(message.get("params"), dict):
            self._unanswered.discard(repr(message["params"].get("requestId")))

    def _note_answer(self, text: str) -> None:
        message = _message(text)
        if "method" not in message:
            self._unanswered.discard(repr(message.get("id")))

    def _read(self) -> None:
        rest, is_over = b"", False
        while chunk := self._next_chunk():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                if not is_over:
                    self._give(line)
                is_over = False
            if len(rest) > self._longest:
                if not is_over:
                    self._give(rest)
                rest, is_over = b"", True
        if rest and not is_over:
            self._give(rest)
        self._tell(self._lines.put_nowait, None)

    def _next_chunk(self) -> bytes:
        try:
            return os.read(self._input, _CHUNK)
        except OSError:  # a terminal that went away
            return b""

    def _give(self, line: bytes) -> None:
        self._room.acquire()
        is_cut = len(line) > self._longest
        self._tell(self._lines.put_nowait, ("" if is_cut else line.decode("utf-8", "replace") + "\n", is_cut))

    def _write(self) -> None:
        while True:
            data, written = self._outgoing.get()
            try:
                while data:
                    data = data[os.write(self._output, data) :]
            except OSError:
                self._tell(self._break_off)
            self._tell(_settle, written)

    def _break_off(self) -> None:
        """Nobody takes the output: wait for no write any more, and end the lines."""
        self._is_broken = True
        for written in self._unwritten:
            _settle(written)
        self.stop()

    def _tell(self, callback: Any, *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(callback, *arguments)


def _settle(written: "asyncio.Future[None]") -> None:
    if not written.done():
        written.set_result(None)


def _error(code: int, message: str, request_id: Any = None) -> dict[str, Any]:
    known = request_id if isinstance(request_id, str | int) else None
    return {"jsonrpc": "2.0", "id": known, "error": {"code": code, "message": message}}


def _message(line: str) -> dict[str, Any]:
    try:
        message = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return message if isinstance(message, dict) else {}
