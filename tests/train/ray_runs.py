"""Runs on Ray that tests disturb: their config, the processes behind them, and what must be true of a run that ended.

`DrivenRun` is `waymark train` in a process of its own, whose actors are found among its descendants by the titles that
Ray gives them. `whole` says what is wrong with a run's folder; it knows nothing of what was done to the run.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import psutil
import ray
import yaml

from evaluation.trajectory_store import read_trajectories
from tests.ctrl_c import heed_ctrl_c
from tests.train.conftest import run_settings
from train.ledger import audit, read_ledger
from train.progress import Progress
from train.ray_runtime import crew_name
from train.testbed import Testbed
from train.tracking import METRICS_FILE, read_metrics

REPOSITORY = Path(__file__).resolve().parents[2]
LONG_ENOUGH_S = 400.0
"""For what takes seconds on a machine that has nothing else to do."""

Kind = Literal["RayEngine", "RayRetriever", "RayWorker"]

RUNTIME = {
    "kind": "ray",
    "engine_cpus": 0.5,
    "worker_cpus": 0.5,
    "retriever_cpus": 0.5,
    "heartbeat_s": 0.5,
    "heartbeat_timeout_s": 30.0,
}


def ray_settings(
    testbed: Testbed, model: Path, *, runtime: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """A run of `model` on Ray in which every step changes the weights: 2 questions x 4 samples, without cold start."""
    defaults: dict[str, Any] = {
        "policy": {"model": str(model)},
        "learner": {"learning_rate": 3e-4},
        "cold_start": None,
        "evaluate_every": 0,
        "rollout": {"questions_per_step": 2, "samples_per_question": 4},
        "rewards": {"even_tokens": {"use": "tests.train.fakes:EvenTokens"}},
        "runtime": {**RUNTIME, **(runtime or {})},
    }
    return run_settings(testbed, **{**defaults, **changes})


def at_this_load(seconds: float) -> float:
    """So many seconds on a machine that has a core for everybody, more where others take their share."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def wait_until(holds: Callable[[], Any], what: str, *, within_s: float = LONG_ENOUGH_S) -> Any:
    """What `holds` tells once it is true of something."""
    until = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < until, f"{what} did not come true within {within_s:g} s"
        time.sleep(0.02)
    return found


def all_end(processes: Iterable[psutil.Process], *, within_s: float) -> None:
    """Wait for the end of processes; one that goes on is named."""
    until = time.monotonic() + within_s
    while running := [process for process in processes if is_running(process)]:
        assert time.monotonic() < until, f"still running after {within_s:g} s: {[_title(p) or p for p in running]}"
        time.sleep(0.02)


def steps_logged(folder: Path) -> int:
    """The last step that a run has logged; 0 before the first."""
    path = folder / METRICS_FILE
    lines = read_metrics(path) if path.exists() and path.stat().st_size else []
    return lines[-1]["step"] if lines else 0


def whole(folder: Path, settings: dict[str, Any], *, max_staleness: int = 0) -> list[str]:
    """What is wrong with a run that has ended: nothing may be lost, doubled, or in the wrong group."""
    steps = settings["steps"]
    units, samples = (settings["rollout"][name] for name in ("questions_per_step", "samples_per_question"))
    problems = audit(
        folder / "ledger.jsonl", steps=steps, units_per_step=units, samples=samples, max_staleness=max_staleness
    )
    logged = [line["step"] for line in read_metrics(folder / METRICS_FILE) if line["step"]]
    if logged != list(range(1, steps + 1)):
        problems.append(f"the metrics have the steps {logged}")
    stored = [(one.step, one.trajectory) for one in read_trajectories(folder / "trajectories")]
    learnt = learnt_from(folder)
    if Counter(trajectory.id for _, trajectory in stored) != Counter(learnt.keys()):
        problems.append(f"{len(stored)} trajectories are stored and {len(learnt)} were learnt from")
    problems += [
        f"{t.id} of {t.unit_id} was learnt from in step {step}; the ledger has {learnt.get(t.id)}"
        for step, t in stored
        if learnt.get(t.id) != (t.unit_id, step - 1)
    ]
    return problems


