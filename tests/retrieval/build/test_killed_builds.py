"""A build that is killed at any step goes on, and its files are those of a build that nobody disturbed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retrieval.index import build_index, open_index
from tests.ctrl_c import heed_ctrl_c
from tests.retrieval.build.corpora import data_files, write_corpus
from tests.retrieval.build.killed_builds import run_killed_builds

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_killed_at_every_fourth_step_of_its_writing_a_build_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 60)
    figures = run_killed_builds(corpus, tmp_path / "work", every=4, shard_size=13)
    assert figures["kills"] > 40 and figures["gone_on"] > 30, "the kills must have come while it was building"


@pytest.mark.slow
def test_killed_at_many_steps_a_build_with_workers_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """Workers of a killed build may still be writing when the next one begins; fewer kills, for each starts workers."""
    corpus = write_corpus(tmp_path / "c.jsonl", 60)
    figures = run_killed_builds(corpus, tmp_path / "work", every=29, shard_size=13, workers=2)
    assert figures["kills"] >= 5 and figures["gone_on"] >= 4, "the kills must have come while it was building"


STALLED = """
import sys, time
from retrieval.index import build_index

def progress(stage, done, total):
    if stage == sys.argv[3]:
        print("stalled", flush=True)
        time.sleep(600)

if __name__ == "__main__":
    build_index(sys.argv[1], sys.argv[2], shard_size=40, workers=int(sys.argv[4]), progress=progress)
"""


def stalled_build(folder: Path, corpus: Path, out: Path, stage: str, workers: int) -> subprocess.Popen[str]:
    script = folder / "stalled.py"
    script.write_text(STALLED)
    return subprocess.Popen(
        [sys.executable, str(script), str(corpus), str(out), stage, str(workers)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
        preexec_fn=heed_ctrl_c,
    )


def test_what_is_finished_is_not_done_again(tmp_path: Path) -> None:
    corpus, out = write_corpus(tmp_path / "c.jsonl", 200), tmp_path / "index"
    with stalled_build(tmp_path, corpus, out, "counting terms", 1) as process:
        assert process.stdout is not None and process.stdout.readline() == "stalled\n"
        os.kill(process.pid, signal.SIGKILL)
    parts = tmp_path / ".index.building" / ".build" / "parts"
    first = parts / "00000000"
    before = {path.name: path.stat().st_mtime_ns for path in parts.iterdir() if len(path.name) == 8}
    assert len(before) == 5
    time.sleep(0.01)
    seen, stages = [], {}
    first_again = []

    def progress(stage: str, done: int, total: int | None) -> None:
        stages.setdefault(stage, []).append((done, total))
        if stage == "counting terms":
            first_again.append(first.stat().st_mtime_ns)

    build_index(corpus, out, shard_size=40, progress=progress, notice=seen.append)
    assert seen[0].startswith("going on with the unfinished build in") and seen[1] == "5 of 5 shards were there already"
    assert set(first_again) == {before["00000000"]}, "a finished part was built again"
    assert stages["reading passages"] == [(200, 200)] and "indexing passages" not in stages
    build_index(corpus, tmp_path / "reference")
    assert data_files(out) == data_files(tmp_path / "reference")


def test_a_part_that_was_lost_is_built_again_from_the_passages_on_disk(tmp_path: Path) -> None:
    corpus, out = write_corpus(tmp_path / "c.jsonl", 200), tmp_path / "index"
    with stalled_build(tmp_path, corpus, out, "counting terms", 1) as process:
        assert process.stdout is not None and process.stdout.readline() == "stalled\n"
        os.kill(process.pid, signal.SIGKILL)
    (tmp_path / ".index.building" / ".build" / "parts" / "00000002").unlink()
    indexed = []
    build_index(
        corpus,
        out,
        shard_size=40,
        progress=lambda stage, done, total: indexed.append((done, total)) if stage == "indexing passages" else None,
    )
    assert indexed[0] == (160, 200) and indexed[-1] == (200, 200)
    build_index(corpus, tmp_path / "reference")
    assert data_files(out) == data_files(tmp_path / "reference")


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    corpus, out = write_corpus(tmp_path / "c.jsonl", 200), tmp_path / "index"
    with stalled_build(tmp_path, corpus, out, "scoring postings", 1) as process:
        assert process.stdout is not None and process.stdout.readline() == "stalled\n"
        os.kill(process.pid, signal.SIGINT)
    assert process.returncode != 0 and (tmp_path / ".index.building").is_dir()
    with pytest.raises(FileNotFoundError, match="no index at"):
        open_index(out)
    seen: list[str] = []
    build_index(corpus, out, shard_size=40, notice=seen.append)
    assert "5 of 5 shards were there already" in seen
    assert open_index(out).num_passages == 200


@pytest.mark.slow
def test_the_workers_of_a_killed_build_end_with_it(tmp_path: Path) -> None:
    corpus, out = write_corpus(tmp_path / "c.jsonl", 400), tmp_path / "index"
    with stalled_build(tmp_path, corpus, out, "indexing passages", 2) as process:
        assert process.stdout is not None and process.stdout.readline() == "stalled\n"
        workers = children_of(process.pid)
        assert len(workers) >= 2
        os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()], "orphans are left"
    build_index(corpus, out, shard_size=40, workers=2)
    build_index(corpus, tmp_path / "reference")
    assert data_files(out) == data_files(tmp_path / "reference")


def children_of(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text(encoding="ascii").split()
    ]
