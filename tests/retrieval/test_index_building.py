"""Building an index: what is replaced, what is refused, what is left when it fails, and the memory that it holds."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from retrieval.backends import backend_named
from retrieval.corpus import CorpusError
from retrieval.index import build_index, forecast_index, open_index
from tests.retrieval.five_passages import SPARSE, write_rows


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "corpus.jsonl")


def test_a_finished_index_is_replaced_only_on_demand(corpus: Path, tmp_path: Path) -> None:
    build_index(corpus, tmp_path / "index")
    with pytest.raises(FileExistsError, match="already holds an index; add --overwrite"):
        build_index(corpus, tmp_path / "index")
    opened = open_index(tmp_path / "index")
    corpus.write_text(json.dumps({"id": "new", "text": "owls"}) + "\n")
    build_index(corpus, tmp_path / "index", overwrite=True)
    assert [p.id for p in open_index(tmp_path / "index").passages()] == ["new"]
    assert opened.search(["dogs"], 1)[0][0].passage.id == "dog", "an index in use must outlive its replacement"


def test_a_folder_that_is_no_index_is_never_touched(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="exists and is not an index"):
            build_index(corpus, tmp_path / "mine", overwrite=overwrite)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"


@pytest.mark.parametrize("made", [build_index, forecast_index])
def test_a_folder_below_a_file_is_refused_by_its_name(
    corpus: Path, tmp_path: Path, made: Callable[..., object]
) -> None:
    for out in (corpus / "index", corpus / "deeper" / "index"):
        with pytest.raises(NotADirectoryError, match=rf"--out is {out}, and {corpus} is a file; choose a folder"):
            made(corpus, out)
    assert list(tmp_path.iterdir()) == [corpus]


def test_an_empty_folder_is_filled(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    assert build_index(corpus, tmp_path / "index").num_passages == 5


def test_a_failed_build_leaves_nothing(corpus: Path, tmp_path: Path) -> None:
    build_index(corpus, tmp_path / "index")
    before = sorted(tmp_path.rglob("*"))
    with corpus.open("a") as file:
        file.write("{broken\n")
    with pytest.raises(CorpusError, match=r"corpus\.jsonl, line 6"):
        build_index(corpus, tmp_path / "other")
    with pytest.raises(CorpusError):
        build_index(corpus, tmp_path / "index", overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before
    assert open_index(tmp_path / "index").num_passages == 5


@pytest.mark.parametrize("backend", SPARSE)
def test_a_corpus_without_a_term_is_refused(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"id": "1", "text": "the a"}\n{"id": "2", "text": "?"}\n')
    with pytest.raises(ValueError, match="no passage of the corpus has a single term"):
        build_index(path, tmp_path / "index", backend=backend)
    assert not (tmp_path / "index").exists()


def test_unknown_backends_and_settings_are_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown backend 'lucene'; choose one of bm25s, rank_bm25"):
        build_index(corpus, tmp_path / "index", backend="lucene")
    with pytest.raises(ValueError, match="backend bm25s has no setting kk1; its settings: k1, b, method"):
        build_index(corpus, tmp_path / "index", settings={"kk1": 1})
    for backend in SPARSE:
        with pytest.raises(ValueError, match=r"k1\n.*finite number"):
            build_index(corpus, tmp_path / "index", backend=backend, settings={"k1": float("inf")})
    with pytest.raises(ValueError, match="less than or equal to 1"):
        build_index(corpus, tmp_path / "index", settings={"b": 2})
    with pytest.raises(ValueError, match="takes BM25Settings, not OkapiSettings"):
        build_index(corpus, tmp_path / "index", settings=backend_named("rank_bm25").settings())
    assert not (tmp_path / "index").exists()


def test_progress_counts_passages_up_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps({"id": str(i), "text": f"word{i % 7} other"}) + "\n" for i in range(2500)))
    seen: dict[str, list[tuple[int, int | None]]] = {}
    build_index(path, tmp_path / "index", progress=lambda stage, *counts: seen.setdefault(stage, []).append(counts))
    assert [done for done, _ in seen["reading passages"]] == [0, 1000, 2000, 2500]
    assert seen["reading passages"][-1] == (2500, 2500)
    assert {"reading passages", "counting terms", "scoring postings", "checksums"} == set(seen)
    assert all(counts[-1][0] == counts[-1][1] for counts in seen.values())


STALLED_BUILD = """
import sys, time
from retrieval.index import build_index

def stall(stage, done, total):
    if stage == sys.argv[3]:
        print("stalled", flush=True)
        time.sleep(600)

build_index(sys.argv[1], sys.argv[2], overwrite=True, progress=stall)
"""


@pytest.mark.parametrize("stage", ["reading passages", "checksums"])
def test_a_killed_build_leaves_nothing_that_opens(corpus: Path, tmp_path: Path, stage: str) -> None:
    out = tmp_path / "index"
    command = [sys.executable, "-c", STALLED_BUILD, str(corpus), str(out), stage]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "stalled\n"
        with pytest.raises(FileExistsError, match="another process is building"):
            build_index(corpus, out)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    left = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert left == [tmp_path / ".index.building"], "the kill must have come while the index was being built"
    for folder in (*left, out):
        with pytest.raises(FileNotFoundError):
            open_index(folder)
    build_index(corpus, out)
    assert open_index(out).search(["dogs"], 1)[0][0].passage.id == "dog"
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [out]


MEASURED_BUILD = """
import sys
from dataclasses import replace
from functools import partial
from retrieval.build.memory import peak_bytes
from retrieval.index import build_index
from retrieval.sparse import bm25s_backend

builder = partial(bm25s_backend.BM25sBuilder, buffered_postings=int(sys.argv[3]))
bm25s_backend.BM25S = replace(bm25s_backend.BM25S, builder=builder)
build_index(sys.argv[1], sys.argv[2])
print(peak_bytes())
"""


@pytest.mark.slow
def test_a_build_holds_forty_bytes_a_passage_and_neither_texts_nor_postings(tmp_path: Path) -> None:
    """The bound that build_index states; a build that kept postings, term numbers or texts would pass it by far."""
    words = [f"{first}{second}{third}" for first in "bcdfghjk" for second in "lmnpqrst" for third in "vwxzaeiou"]

    mib = 1 << 20
    buffered_postings = 1_000_000

    def build(num_passages: int) -> tuple[int, int]:
        """Peak memory of the process, and bytes of postings that it wrote."""
        rng = random.Random(0)
        corpus, out = tmp_path / f"{num_passages}.jsonl", tmp_path / f"index-{num_passages}"
        with corpus.open("w") as file:
            file.writelines(
                json.dumps({"id": f"p{i}", "title": " ".join(drawn[:3]), "text": " ".join(drawn[3:])}) + "\n"
                for i, drawn in enumerate(rng.choices(words, k=15) for _ in range(num_passages))
            )
        command = [sys.executable, "-c", MEASURED_BUILD, str(corpus), str(out), str(buffered_postings)]
        root = Path(__file__).parents[2]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
        postings = (out / "data.csc.index.npy").stat().st_size + (out / "indices.csc.index.npy").stat().st_size
        return int(done.stdout), postings

    few, many = 70_000, 700_000
    (low, few_postings), (high, many_postings) = build(few), build(many)
    assert high - low < 40 * (many - few) + 4 * mib
    assert many_postings - few_postings > 55 * mib, "there must be more postings than may be held"
