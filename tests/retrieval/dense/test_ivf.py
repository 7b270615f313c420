"""Inverted lists: the bytes are FAISS's own, the same in every build, and the search finds what flat finds."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.build.work import BuildWork
from retrieval.dense.embeddings import EMBEDDINGS_FILE, Parts, open_embeddings
from retrieval.dense.ivf import (
    LISTS_FILE,
    Codes,
    IvfBuilder,
    IvfFlatSettings,
    IvfPqSettings,
    IvfSq8Settings,
    IvfVectors,
)
from retrieval.dense.ivf_lists import write_lists
from retrieval.dense.ivf_training import number_of_lists, training_rows
from retrieval.manifest import IndexCorruptError
from tests.retrieval.dense.merging import StopAt, Stopped, brute_force, recall, work_over

ROOT = Path(__file__).parents[3]
SETTINGS: dict[Codes, type[IvfFlatSettings]] = {"flat": IvfFlatSettings, "sq8": IvfSq8Settings, "pq": IvfPqSettings}


def built(
    folder: Path, vectors: NDArray[np.float32], codes: Codes, shard_size: int = 130, **settings: Any
) -> BuildWork:
    work = work_over(folder, vectors, shard_size=shard_size)
    parts = Parts(work)
    parts.join(folder / EMBEDDINGS_FILE)
    IvfBuilder(SETTINGS[codes](**settings), codes).write_index(work, parts)
    return work


def opened(folder: Path, codes: Codes, **options: Any) -> IvfVectors:
    return IvfVectors(folder / LISTS_FILE, None if codes == "flat" else open_embeddings(folder), **options)


@pytest.mark.parametrize("codes", ["flat", "sq8", "pq"])
@pytest.mark.parametrize("num_lists", [1, 76])
def test_the_file_is_what_faiss_would_have_written(
    tmp_path: Path, vectors: NDArray[np.float32], codes: Codes, num_lists: int
) -> None:
    work = built(tmp_path, vectors, codes, lists=num_lists)
    index = faiss.read_index(str(work.parts / "ivf-trained.faiss"))
    assert index.nlist == num_lists and index.ntotal == 0
    index.add(vectors)
    faiss.write_index(index, str(tmp_path / "by-faiss"))
    assert (tmp_path / LISTS_FILE).read_bytes() == (tmp_path / "by-faiss").read_bytes()


def test_lists_that_are_mostly_empty_are_written_as_faiss_does(tmp_path: Path) -> None:
    vectors = np.repeat(np.eye(3, 8, dtype=np.float32), 400, axis=0)
    work = built(tmp_path, vectors, "flat", lists=20)
    index = faiss.read_index(str(work.parts / "ivf-trained.faiss"))
    index.add(vectors)
    faiss.write_index(index, str(tmp_path / "by-faiss"))
    assert b"sprs" in (tmp_path / "by-faiss").read_bytes()
    assert (tmp_path / LISTS_FILE).read_bytes() == (tmp_path / "by-faiss").read_bytes()


@pytest.mark.parametrize("codes", ["flat", "sq8", "pq"])
def test_broken_off_anywhere_the_next_call_ends_with_the_same_bytes(
    tmp_path: Path, vectors: NDArray[np.float32], codes: Codes
) -> None:
    built(tmp_path / "whole", vectors, codes)
    expected = (tmp_path / "whole" / LISTS_FILE).read_bytes()
    breaks = [("training lists", 1), ("training lists", 2), ("assigning vectors", 1), ("assigning vectors", 20)]
    for stage, report in [*breaks, ("writing lists", 1)]:
        folder = tmp_path / f"{stage}-{report}"
        builder = IvfBuilder(SETTINGS[codes](), codes)
        work = work_over(folder, vectors, shard_size=130, progress=StopAt(stage, report))
        with pytest.raises(Stopped):
            builder.write_index(work, Parts(work))
        stages: list[str] = []
        again = work_over(folder, vectors, shard_size=130, progress=lambda stage, *_, seen=stages: seen.append(stage))
        IvfBuilder(SETTINGS[codes](), codes).write_index(again, Parts(again))
        assert (folder / LISTS_FILE).read_bytes() == expected, f"broken off at {stage}"
        if stage == "writing lists":
            assert set(stages) == {"writing lists"}, "what was finished must not be done again"


@pytest.mark.parametrize("codes", ["flat", "sq8", "pq"])
def test_shards_that_are_larger_than_a_group_of_rows_give_the_same_bytes(
    tmp_path: Path, vectors: NDArray[np.float32], codes: Codes, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(tmp_path / "whole", vectors, codes)
    monkeypatch.setattr("retrieval.dense.ivf_lists._ROWS_A_GROUP", 700)
    monkeypatch.setattr("retrieval.dense.embeddings._ROWS_A_PIECE", 400)
    read: list[int] = []
    stored = Parts._stored
    monkeypatch.setattr(Parts, "_stored", lambda self, first, count: read.append(count) or stored(self, first, count))
    for shard_size in (130, 1000, 3000):
        built(tmp_path / f"{shard_size}", vectors, codes, shard_size=shard_size)
        assert (tmp_path / f"{shard_size}" / LISTS_FILE).read_bytes() == (tmp_path / "whole" / LISTS_FILE).read_bytes()
        assert max(read) == min(shard_size, 700), "no more than a group of rows may be read at once"
        read.clear()


def test_another_seed_gives_another_file(tmp_path: Path, vectors: NDArray[np.float32]) -> None:
    files = []
    for seed in (0, 0, 1):
        folder = tmp_path / f"{len(files)}"
        built(folder, vectors, "sq8", seed=seed, train_vectors_per_list=20)
        files.append((folder / LISTS_FILE).read_bytes())
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize(("codes", "least"), [("flat", 0.99), ("sq8", 0.99), ("pq", 0.98)])
def test_the_lists_find_what_brute_force_finds(
    tmp_path: Path, vectors: NDArray[np.float32], queries: NDArray[np.float32], codes: Codes, least: float
) -> None:
    built(tmp_path, vectors, codes)
    depth = {"flat": 0, "sq8": 64, "pq": 256}[codes]
    expected = brute_force(vectors, queries, 10)
    found = opened(tmp_path, codes, nprobe=30, rerank_depth=depth).nearest(queries, 10)
    assert recall(found, expected) >= least
    for (rows, scores), query in zip(found, queries, strict=True):
        np.testing.assert_allclose(scores, vectors[rows] @ query, atol=1e-6)
        assert (np.diff(scores) <= 0).all()
    one = opened(tmp_path, codes, nprobe=1, rerank_depth=depth)
    assert recall(one.nearest(queries, 10), expected) < recall(found, expected)


def test_all_lists_of_whole_vectors_are_exact(
    tmp_path: Path, vectors: NDArray[np.float32], queries: NDArray[np.float32]
) -> None:
    built(tmp_path, vectors, "flat")
    found = opened(tmp_path, "flat", nprobe=10_000).nearest(queries, 10)
    assert recall(found, brute_force(vectors, queries, 10)) == 1


def test_product_codes_need_the_embeddings_to_rank(
    tmp_path: Path, vectors: NDArray[np.float32], queries: NDArray[np.float32]
) -> None:
    built(tmp_path, vectors, "pq")
    expected = brute_force(vectors, queries, 10)
    rough, exact = (
        recall(opened(tmp_path, "pq", nprobe=76, rerank_depth=depth).nearest(queries, 10), expected)
        for depth in (0, 256)
    )
    assert rough < 0.7 and exact > 0.98


def test_of_rows_with_equal_scores_the_lowest_are_found_whichever_list_holds_them(tmp_path: Path) -> None:
    """The query looks first into the list of the higher rows, which fill what FAISS is asked for."""
    quantizer = faiss.IndexFlatIP(2)
    quantizer.add(np.eye(2, dtype=np.float32))
    index = faiss.IndexIVFFlat(quantizer, 2, 2, faiss.METRIC_INNER_PRODUCT)
    index.add(np.array([[1, 2]] * 5 + [[1, 0]] * 5, dtype=np.float32))
    faiss.write_index(index, str(tmp_path / LISTS_FILE))
    query = np.array([[1, 0]], dtype=np.float32)
    assert sorted(index.search(query, 3, params=faiss.SearchParametersIVF(nprobe=2))[1][0]) == [5, 6, 7]
    [(rows, scores)] = opened(tmp_path, "flat", nprobe=2).nearest(query, 3)
    assert rows.tolist() == [0, 1, 2] and scores.tolist() == [1, 1, 1]


@pytest.mark.parametrize("codes", ["flat", "sq8", "pq"])
@pytest.mark.parametrize("k", [1, 200, 3000])
def test_it_gives_k_rows_though_the_first_lists_hold_fewer(
    tmp_path: Path, vectors: NDArray[np.float32], queries: NDArray[np.float32], codes: Codes, k: int
) -> None:
    built(tmp_path, vectors, codes)
    found = opened(tmp_path, codes, nprobe=1, rerank_depth=64).nearest(queries[:5], k)
    assert all(len(rows) == len(set(rows.tolist())) == k for rows, _ in found)
    assert opened(tmp_path, codes).nearest(queries[:0], k) == []


def test_how_many_lists_and_what_they_are_learned_from() -> None:
    assert [number_of_lists(n, None) for n in (1, 38, 400, 5183, 26_647, 21_015_324)] == [1, 4, 50, 288, 653, 18_337]
    assert number_of_lists(5183, 64) == 64 and number_of_lists(5183, 647) == 647
    with pytest.raises(ValueError, match=r"lists is 4,096, and a corpus of 5,183 passages has enough for 647 lists"):
        number_of_lists(5183, 4096)
    rows = training_rows(10_000, 50, 64, 0, seed=3)
    assert len(rows) == len(np.unique(rows)) == 3200 and (np.diff(rows) > 0).all()
    assert (rows == training_rows(10_000, 50, 64, 0, seed=3)).all()
    assert len(training_rows(100, 2, 64, 9984, seed=0)) == 100


def test_a_forecast_refuses_no_lists_for_a_number_of_passages_that_was_not_counted() -> None:
    builder = IvfBuilder(IvfFlatSettings(lists=3330), "flat")
    near = builder.index_cost(26_625, 16, counted=False)
    assert near.details["lists"].startswith("3,328, learned from ")
    assert near.details["lists"].endswith(
        "; for the 3,330 that are asked for the corpus may be too small, which the build will tell"
    )
    with pytest.raises(ValueError, match=r"lists is 3,330, and a corpus of 26,625 passages has enough for 3,328 lists"):
        builder.index_cost(26_625, 16)
    assert "asked for" not in builder.index_cost(26_647, 16, counted=False).details["lists"]


def test_the_lists_are_mapped_not_read(tmp_path: Path, vectors: NDArray[np.float32]) -> None:
    built(tmp_path, vectors, "flat")
    search = opened(tmp_path, "flat")
    assert isinstance(faiss.downcast_InvertedLists(search._index.invlists), faiss.OnDiskInvertedLists)


MERGED = """
import resource, sys
from pathlib import Path
import faiss, numpy as np
from retrieval.build.work import BuildWork, Marks
from retrieval.dense.embeddings import Parts, write_part
from retrieval.dense.ivf import LISTS_FILE, IvfBuilder, IvfFlatSettings
from retrieval.searcher import Shard

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

