"""Run by a test: build an index again and again, each attempt killed at one more step of its writing to the disk.

A step is a call that renames, flushes, creates or removes, or a report of progress. Every attempt is a fork, so that
the imports are paid once. Prints one JSON line at the end.

    python -m tests.retrieval.build.killed_builds CORPUS OUT REFERENCE SHARD_SIZE EVERY
"""

import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path

from retrieval.index import build_index, open_index

STEPS = ("fsync", "rename", "replace", "unlink", "mkdir", "rmdir")


def attempt(corpus: str, out: Path, shard_size: int, die_at: int) -> bool:
    """One build in a fork that dies at step `die_at`; True if it came to its end."""
    child = os.fork()
    if child == 0:
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1
            if steps == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

        for name in STEPS:
            real = getattr(os, name)

            def wrapped(*arguments, _real=real, **options):
                step()
                result = _real(*arguments, **options)
                step()
                return result

            setattr(os, name, wrapped)
        build_index(corpus, out, shard_size=shard_size, progress=lambda *_: step())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in ("manifest.json", ".build")}


def opens(out: Path) -> bool:
    try:
        open_index(out).close()
    except FileNotFoundError:
        return False
    return True


def main() -> None:
    corpus, out, reference, shard_size, every = (
        sys.argv[1],
        Path(sys.argv[2]),
        Path(sys.argv[3]),
        *map(int, sys.argv[4:]),
    )
    expected = contents(reference)
    rng = random.Random(0)
    kills = finished_by_second = 0
    die_at = 1
    while True:
        shutil.rmtree(out.parent, ignore_errors=True)
        out.parent.mkdir()
        if attempt(corpus, out, shard_size, die_at):
            break
        kills += 1
        # Where the kill came after the renaming, the index is whole; before, nothing opens.
        if opens(out):
            assert contents(out) == expected, f"killed at step {die_at}: whole, but other files"
        else:
            while not attempt(corpus, out, shard_size, rng.randint(5, 400)):
                kills += 1
                if opens(out):
                    break
            assert contents(out) == expected, f"killed at step {die_at}: other files"
            finished_by_second += 1
        left = {path.name for path in out.parent.iterdir()} - {out.name}
        assert not left, f"killed at step {die_at}: {left} are left"
        die_at += every
    assert contents(out) == expected
    print(json.dumps({"kills": kills, "gone_on": finished_by_second, "steps": die_at}))


if __name__ == "__main__":
    main()
