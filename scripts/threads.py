"""The thread budget: how many threads torch, OpenMP, MKL and numba may start in this process.

All of them read the environment when they are imported, so the budget is set when `scripts` is imported, before a
verb imports them: `--threads N` first, else WAYMARK_THREADS, else the physical cores that this process may use. Two
libraries that each start a thread per core fall to a fraction of their speed. `OMP_NUM_THREADS` and its like are kept
where the user has set them and gives no budget.
"""

import math
import os
from collections.abc import MutableMapping, Sequence
from pathlib import Path

LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def physical_cores() -> int:
    """Physical cores that this process may use: its CPU affinity, without hyper-threads, within a container's quota."""
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores: set[tuple[str, ...]] = set()
    for cpu in cpus:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            cores.add(tuple((topology / name).read_text().strip() for name in ("physical_package_id", "core_id")))
        except OSError:
            cores.add(("cpu", str(cpu)))
    return max(1, min(len(cores), _container_cpus()))


def _container_cpus() -> int:
    """CPUs that the control group allows, rounded up; a number larger than any machine where it sets no limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):
        return 1 << 20


def take_threads(arguments: Sequence[str]) -> tuple[int | None, list[str]]:
    """Split `--threads N` (or `--threads=N`), wherever it stands, from the other arguments.

    Raises:
        ValueError: N is missing or not a whole number of at least 1.
    """
    threads: int | None = None
    rest: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if argument == "--":
            return threads, [*rest, argument, *waiting]
        if argument == "--threads":
            threads = _whole_number(waiting.pop(0) if waiting else "", "--threads")
        elif argument.startswith("--threads="):
            threads = _whole_number(argument.removeprefix("--threads="), "--threads")
        else:
            rest.append(argument)
    return threads, rest


def set_thread_budget(threads: int | None, environment: MutableMapping[str, str]) -> int:
    """Write the budget to the environment and return it. `threads` None means WAYMARK_THREADS, else the physical cores.

    Raises:
        ValueError: WAYMARK_THREADS is not a whole number of at least 1.
    """
    if threads is None and environment.get("WAYMARK_THREADS"):
        threads = _whole_number(environment["WAYMARK_THREADS"], "WAYMARK_THREADS")
    budget = physical_cores() if threads is None else threads
    for name in LIMITS:
        if threads is None:
            environment.setdefault(name, str(budget))
        else:
            environment[name] = str(budget)
    if threads is not None:
        environment["WAYMARK_THREADS"] = str(threads)  # child processes of ours keep the budget
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    return budget


def _whole_number(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"{name} is {text!r}; give a whole number of at least 1, such as {name} 2")
    return int(text)
