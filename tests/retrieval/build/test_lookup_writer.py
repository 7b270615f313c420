"""The lookups from ids and titles to rows: sorted within a bound on memory, whole, and the same bytes each time."""

import errno
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from retrieval.build import lookup_writer
from retrieval.build.lookup_writer import LookupWriter, lookup_ram_bytes, lookup_spill_bytes
from retrieval.index import build_index
from retrieval.manifest import IndexCorruptError
from retrieval.row_lookup import RowLookup, lookup_files
from tests.retrieval.build.corpora import data_files, write_corpus

ROOT = Path(__file__).parents[3]


def written(folder: Path, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pairs as the lookup has them."""
    writer = LookupWriter(folder, "x")
    for key, row in pairs:
        writer.add(key, row)
    assert len(writer) == len(pairs)
    writer.finish(len(pairs) + 1)
    writer.close()
    assert {path.name for path in folder.iterdir()} == {path.name for path in lookup_files(folder, "x")}
    keys, rows = (np.load(path) for path in lookup_files(folder, "x"))
    return list(zip(keys.tolist(), rows.tolist(), strict=True))


@pytest.mark.parametrize("kinds", [1, 2, 5, 1000], ids="{} keys".format)
@pytest.mark.parametrize("run_pairs", [1, 2, 7, 50, 1000])
def test_pairs_come_out_by_key_and_row_however_many_runs_they_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_pairs: int, kinds: int
) -> None:
    monkeypatch.setattr(lookup_writer, "RUN_PAIRS", run_pairs)
    rng = random.Random(kinds)
    for count in (0, 1, 2, 49, 50, 51, 99, 100, 333):
        keys = [rng.randrange(kinds) * (2**64 // kinds) for _ in range(count)]
        pairs = [(key, row) for row, key in enumerate(keys) if rng.random() < 0.9]
        (tmp_path / str(count)).mkdir()
        assert written(tmp_path / str(count), pairs) == sorted(pairs)


def test_the_rows_of_a_range_of_keys(tmp_path: Path) -> None:
    last = 2**64 - 1
    written(tmp_path, [(5, 0), (last, 1), (0, 2), (5, 3), (6, 4)])
    lookup = RowLookup(tmp_path, "x")
    assert len(lookup) == 5
    for first, end, rows in [
        (5, 5, [0, 3]),
        (0, last, [2, 0, 3, 4, 1]),
        (last, last, [1]),
        (1, 4, []),
        (5, 6, [0, 3, 4]),
    ]:
        assert lookup.rows(first, end).tolist() == rows


def test_arrays_that_do_not_belong_together_are_told(tmp_path: Path) -> None:
    written(tmp_path, [(5, 0), (6, 1)])
    for keys, rows in (
        (np.zeros(2, np.uint64), np.zeros(3, np.int32)),
        (np.zeros(2, np.int64), np.zeros(2, np.int32)),
        (np.zeros((2, 1), np.uint64), np.zeros((2, 1), np.int32)),
        (np.zeros(2, np.uint64), np.zeros(2, np.float32)),
    ):
        for path, array in zip(lookup_files(tmp_path, "x"), (keys, rows), strict=True):
            np.save(path, array)
        with pytest.raises(IndexCorruptError, match=r"the x lookup in .* is not whole.*build the index again"):
            RowLookup(tmp_path, "x")


def test_an_index_is_the_same_whether_or_not_its_lookups_went_through_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 300)
    build_index(corpus, tmp_path / "reference")
    monkeypatch.setattr(lookup_writer, "RUN_PAIRS", 64)
    build_index(corpus, tmp_path / "index")
    assert data_files(tmp_path / "index") == data_files(tmp_path / "reference")
    assert not list((tmp_path / "index").glob(".*")), "the runs must be gone"


def test_runs_of_a_killed_build_do_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup_writer, "RUN_PAIRS", 2)
    killed = LookupWriter(tmp_path, "x")
    for row in range(5):
        killed.add(row, row)
    assert (tmp_path / ".x.runs").exists()
    assert written(tmp_path, [(1, 0)]) == [(1, 0)]


def test_a_full_disk_is_told_and_the_runs_are_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup_writer, "RUN_PAIRS", 2)

    def full(file: object, values: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writer = LookupWriter(tmp_path, "x")
    writer.add(1, 0)
    monkeypatch.setattr(lookup_writer, "write_values", full)
    with pytest.raises(OSError) as caught:
        writer.add(2, 1)
    assert caught.value.errno == errno.ENOSPC
    writer.close()
    assert not list(tmp_path.iterdir())


SORTED = """
import sys
from pathlib import Path
from retrieval.build.lookup_writer import LookupWriter, lookup_ram_bytes
from retrieval.build.memory import peak_bytes

def write(count):
    writer = LookupWriter(Path(sys.argv[1]), "x")
    for row in range(count):
        writer.add((row % 7 if same else row) * 0x9E3779B97F4A7C15 % 2**64, row)
    writer.finish(count)

same = len(sys.argv) > 2
write(3)
before = peak_bytes()
write(1_500_000)
print((peak_bytes() - before) / lookup_ram_bytes(1_500_000))
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["same"]], ids=["other keys", "seven keys"])
def test_the_memory_is_what_is_stated_however_many_pairs_there_are(tmp_path: Path, options: list[str]) -> None:
    command = [sys.executable, "-c", SORTED, str(tmp_path), *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert 0.2 < float(done.stdout) <= 1.0


def test_what_is_put_aside_is_what_is_stated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup_writer, "RUN_PAIRS", 4)
    writer = LookupWriter(tmp_path, "x")
    for row in range(11):
        writer.add(row, row)
    assert writer._spill is not None
    writer._spill.flush()
    assert (tmp_path / ".x.runs").stat().st_size == lookup_spill_bytes(11) == 128
    assert lookup_ram_bytes(3) < lookup_ram_bytes(4) == lookup_ram_bytes(10**9)
    writer.close()
