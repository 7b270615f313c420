"""Runs of a comparison on this machine: each in a process of its own, several at once, their output in log files.

The threads of this process are shared out among them. Children end with this process, whatever ends it: Ctrl-C and
SIGTERM are passed on before it leaves, and where it is killed they see that it is gone.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from train.ablation_job import LAST_WORDS, AblationJob

TERMINATED = 128 + signal.SIGTERM
"""The shell's exit code for a program that SIGTERM ended."""

THREAD_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def run_here(
    jobs: Sequence[AblationJob],
    *,
    workers: int,
    logs: Path,
    say: Callable[[str], None] = lambda text: None,
    command: Sequence[str] = (sys.executable, "-m", "train.ablation_job"),
) -> list[str]:
    """Finish the jobs, at most `workers` at once, in order; a failure does not keep the others from being made.

    Returns:
        One line for each job that failed, with what it said last and its log.

    Raises:
        SystemExit: SIGTERM came; the runs have been ended.
    """
    logs.mkdir(parents=True, exist_ok=True)
    crew = _Crew(workers=workers, logs=logs, say=say, command=command)
    pool = ThreadPoolExecutor(workers)
    with _leaving_in_order_on_sigterm():
        try:
            return [failure for failure in pool.map(crew.finish, jobs) if failure]
        finally:
            crew.stop()
            pool.shutdown(cancel_futures=True)


class _Crew:
    def __init__(self, *, workers: int, logs: Path, say: Callable[[str], None], command: Sequence[str]) -> None:
        self._logs, self._say, self._command = logs, say, list(command)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False
        threads = str(max(1, thread_budget() // workers))
        self._environment = {
            **os.environ,
            **dict.fromkeys(THREAD_LIMITS, threads),
            "WAYMARK_PARENT": str(os.getpid()),
        }

    def finish(self, job: AblationJob) -> str | None:
        """Run a job to its end; what it printed is in its log. A line about it where it failed."""
        name = f"{job.method}/{job.seed}"
        log = self._logs / f"{job.method}-{job.seed}.log"
        with log.open("ab") as file:
            start = file.tell()
            with self._lock:
                if self._stopped:
                    return f"{name}: not started"
                process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=file, stderr=file, env=self._environment
                )
                self._running.add(process)
            process.communicate(job.model_dump_json().encode())
        with self._lock:
            self._running.discard(process)
        if process.returncode == 0:
            self._say(f"{name}: done")
            return None
        reason = f"{_reason(process.returncode, _last_line(log, start))}, see {log}"
        if not self._stopped:
            self._say(f"{name}: {reason}")
        return f"{name} ({reason})"

    def stop(self) -> None:
        """End what still runs; after all jobs there is nothing."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            process.terminate()
            process.send_signal(signal.SIGCONT)  # one that was stopped sees it too
        for process in running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def _leaving_in_order_on_sigterm() -> Iterator[None]:
    """SIGTERM leaves as an exception, on which runs are ended; another one meanwhile must not keep them from it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is leave:  # else this process is leaving
            signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _reason(code: int, line: str) -> str:
    """Why a process failed, for a person: its message, or how it ended and what it said last."""
    if line.startswith(LAST_WORDS):
        return line.removeprefix(LAST_WORDS)
    ended = f"exit {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}"
    return f"{ended} after {line!r}" if line else ended


def _last_line(log: Path, start: int) -> str:
    """The last line with words that was written after the byte `start`."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def thread_budget() -> int:
    """Threads that this process may use: what the verb has set, else the CPUs."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) else os.cpu_count() or 1