def learnt_from(folder: Path) -> dict[str, tuple[str, int]]:
    """Unit and step of each trajectory that a step took, by id; what a kill made void is left out."""
    members: dict[str, list[str]] = {}
    taken: dict[str, int] = {}
    for event in read_ledger(folder / "ledger.jsonl"):
        if event["event"] == "started":
            members[event["unit"]] = event["trajectories"]
        elif event["event"] == "taken":
            taken[event["unit"]] = event["step"]
        elif event["event"] == "resumed":
            taken = {unit: step for unit, step in taken.items() if step < event["step"]}
    return {trajectory: (unit, step) for unit, step in taken.items() for trajectory in members[unit]}


class Does(Progress):
    """Does something once a step is logged, on the learner's thread, and keeps what is told."""

    def __init__(self, at: dict[int, Callable[[], None]]) -> None:
        self._at = at
        self.lines: list[str] = []
        self.processes: set[psutil.Process] = set()
        """The children of this process that there were at some step."""
        self.done_at = 0.0

    def stage(self, text: str) -> None:
        self.lines.append(text)

    def step(self, step: int, steps: int, values: dict[str, Any]) -> None:
        self.processes.update(psutil.Process().children(recursive=True))
        if step in self._at:
            self._at[step]()
            self.done_at = time.monotonic()


def actor(name: str) -> Any:
    """An actor of the run that goes on in this process."""
    return ray.get_actor(f"{crew_name()}-{name}", namespace="waymark")


def counted(folder: Path, name: str) -> float:
    """The largest value of a figure that counts; how often something happened, where the driver was not lost."""
    return max(line.get(name, 0.0) for line in read_metrics(folder / METRICS_FILE))


class DrivenRun:
    """`python -m scripts.train` and the processes that it starts; a context manager that leaves none of them."""

    def __init__(self, settings: dict[str, Any], folder: Path) -> None:
        self.folder = folder
        self.log = folder.with_suffix(".log")
        self._config = folder.with_suffix(".yaml")
        self._config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        self._seen: set[psutil.Process] = set()
        self.start()

    def __enter__(self) -> "DrivenRun":
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.family(), *self._seen):
            if process.is_running():
                process.kill()
        self.driver.wait()

    def start(self) -> None:
        """Begin, or go on with `--resume`."""
        command = [sys.executable, "-m", "scripts.train", str(self._config), "--out", str(self.folder)]
        if (self.folder / "config.yaml").exists():
            command.append("--resume")
        with self.log.open("a") as log:
            self.driver = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
                env={**os.environ, "WAYMARK_THREADS": "1"},
                start_new_session=True,
                preexec_fn=heed_ctrl_c,
            )

    def family(self) -> list[psutil.Process]:
        """The driver's process and every descendant."""
        try:
            driver = psutil.Process(self.driver.pid)
            family = [driver, *driver.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []
        self._seen.update(family)
        return family

    def actors(self, kind: Kind, *, at_work: bool = False) -> list[psutil.Process]:
        """The processes of one kind of actor; those that are at work have a method in their title."""
        begins = f"ray::{kind}." if at_work else f"ray::{kind}"
        return [process for process in self.family() if _title(process).startswith(begins)]

    def reaches(self, step: int) -> None:
        """Wait until a step is logged."""
        wait_until(lambda: steps_logged(self.folder) >= step or self.driver.poll() is not None, f"step {step}")
        assert self.driver.poll() is None, f"the run ended before it could be disturbed:\n{self.said()[-3000:]}"

    def playing(self) -> int:
        """Episodes that have started since the learner last did, and have not ended."""
        running: set[str] = set()
        for event in read_ledger(self.folder / "ledger.jsonl"):
            if event["event"] == "resumed":
                running.clear()
            elif event["event"] == "started":
                running.update(event["trajectories"])
            elif event["event"] == "accepted":
                running.discard(event["trajectory"])
        return len(running)

    def came_back(self, kind: Kind, before: list[psutil.Process]) -> bool:
        """True if as many of a kind run as before, and not all are the same."""
        now = self.actors(kind)
        return len(now) == len(before) and set(now) != set(before)

    def ended(self, within_s: float = LONG_ENOUGH_S) -> int:
        """The exit code."""
        return self.driver.wait(within_s)

    def left_over(self, *, agents: bool = True) -> list[psutil.Process]:
        """Processes of this run, seen so far, that still run. Ray's agents look for their raylet now and then only, so
        those of one that was killed outlive it by a minute.
        """
        return [p for p in self._seen if is_running(p) and (agents or not _title(p).endswith("Agent"))]

    def said(self) -> str:
        """What was printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")


def is_running(process: psutil.Process) -> bool:
    """False for a zombie too."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()  # where a process has set it, empty arguments follow
    except psutil.Error:
        return ""
