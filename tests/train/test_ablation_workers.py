"""A run that fails says why on the console too, and no run outlives the comparison that started it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.train.ablation_records import tiny_ablation
from train import ablation_job
from train.ablation_job import AblationJob, last_words
from train.ablation_workers import run_here
from train.config_file import ConfigError
from train.progress import RunStopped

TAKES_RUNS = """
import sys, time
from pathlib import Path
from train.ablation_job import AblationJob
from train.ablation_workers import run_here
job = AblationJob.model_validate_json(Path(sys.argv[1]).read_text())
child = "import os, sys, time; sys.stdin.read(); open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(120)"
run_here([job], workers=1, logs=Path(sys.argv[2]).parent, command=(sys.executable, "-c", child, sys.argv[2]))
"""


def a_job(out: Path) -> AblationJob:
    return tiny_ablation(out, ["outcome"], seeds=1).job("outcome", 0)


def failure(out: Path, code: str) -> tuple[str, list[str], str]:
    """What a run that does this is reported with, what was said of it meanwhile, and the last line of its log."""
    told: list[str] = []
    command = (sys.executable, "-c", f"import os, sys; sys.stdin.read(); {code}")
    (failed,) = run_here([a_job(out)], workers=1, logs=out, say=told.append, command=command)
    return failed, told, ["", *(out / "outcome-0.log").read_text().splitlines()][-1]


def test_the_last_words_of_a_run_are_those_of_the_verb(tmp_path: Path) -> None:
    code = "print('step 1', flush=True); print('waymark: no reward is named exat', file=sys.stderr); sys.exit(1)"
    failed, told, last = failure(tmp_path, code)
    log = tmp_path / "outcome-0.log"
    assert told == [f"outcome/0: no reward is named exat, see {log}"]
    assert failed == f"outcome/0 (no reward is named exat, see {log})"
    assert last == "waymark: no reward is named exat"


def test_a_run_that_was_killed_and_one_that_said_nothing_have_how_they_ended(tmp_path: Path) -> None:
    failure(tmp_path, "print('said by an earlier run'); sys.exit(1)")
    assert failure(tmp_path, "os.kill(os.getpid(), 9)")[0].startswith("outcome/0 (ended by SIGKILL, see")
    assert failure(tmp_path, "sys.exit(4)")[0].startswith("outcome/0 (exit 4, see")


def test_what_an_error_says_is_one_line_with_its_notes() -> None:
    error = ConfigError("train:\n  steps: must be 1")
    error.add_note("while reward 'own' scored unit 'u'")
    assert last_words(error) == "waymark: train:; steps: must be 1; while reward 'own' scored unit 'u'"
    assert last_words(RunStopped("the retriever is away")) == "waymark: the retriever is away"
    assert last_words(ZeroDivisionError("by zero")) == "waymark: ZeroDivisionError: by zero"
    assert last_words(ValueError()) == "waymark: ValueError"


@pytest.mark.parametrize(("error", "has_traceback"), [(ConfigError("taken"), False), (KeyError("em"), True)])
def test_a_job_that_fails_ends_its_log_with_the_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    has_traceback: bool,
) -> None:
    def fails(job: AblationJob, progress: object) -> None:
        raise error

    given = tmp_path / "job.json"
    given.write_text(a_job(tmp_path).model_dump_json(), encoding="utf-8")
    monkeypatch.setattr(ablation_job, "finish_job", fails)
    monkeypatch.delenv("WAYMARK_TRACEBACK", raising=False)
    with given.open() as stdin, pytest.raises(SystemExit) as left:
        monkeypatch.setattr(sys, "stdin", stdin)
        ablation_job.main()
    said = capsys.readouterr().err
    assert left.value.code == 1
    assert said.splitlines()[-1] == last_words(error)
    assert ("Traceback" in said) == has_traceback


@pytest.mark.parametrize("is_stopped", [False, True])
def test_sigterm_ends_the_runs_before_the_comparison(tmp_path: Path, is_stopped: bool) -> None:
    given, pid_file = tmp_path / "job.json", tmp_path / "pid"
    given.write_text(a_job(tmp_path).model_dump_json(), encoding="utf-8")
    process = subprocess.Popen([sys.executable, "-c", TAKES_RUNS, str(given), str(pid_file)], cwd=REPOSITORY)
    try:
        child = int(until(lambda: pid_file.read_text() if pid_file.exists() else ""))
        if is_stopped:
            os.kill(child, signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)  # as an impatient person does
        assert process.wait(9) == 128 + signal.SIGTERM
        until(lambda: "" if is_alive(child) else "gone", seconds=5)
    finally:
        process.kill()


def until(found: Callable[[], str], *, seconds: float = 40.0) -> str:
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


def is_alive(pid: int) -> bool:
    """True if there is such a process; one that has ended and was not waited for yet counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
