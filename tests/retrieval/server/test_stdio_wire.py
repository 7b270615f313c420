"""Lines in and out of a process: none is lost at the end, and nobody who reads nothing keeps it from ending."""

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from tests.retrieval.server.served import LONG_ENOUGH_S, REPOSITORY

ECHO = """
import asyncio, signal, sys
from retrieval.server.stdio_wire import StdioWire

async def answer(wire, line):
    await asyncio.sleep(0.1)
    await wire.write(line.replace("method", "result"))

async def main(longest, patience_s, size):
    wire = StdioWire(longest=longest, patience_s=patience_s)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, wire.stop)
    print("not for the wire", flush=True)
    tasks = []
    async for line in wire:
        tasks.append(asyncio.create_task(answer(wire, line.replace("SIZE", "y" * size))))
    print("lines are over", file=sys.stderr)
    await asyncio.gather(*tasks)
    wire.close()

asyncio.run(main(*map(int, sys.argv[1:])))
"""


def started(longest: int = 1000, patience_s: int = 30, size: int = 1) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", ECHO, str(longest), str(patience_s), str(size)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe, stderr=pipe)


def request(number: int) -> bytes:
    return json.dumps({"id": number, "method": "SIZE"}).encode() + b"\n"


def test_every_request_is_answered_after_the_end_of_input_and_prints_stay_off_the_wire() -> None:
    output, error = started().communicate(
        b"".join(map(request, range(100))) + b'{"id": 100, "method": ""}', timeout=LONG_ENOUGH_S
    )
    assert {json.loads(line)["id"] for line in output.splitlines()} == set(range(101)), "also of a line without an end"
    assert b"not for the wire" in error


def test_a_line_that_is_too_long_is_an_error_and_the_next_one_is_whole() -> None:
    output, _ = started(longest=50).communicate(b"x" * 300_000 + b"\n" + request(1), timeout=LONG_ENOUGH_S)
    first, second = map(json.loads, output.splitlines())
    assert first == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -32700, "message": "the line is longer than 50 bytes; send a shorter one"},
    }
    assert second["id"] == 1


@pytest.mark.parametrize(
    ("line", "code", "said", "request_id"),
    [
        (b"hello", -32700, "the line 'hello' is no JSON", None),
        (b'{"id": 1, "method": ', -32700, "is no JSON", None),
        (b"\xff\xfe", -32700, "is no JSON", None),
        (b"[]", -32600, "the line '[]' is no JSON-RPC message; send an object with a `method`", None),
        (b'{"jsonrpc": "2.0", "id": 7}', -32600, "is no JSON-RPC message", 7),
        (b'{"id": [1]}', -32600, "is no JSON-RPC message", None),
    ],
)
def test_a_line_that_is_no_message_is_answered_as_json_rpc_says(
    line: bytes, code: int, said: str, request_id: int | None
) -> None:
    output, _ = started().communicate(line + b"\n \n\n" + request(1), timeout=LONG_ENOUGH_S)
    error, answer = map(json.loads, output.splitlines())
    assert (error["jsonrpc"], error["id"], error["error"]["code"]) == ("2.0", request_id, code)
    assert said in error["error"]["message"] and answer["id"] == 1


def test_a_client_that_sends_rubbish_and_reads_nothing_is_given_up_after_the_patience() -> None:
    process = started(longest=10_000, patience_s=1)
    assert process.stdin is not None and process.stderr is not None
    assert process.stderr.readline() == b"not for the wire\n"
    with suppress(BrokenPipeError):
        for _ in range(2000):
            process.stdin.write(b"rubbish\n")
        process.stdin.flush()
    assert process.wait(LONG_ENOUGH_S) == 0


def test_a_client_that_reads_nothing_is_given_up_after_the_patience() -> None:
    process = started(patience_s=1, size=1_000_000)
    assert process.stdin is not None and process.stderr is not None
    assert process.stderr.readline() == b"not for the wire\n"
    process.stdin.write(request(1) + request(2))
    process.stdin.flush()
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONG_ENOUGH_S) == 0


@pytest.mark.parametrize("close", ["stdout", "stdin"])
def test_a_closed_end_ends_the_lines(close: str) -> None:
    process = started()
    assert process.stdin is not None and process.stdout is not None
    if close == "stdout":
        process.stdout.close()
        process.stdin.write(request(1))
        process.stdin.flush()
    else:
        process.stdin.close()
    assert process.wait(LONG_ENOUGH_S) == 0
