"""Shards built by other processes: the same bytes, errors with their reason, and nobody left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval.backends import BACKENDS
from retrieval.build.parts import PartFolder, ShardTexts
from retrieval.build.processes import WorkerDiedError, build_in_processes
from retrieval.build.work import Marks
from retrieval.index import build_index
from retrieval.searcher import Shard
from tests.retrieval.build.corpora import data_files, write_corpus


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["bm25s", "rank_bm25"])
def test_two_workers_write_the_files_that_one_process_writes(tmp_path: Path, backend: str) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 300)
    build_index(corpus, tmp_path / "one", backend=backend)
    counts: list[int] = []
    build_index(
        corpus,
        tmp_path / "two",
        backend=backend,
        workers=2,
        shard_size=40,
        progress=lambda stage, done, total: counts.append(done) if stage == "indexing passages" else None,
    )
    assert data_files(tmp_path / "two") == data_files(tmp_path / "one")
    assert counts[-1] == 300 and len(counts) == 9, "eight shards, and the end"
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_killed_worker_is_told_and_the_next_call_goes_on(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 300)

    def kill_one(stage: str, done: int, total: int | None) -> None:
        if stage == "indexing passages" and done >= 80:
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

    with pytest.raises(WorkerDiedError, match=r"was killed by SIGKILL.*use fewer --workers.*the same call goes on"):
        build_index(corpus, tmp_path / "index", workers=2, shard_size=40, progress=kill_one)
    assert multiprocessing.active_children() == []
    notices: list[str] = []
    build_index(corpus, tmp_path / "index", workers=2, shard_size=40, notice=notices.append)
    assert any("of 8 shards were there already" in notice for notice in notices)
    build_index(corpus, tmp_path / "reference")
    assert data_files(tmp_path / "index") == data_files(tmp_path / "reference")


@pytest.mark.slow
def test_what_a_builder_raises_in_a_worker_reaches_the_caller(tmp_path: Path) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()

    def shards() -> Iterator[ShardTexts]:
        (staging / ".build" / "parts").rmdir()  # so that no worker can write its part
        yield ShardTexts(shard=Shard(number=0, first=0, count=1), digest="d", texts=["some words"])

    with PartFolder(staging, Marks(staging / ".build" / "marks")) as parts, pytest.raises(FileNotFoundError) as caught:
        list(build_in_processes(shards(), parts, backend="bm25s", settings={}, workers=1))
    assert caught.value.errno is not None and "parts" in str(caught.value.filename)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "--workers is 0; give at least 1"),
        ({"workers": 2, "ray_address": "auto"}, "--workers 2 are processes of this host.*give one of the two"),
        ({"ram_gb": 0}, "--ram-gb is 0; give the gigabytes"),
        ({"ram_gb": float("nan")}, "--ram-gb is nan"),
        ({"ram_gb": 0.01}, r"--ram-gb 0\.01 is less than the \d\.\d+ that this process holds"),
        ({"shard_size": 0}, "--shard-size is 0; a shard has at least 1 passage"),
    ],
)
def test_a_crew_or_a_limit_that_cannot_be_is_refused_before_anything_is_written(
    tmp_path: Path, options: dict, message: str
) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 5)
    with pytest.raises(ValueError, match=message):
        build_index(corpus, tmp_path / "index", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["c.jsonl"]


def test_a_bound_that_a_shard_breaks_stops_the_build_and_more_memory_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKENDS, "fake", "tests.retrieval.build.fake_backend:FAKE")
    monkeypatch.setattr("retrieval.build.forecast.resident_bytes", lambda: 900_000_000)
    monkeypatch.setattr("retrieval.build.pipeline.resident_bytes", lambda: 1_100_000_000)
    corpus, notices = write_corpus(tmp_path / "c.jsonl", 45), []
    options = {"backend": "fake", "shard_size": 10, "notice": notices.append}
    with pytest.raises(ValueError, match=r"--ram-gb 1 is too little: 1\.10 is held at shard 0 of 10 passages"):
        build_index(corpus, tmp_path / "index", ram_gb=1, **options)
    assert notices == []
    build_index(corpus, tmp_path / "index", ram_gb=1.2, **options)
    assert "1 of 5 shards were there already" in notices


def test_a_bound_that_may_be_too_little_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "fake", "tests.retrieval.build.fake_backend:FAKE")
    monkeypatch.setattr("retrieval.build.forecast.resident_bytes", lambda: 1_000_000_000)
    corpus, notices = write_corpus(tmp_path / "c.jsonl", 900), []
    build_index(corpus, tmp_path / "index", backend="fake", ram_gb=1.000_02, notice=notices.append)
    assert len(notices) == 1 and "may not be enough: about 1.00 is held with shards of 1,000 passages" in notices[0]


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_told_what_it_lacks(tmp_path: Path) -> None:
    corpus, script = write_corpus(tmp_path / "c.jsonl", 100), tmp_path / "script.py"
    script.write_text(
        "from retrieval.index import build_index\n"
        f"build_index({str(corpus)!r}, {str(tmp_path / 'index')!r}, workers=2, shard_size=50)\n"
    )
    run = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1 and 'needs `if __name__ == "__main__":` around the call' in run.stderr
