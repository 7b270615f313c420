"""Without a network a model of the hub is told to be missing in seconds, in one sentence, or comes from the cache."""

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from retrieval.hub import cached_folder
from tests.retrieval.dense.tiny_encoder import write_tiny_bert

REPOSITORY = Path(__file__).resolve().parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def unreachable(tmp_path: Path, endpoint: str = "http://127.0.0.1:9") -> dict[str, str]:
    """An environment with an empty cache in which the hub is a port where nobody listens."""
    left_out = ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "TRANSFORMERS_OFFLINE")
    inherited = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**inherited, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hub")}


def run(program: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=100)


ASK = """
import time
from retrieval.hub import cached_folder
started = time.monotonic()
try:
    print(cached_folder("some/encoder"))
except ValueError as error:
    print(error)
print(time.monotonic() - started)
"""


def test_a_folder_asks_nobody(tmp_path: Path) -> None:
    assert cached_folder(str(tmp_path)) is None


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached_or_says_nothing_is_told_soon(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        for endpoint in ("http://127.0.0.1:9", f"http://127.0.0.1:{silent.getsockname()[1]}"):
            result = run(ASK, unreachable(tmp_path, endpoint))
            message, seconds = result.stdout.splitlines()
            assert message.startswith("the model some/encoder is not on this machine, and the Hugging Face hub cannot")
            assert message.endswith("and give that folder as the model") and float(seconds) < 15
            assert result.stderr == "", "no line of the hub's own stands above it"


@pytest.mark.slow
def test_a_hub_that_answers_leaves_the_rest_to_the_loader(tmp_path: Path) -> None:
    asked: list[bytes] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as refusing:

        def answer() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = refusing.accept()
                    with connection:
                        asked.append(connection.recv(65_536))
                        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        result = run(ASK, unreachable(tmp_path, f"http://127.0.0.1:{refusing.getsockname()[1]}"))
    assert result.stdout.splitlines()[0] == "None", (result.stdout, asked)


@pytest.mark.slow
def test_a_cached_encoder_is_used_without_a_network(tmp_path: Path) -> None:
    cached = tmp_path / "hub" / "hub" / "models--some--encoder"
    write_tiny_bert(cached / "snapshots" / COMMIT)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)
    program = """
from retrieval.dense.encoder import Encoder
from retrieval.dense.presets import EncoderSettings
print(Encoder(EncoderSettings(model="some/encoder")).queries(["owl"]).shape)
"""
    started = time.monotonic()
    result = run(program, unreachable(tmp_path))
    assert result.returncode == 0 and result.stdout.startswith("(1, "), result.stderr
    assert "thrown while requesting" not in result.stderr and time.monotonic() - started < 60


@pytest.mark.slow
def test_a_build_without_a_network_ends_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"id": "1", "title": "", "text": "owl"}\n')
    arguments = [str(tmp_path / "c.jsonl"), "--out", str(tmp_path / "index"), "--backend", "flat"]
    program = (
        f"from scripts.cli import main; main({['build-index', *arguments, '--set', 'encoder.model=some/encoder']!r})"
    )
    result = run(program, unreachable(tmp_path))
    assert result.returncode == 2 and "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("waymark: ")]
    assert len(lines) == 1 and lines[0].startswith("waymark: the model some/encoder is not on this machine")
    assert "thrown while requesting" not in result.stderr and result.stderr.endswith(f"{lines[0]}\n")
