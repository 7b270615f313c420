"""Two processes in one folder would make each other's runs; a process that is gone keeps nobody out."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from train.ablation_lock import only_maker
from train.config_file import ConfigError

HOLDS = """
import sys, time
from pathlib import Path
from train.ablation_lock import only_maker
with only_maker(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(120)
"""


def test_a_second_one_is_refused_with_the_first_ones_name_until_it_is_gone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(out)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout and process.stdout.readline() == "held\n"
        refusal = rf"process {process.pid} on .* is making runs in .*out: wait for it"
        with pytest.raises(ConfigError, match=refusal), only_maker(out):
            raise AssertionError("two at once")
        process.send_signal(signal.SIGKILL)
        process.wait()
        with only_maker(out):
            assert (out / ".lock").read_text().startswith(f"process {os.getpid()} on ")
    finally:
        process.kill()


def test_it_is_given_back_by_one_that_fails_and_is_not_the_file_being_there(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("process 1 on elsewhere, which ended long ago")
    with pytest.raises(ZeroDivisionError), only_maker(tmp_path):
        raise ZeroDivisionError
    with only_maker(tmp_path):
        assert "elsewhere" not in (tmp_path / ".lock").read_text()