folder, rng = Path(sys.argv[1]), np.random.default_rng(0)
shards = [Shard(number=number, first=number * 2048, count=2048) for number in range(200)]
work = BuildWork(folder=folder, parts=folder / "parts", shards=shards, num_passages=200 * 2048, ram_bytes=None,
                 progress=lambda *_: None, marks=Marks(folder / "marks"))
work.parts.mkdir()
for shard in shards:
    write_part(work.part(shard), rng.standard_normal((2048, 96), dtype=np.float32), "float32")
before = peak()
IvfBuilder(IvfFlatSettings(lists=64, encoder={"normalize": False}), "flat").write_index(work, Parts(work))
print(peak() - before, (folder / LISTS_FILE).stat().st_size)
"""


@pytest.mark.slow
def test_memory_is_that_of_the_sample_and_a_group_of_shards_not_of_the_corpus(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", MERGED, str(tmp_path)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    grown, written = map(int, run.stdout.split())
    assert written > 160e6 and grown < 70e6


BOUNDED = """
import sys
from pathlib import Path
import numpy as np
from retrieval.build.memory import peak_bytes, resident_bytes
from retrieval.build.work import BuildWork, Marks
from retrieval.dense.embeddings import EMBEDDINGS_FILE, Parts, write_part
from retrieval.dense.ivf import IvfBuilder, IvfFlatSettings
from retrieval.searcher import Shard

