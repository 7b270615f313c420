"""Runs of a comparison as tasks of a Ray cluster, as many at once as it has cores for.

Nodes need not share a disk: testbed and cold start travel as one archive, through the object store, and a run's record
comes back. So every run starts from the same bits, whichever node made them. A run that is lost with its node is made
again from its beginning.
"""

import io
import os
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from train.ablation_job import AblationJob, run_job
from train.ablation_record import RunRecord, record_path, write_record
from train.ablation_workers import THREAD_LIMITS
from train.config_file import ConfigError

CARRIED = ("testbed", "cold_start", "cold_start.json")
"""What a run needs of a comparison's folder."""


def run_on_ray(
    jobs: Sequence[AblationJob],
    *,
    address: str,
    say: Callable[[str], None] = lambda text: None,
    cpus_per_run: int = 1,
) -> list[str]:
    """Finish the jobs on the cluster at `address` (`local` starts one here); records are written as they come in.

    Returns:
        One line for each job that failed.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--ray-address needs Ray: pip install 'waymark[ray]'") from error
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, runtime_env=_environment(cpus_per_run))
    except (ConnectionError, ValueError) as error:
        raise ConfigError(f"--ray-address {address}: no cluster answers there: {error}") from error
    try:
        return _run(ray, jobs, say, cpus_per_run)
    finally:
        ray.shutdown()


def _environment(cpus_per_run: int) -> dict[str, Any]:
    threads = dict.fromkeys(THREAD_LIMITS, str(cpus_per_run))
    paths = [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    return {"env_vars": {**threads, "PYTHONPATH": os.pathsep.join(filter(None, paths))}}


def _run(ray: Any, jobs: Sequence[AblationJob], say: Callable[[str], None], cpus_per_run: int) -> list[str]:
    archive = ray.put(pack(jobs[0].folder))
    # One call a process: a run leaves nothing behind for the next one, neither threads nor memory.
    remote = ray.remote(num_cpus=cpus_per_run, max_calls=1, max_retries=2)(run_elsewhere)
    waiting = {remote.remote(job.model_dump_json(), archive): job for job in jobs}
    failed = []
    while waiting:
        done, _ = ray.wait(list(waiting))
        for reference in done:
            job = waiting.pop(reference)
            name = f"{job.method}/{job.seed}"
            try:
                record = RunRecord.model_validate_json(ray.get(reference))
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[-1]
                failed.append(f"{name} ({reason})")
                say(f"{name}: failed: {reason}")
                continue
            write_record(record_path(job.records, job.method, job.seed), record)
            say(f"{name}: done")
    return failed


def run_elsewhere(job: str, archive: bytes) -> str:
    """One run on a node: its folder is made from the archive, and gone when its record is returned as JSON."""
    with tempfile.TemporaryDirectory(prefix="waymark-ablate-") as scratch:
        unpack(archive, Path(scratch))
        moved = AblationJob.model_validate_json(job).model_copy(update={"folder": Path(scratch)})
        return run_job(moved).model_dump_json()


def pack(folder: Path) -> bytes:
    """What a run needs of a comparison's folder, as an archive."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name in CARRIED:
            archive.add(folder / name, arcname=name)
    return target.getvalue()


def unpack(archive: bytes, folder: Path) -> None:
    """Write an archive of `pack` into a folder."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        packed.extractall(folder, filter="data")
