"""A disk that takes no more: a clear error, nothing half-made that opens, and the build goes on when there is room."""

import errno
import io
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from retrieval.build.durable import write_array, write_values, write_whole
from retrieval.build.resumption import told_where_it_broke_off
from retrieval.index import build_index, open_index
from tests.retrieval.build.corpora import data_files, write_corpus

ROOT = Path(__file__).parents[3]


def build_with_files_of_at_most(limit: int, corpus: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """The command, in a process whose files may not grow beyond `limit` bytes."""
    return subprocess.run(
        [sys.executable, "-m", "scripts.build_index", str(corpus), "--out", str(out), "--shard-size", "500"],
        cwd=ROOT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "kept"),
    [(100, False), (4_000, False), (60_000, True), (180_000, True)],
    ids=["marks", "parts", "passages", "scores"],
)
def test_a_full_disk_stops_the_build_with_its_reason_and_the_next_call_goes_on(
    tmp_path: Path, limit: int, kept: bool
) -> None:
    corpus, out = write_corpus(tmp_path / "c.jsonl", 3000), tmp_path / "index"
    build_index(corpus, tmp_path / "reference")
    sizes = sorted(map(len, data_files(tmp_path / "reference").values()))
    assert sizes[-1] > limit, "the limit must be reached"
    failed = build_with_files_of_at_most(limit, corpus, out)
    assert failed.returncode == 2, failed.stderr
    assert f"no room on the disk while building {out} (File too large)" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert ("what is finished is kept in" in failed.stderr) == kept == (tmp_path / ".index.building").exists()
    for folder in (out, tmp_path / ".index.building"):
        with pytest.raises(FileNotFoundError):
            open_index(folder)
    build_index(corpus, out, shard_size=500)
    assert data_files(out) == data_files(tmp_path / "reference")


class FullFile(io.RawIOBase):
    """Takes 100 bytes."""

    def __init__(self) -> None:
        self.taken = 0

    def writable(self) -> bool:
        return True

    def write(self, content: object) -> int:
        self.taken += len(bytes(content))  # type: ignore[call-overload]
        if self.taken > 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(bytes(content))  # type: ignore[call-overload]


def test_an_array_that_does_not_fit_is_told_with_its_error_number() -> None:
    with pytest.raises(OSError) as caught:
        write_values(FullFile(), np.zeros(1000))  # type: ignore[arg-type]
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    "array",
    [
        np.arange(7, dtype=np.int32),
        np.zeros((3, 4), dtype=np.float16),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(20)[::3],
        np.zeros(0, dtype=np.uint8),
        np.zeros((0, 384), dtype=np.float32),
    ],
)
def test_an_array_is_written_as_numpy_writes_it(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "theirs.npy", np.ascontiguousarray(array))
    write_array(tmp_path / "ours.npy", array)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


def test_a_mark_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "mark", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        write_whole(tmp_path / "mark", b"new")
    assert (tmp_path / "mark").read_bytes() == b"old"


@pytest.mark.parametrize(
    "error",
    [
        OSError("1048576 requested and 4096 written"),  # numpy's tofile
        RuntimeError("Error in FileIOWriter: write error in index.faiss: No space left on device"),  # faiss
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    ],
)
def test_a_full_disk_is_told_alike_whoever_met_it(tmp_path: Path, error: Exception) -> None:
    told = r"no room on the disk while building .*; nothing is left of it"
    with pytest.raises(OSError, match=told) as caught, told_where_it_broke_off(tmp_path / "index"):
        raise error
    assert caught.value.errno in (errno.ENOSPC, errno.EDQUOT)


def test_another_error_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^no luck$"), told_where_it_broke_off(tmp_path / "index"):
        raise RuntimeError("no luck")