folder, rng, size = Path(sys.argv[1]), np.random.default_rng(0), 120_000
shards = [Shard(number=number, first=number * size, count=size) for number in range(3)]
(folder / "parts").mkdir()
for number in range(3):  # through a file, so that making the shard does not count
    path = folder / "parts" / f"{number:08d}"
    part = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(size, 192))
    for first in range(0, size, 10_000):
        part[first : first + 10_000] = rng.standard_normal((10_000, 192), dtype=np.float32)
    del part
bound = 2 * peak_bytes() if sys.argv[2] == "none" else int(sys.argv[2])
work = BuildWork(folder=folder, parts=folder / "parts", shards=shards, num_passages=3 * size, ram_bytes=bound,
                 progress=lambda *_: None, marks=Marks(folder / "marks"))
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
held, parts = resident_bytes(), Parts(work)
parts.join(folder / EMBEDDINGS_FILE)
settings = IvfFlatSettings(lists=32, train_vectors_per_list=40, encoder={"normalize": False})
IvfBuilder(settings, "flat").write_index(work, parts)
print(peak_bytes() - held)
"""


@pytest.mark.slow
def test_memory_is_that_of_a_group_of_rows_also_where_a_shard_is_larger(tmp_path: Path) -> None:
    """A shard of 92 MB was held three times over, and 16 of them at once."""
    command = [sys.executable, "-c", BOUNDED, str(tmp_path), "none"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    rows = 1 << 15
    assert int(run.stdout) < rows * 192 * 12 + 15e6, run.stdout


def test_too_little_memory_for_a_group_of_rows_is_told(tmp_path: Path, vectors: NDArray[np.float32]) -> None:
    work = work_over(tmp_path, vectors)
    parts = Parts(work)
    index = IvfBuilder(IvfFlatSettings(), "flat")._empty(24, 4)
    index.train(vectors)
    with pytest.raises(ValueError, match=r"--ram-gb 0.001 has no room for the codes of a group of passages: at least"):
        write_lists(index, replace(work, ram_bytes=1_000_000), parts, tmp_path / LISTS_FILE)


def test_what_cannot_be_built_is_told(tmp_path: Path, vectors: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match=r"code_bytes is 7, .* 24 dimensions; give one of 1, 2, 3, 4"):
        built(tmp_path, vectors, "pq", code_bytes=7)
    with pytest.raises(ValueError, match="ivf_pq learns 256 centres for each byte, and the corpus has 200 passages"):
        built(tmp_path / "small", vectors[:200], "pq")
    work = work_over(tmp_path / "ram", vectors, ram_bytes=1_000_000)
    with pytest.raises(ValueError, match=r"--ram-gb 0.001 has no room for the training sample: at least .* is needed"):
        IvfBuilder(IvfSq8Settings(), "sq8").write_index(work, Parts(work))


def test_a_file_that_is_cut_or_of_another_corpus_is_refused(tmp_path: Path, vectors: NDArray[np.float32]) -> None:
    built(tmp_path, vectors, "sq8")
    with pytest.raises(IndexCorruptError, match=r"holds 3000 vectors of 24 numbers, the embeddings are \(9, 24\)"):
        IvfVectors(tmp_path / LISTS_FILE, vectors[:9])
    (tmp_path / "cut").write_bytes((tmp_path / LISTS_FILE).read_bytes()[:600])
    with pytest.raises(IndexCorruptError, match="cannot be read"):
        IvfVectors(tmp_path / "cut", vectors)
