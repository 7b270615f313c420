"""Run by tests: build an index again and again, each attempt killed at one more step of its writing to the disk.

A step is a call that writes at a place, renames, flushes, creates or removes, or a report of progress. Every attempt is
a fork, so that the imports are paid once. Prints one JSON line at the end.

    python -m tests.retrieval.build.killed_builds '{"corpus": "c.jsonl", "folder": "work", "every": 4, "build": {...}}'

`build` are the options of `build_index`; `every` is how many steps further the next attempt gets.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from retrieval.backends import backend_named
from retrieval.index import build_index, open_index

STEPS = ("fsync", "rename", "replace", "unlink", "mkdir", "rmdir", "pwrite")
ROOT = Path(__file__).parents[3]


def run_killed_builds(corpus: Path, folder: Path, every: int, **build: Any) -> dict[str, int]:
    """What the module prints, run in a process of its own: `kills`, `gone_on` (resumed to the end), `steps`."""
    options = {"corpus": str(corpus), "folder": str(folder), "every": every, "build": build}
    run = subprocess.run(
        [sys.executable, "-m", "tests.retrieval.build.killed_builds", json.dumps(options)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},  # a fork has the threads of nobody
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    figures: dict[str, int] = json.loads(run.stdout.splitlines()[-1])
    return figures


def in_fork(job: Callable[[], None]) -> int:
    """The exit status of a fork that does a job: 0 when it came to its end."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            job()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def attempt(corpus: str, out: Path, build: dict[str, Any], die_at: int) -> bool:
    """One build in a fork that dies at step `die_at`; True if it came to its end."""

    def job() -> None:
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1
            if steps == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

        for name in STEPS:
            real = getattr(os, name)

            def wrapped(*arguments: Any, _real: Callable[..., Any] = real, **options: Any) -> Any:
                step()
                result = _real(*arguments, **options)
                step()
                return result

            setattr(os, name, wrapped)
        build_index(corpus, out, progress=lambda *_: step(), **build)

    status = in_fork(job)
    assert status in (0, -signal.SIGKILL), status
    return status == 0


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in ("manifest.json", ".build")}


def opens(out: Path) -> bool:
    """True if the index is there, which it then must be whole."""

    def job() -> None:
        try:
            open_index(out).close()
        except FileNotFoundError:
            os._exit(3)

    status = in_fork(job)
    assert status in (0, 3), status
    return status == 0


def load_encoder_once(settings: dict[str, Any]) -> None:
    """Load the encoder of a dense build before the forks, which share it."""
    from retrieval.dense import encoder
    from retrieval.dense.presets import EncoderSettings

    loaded = encoder._loaded(EncoderSettings.model_validate(settings))
    encoder._loaded = lambda settings: loaded


def main() -> None:
    options = json.loads(sys.argv[1])
    corpus, folder, every, build = (options[name] for name in ("corpus", "folder", "every", "build"))
    backend_named(build.get("backend", "bm25s"))
    if "encoder" in build.get("settings", {}):
        load_encoder_once(build["settings"]["encoder"])
    assert attempt(corpus, Path(folder, "reference"), build, 0)
    expected = contents(Path(folder, "reference"))
    rng = random.Random(0)
    kills = gone_on = 0
    die_at = 1
    while True:
        out = Path(folder, str(die_at), "out")
        out.parent.mkdir()
        if attempt(corpus, out, build, die_at):
            break
        kills += 1
        # Where the kill came after the renaming, the index is whole; before, nothing opens.
        if opens(out):
            assert contents(out) == expected, f"killed at step {die_at}: whole, but other files"
        else:
            while not attempt(corpus, out, build, rng.randint(5, 400)):
                kills += 1
                if opens(out):
                    break
            assert contents(out) == expected, f"killed at step {die_at}: other files"
            gone_on += 1
        left = {path.name for path in out.parent.iterdir()} - {out.name, ".out.lock"}
        assert not left, f"killed at step {die_at}: {left} are left"
        shutil.rmtree(out.parent, ignore_errors=True)
        die_at += every
    assert contents(out) == expected and opens(out)
    print(json.dumps({"kills": kills, "gone_on": gone_on, "steps": die_at}))


if __name__ == "__main__":
    main()
