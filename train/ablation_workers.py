"""Runs of a comparison on this machine: each in a process of its own, several at once, their output in log files.

The threads of this process are shared out among them. Children end with this process, whatever ends it.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from train.ablation_job import AblationJob

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
        One line for each job that failed, with its log.
    """
    logs.mkdir(parents=True, exist_ok=True)
    crew = _Crew(workers=workers, logs=logs, say=say, command=command)
    pool = ThreadPoolExecutor(workers)
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
        self._say(f"{name}: exit {process.returncode}, see {log}")
        return f"{name} (exit {process.returncode}, see {log})"

    def stop(self) -> None:
        """End what still runs; after all jobs there is nothing."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def thread_budget() -> int:
    """Threads that this process may use: what the verb has set, else the CPUs."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) else os.cpu_count() or 1
