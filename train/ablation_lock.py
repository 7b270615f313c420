"""Who makes the runs of a comparison: one process a folder, told by a lock that ends with the process that holds it.

The lock is the kernel's (`flock`) and not the file's being there, so that a process that was killed leaves nothing to
clean up: the next one takes its place.
"""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from train.config_file import ConfigError

LOCK_FILE = ".lock"


@contextmanager
def only_maker(folder: Path) -> Iterator[None]:
    """Be the one process that makes runs in a comparison's folder, which is made where it is missing.

    Raises:
        ConfigError: another process does; the message says which.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise ConfigError(
                f"--out: another `waymark ablate` ({lock.read().strip() or 'starting'}) is making runs in {folder}: "
                "wait for it or end it, give another --out, or report what has ended with --report-only"
            ) from error
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()}")
        lock.flush()
        yield
