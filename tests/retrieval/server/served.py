"""`serve` in a process of its own, and whether anything of it is left."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.ctrl_c import heed_ctrl_c

REPOSITORY = Path(__file__).resolve().parents[3]
LONG_ENOUGH_S = 300
"""For what ends in less than a second: on a machine that has other things to do, a process of low priority takes a
hundred times as long.
"""
FAKE_OPENER = "tests.retrieval.server.fakes:open_fake"


@dataclass
class Served:
    """A server that answers at `url`."""

    process: subprocess.Popen[str]
    url: str
    line: str
    """What it printed when it served."""

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=20, trust_env=False)

    def process_ids(self) -> set[int]:
        """Of the processes that answer."""
        return {self.get("/health").json()["pid"] for _ in range(40)}

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit code."""
        self.process.send_signal(number)
        return self.process.wait(LONG_ENOUGH_S)


@contextmanager
def served(*command: str) -> Iterator[Served]:
    """Run a command that prints a line with a URL when it serves; whatever is left of it is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line + process.stderr.read()
        yield Served(process, found[0], line.rstrip())
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def fakes(replicas: int, **settings: object) -> tuple[str, str]:
    """The command that serves 20 fake passages."""
    return "-c", (
        "from retrieval.server.serve import serve\n"
        "from retrieval.server.settings import ServerSettings\n"
        "import functools\n"
        "announce = functools.partial(print, flush=True)\n"
        f"settings = ServerSettings(port=0, replicas={replicas}, **{settings!r})\n"
        f"serve([20], settings, announce=announce, opener={FAKE_OPENER!r})"
    )


def is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process_id}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def all_ended(process_ids: set[int], within_s: float = 60.0) -> bool:
    until = time.monotonic() + within_s
    while any(map(is_running, process_ids)):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True
