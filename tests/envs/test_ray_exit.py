"""A driver that is ended leaves none of its processes, and is gone within ten seconds."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.ctrl_c import heed_ctrl_c
from tests.envs.ray_parts import closing_limit_s
from tests.retrieval.server.served import LONG_ENOUGH_S, REPOSITORY, all_ended

pytestmark = pytest.mark.slow


def driver(mode: str) -> tuple[subprocess.Popen[str], set[int]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.envs.ray_driver", mode],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_ctrl_c,
    )
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline()
    assert line, process.stderr.read()
    return process, set(map(int, line.split()))


@pytest.mark.parametrize("whom", ["the driver", "the terminal's whole group"])
def test_ctrl_c_ends_the_driver_its_actors_and_ray(whom: str) -> None:
    process, pids = driver("plays")
    try:
        time.sleep(1)  # in the middle of episodes
        started = time.monotonic()
        if whom == "the driver":
            process.send_signal(signal.SIGINT)
        else:
            os.killpg(process.pid, signal.SIGINT)
        assert process.wait(LONG_ENOUGH_S) == 130
        assert time.monotonic() - started < closing_limit_s()
        assert len(pids) >= 7 and all_ended(pids)
    finally:
        process.kill()


def test_an_exception_inside_an_actor_reaches_the_driver_and_leaves_no_process() -> None:
    process, pids = driver("bug")
    try:
        _, told = process.communicate(timeout=LONG_ENOUGH_S)
        assert process.returncode == 1 and "TypeError: a bug in a worker" in told
        assert len(pids) >= 7 and all_ended(pids)
    finally:
        process.kill()
