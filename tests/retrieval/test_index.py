import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from retrieval.backends import backend_named
from retrieval.corpus import CorpusError
from retrieval.index import Index, build_index, open_index
from retrieval.manifest import IndexCorruptError, read_manifest
from retrieval.passage import Passage
from retrieval.retriever import Retriever

BACKENDS = ("bm25s", "rank_bm25")

ROWS = [
    {"id": "cat", "title": "Cats", "text": "Cats sleep all day long."},
    {"id": "dog", "title": "Dogs", "text": "Dogs chase cats in Zürich."},
    {"id": "car", "title": "", "text": "Cars are fast."},
    {"id": "cat-2", "title": "Cats", "text": "Cats sleep all day long."},
    {"id": "empty", "title": "", "text": ""},
]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture(params=BACKENDS)
def index(request: pytest.FixtureRequest, corpus: Path, tmp_path: Path) -> Index:
    build_index(corpus, tmp_path / "index", backend=request.param)
    return open_index(tmp_path / "index")


def test_an_index_is_a_retriever_whatever_its_backend(index: Index) -> None:
    assert isinstance(index, Retriever) and index.num_passages == 5
    [cats, fast] = index.search(["a sleeping cat", "fast"], 2)
    assert [(hit.passage.id, hit.rank) for hit in cats] == [("cat", 1), ("cat-2", 2)]
    assert cats[0].score == cats[1].score > 0
    assert [hit.passage for hit in fast] == [Passage(id="car", title="", text="Cars are fast.")]


def test_a_query_without_a_known_term_finds_nothing(index: Index) -> None:
    assert index.search(["the", "unknownword", "?!"], 3) == [[], [], []]


def test_no_queries_give_no_answers(index: Index) -> None:
    assert index.search([], 3) == []


def test_k_of_the_whole_corpus_gives_the_passages_that_match(index: Index) -> None:
    assert [hit.passage.id for hit in index.search(["cats"], 5)[0]] == ["cat", "cat-2", "dog"]


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_equal_scores_come_by_row_at_every_depth_whatever_the_passages_are_called(tmp_path: Path, backend: str) -> None:
    texts = ["river stone", "castle", "stone river", "valley", "river", "river stone river"] * 20
    sorted_ids = [f"p{row:03d}" for row in range(len(texts))]
    found = {}
    for name, ids in (("ascending", sorted_ids), ("descending", sorted_ids[::-1])):
        rows = [{"id": ids[row], "text": text} for row, text in enumerate(texts)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        build_index(tmp_path / f"{name}.jsonl", tmp_path / name, backend=backend)
        index = open_index(tmp_path / name)
        every = index.search(["river stone"], len(texts))[0]
        assert len({hit.score for hit in every}) < 5 < len(every)
        found[name] = [(-hit.score, ids.index(hit.passage.id)) for hit in every]
        assert found[name] == sorted(found[name])
        for k in range(1, len(every)):
            assert index.search(["river stone"], k)[0] == every[:k]
        if name == "ascending":
            assert every == sorted(every, key=lambda hit: (-hit.score, hit.passage.id))
    assert found["ascending"] == found["descending"]


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        (["cat"], 6, "k is 6, but the corpus has 5 passages; ask for at most 5 hits"),
        (["cat"], 0, "k is 0; ask for at least 1 hit"),
        (["cat"], 2.0, "k is 2.0; it must be a whole number"),
        (["cat"], True, "k is True; it must be a whole number"),
        (["cat", " \n"], 1, "query 1 is empty; a query needs at least one word"),
        ([""], 1, "query 0 is empty"),
        ("cat", 1, r"queries is the single string 'cat'; give a list"),
        ([None], 1, "query 0 is a NoneType"),
    ],
)
def test_a_search_that_cannot_be_carried_out_says_why(index: Index, queries, k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        index.search(queries, k)


def test_passages_come_back_by_id_and_in_order(index: Index) -> None:
    assert index.get("dog") == Passage(id="dog", title="Dogs", text="Dogs chase cats in Zürich.")
    assert "dog" in index and "\ud800" not in index and 7 not in index
    with pytest.raises(KeyError, match="wolf"):
        index.get("wolf")
    assert [passage.id for passage in index.passages()] == [row["id"] for row in ROWS]


def test_threads_get_the_answers_that_one_thread_gets(index: Index) -> None:
    queries = [["cats sleeping"], ["dogs"], ["fast cars", "cats in Zürich"]] * 50
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda q: index.search(q, 3), queries)) == [index.search(q, 3) for q in queries]


def test_the_hashes_follow_content_and_nothing_else(corpus: Path, tmp_path: Path) -> None:
    first = build_index(corpus, tmp_path / "one")
    time.sleep(0.01)
    beir = tmp_path / "other.jsonl"
    beir.write_text("".join(json.dumps({"_id": r["id"], "title": r["title"], "text": r["text"]}) + "\n" for r in ROWS))
    second = build_index(beir, tmp_path / "two")
    assert first.corpus_hash == second.corpus_hash and first.index_hash == second.index_hash
    assert build_index(corpus, tmp_path / "three", settings={"k1": 0.9}).index_hash != first.index_hash
    beir.write_text(beir.read_text().replace("fast", "slow"))
    assert build_index(beir, tmp_path / "four").corpus_hash != first.corpus_hash


def test_the_manifest_names_what_the_index_is_made_of(corpus: Path, tmp_path: Path) -> None:
    manifest = build_index(corpus, tmp_path / "index")
    assert (manifest.backend, manifest.num_passages, manifest.corpus) == ("bm25s", 5, "corpus.jsonl")
    assert manifest.settings["k1"] == 1.5 and manifest.settings["analyzer"]["stemmer"] == "english"
    assert {"bm25s", "numba", "python"} <= set(manifest.versions)
    folder = {path.name for path in (tmp_path / "index").iterdir()}
    assert folder == {"manifest.json", *manifest.files}
    assert open_index(tmp_path / "index").manifest == manifest == read_manifest(tmp_path / "index")


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_file_is_checked_when_an_index_opens(corpus: Path, tmp_path: Path, backend: str) -> None:
    folder = tmp_path / "index"
    for name in build_index(corpus, folder, backend=backend).files:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
        with pytest.raises(IndexCorruptError, match=rf"the checksum of .*{name} does not match.*build the index again"):
            open_index(folder)
        (folder / name).unlink()
        with pytest.raises(IndexCorruptError, match=rf"{name} is missing"):
            open_index(folder)
        (folder / name).write_bytes(content)
    assert open_index(folder).num_passages == 5


def test_an_altered_manifest_does_not_open(corpus: Path, tmp_path: Path) -> None:
    build_index(corpus, tmp_path / "index")
    path = tmp_path / "index" / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace('"k1": 1.5', '"k1": 1.2'))
    with pytest.raises(IndexCorruptError, match="its index_hash does not match"):
        open_index(tmp_path / "index")
    path.write_text(text.replace('"format_version": 2', '"format_version": 9'))
    with pytest.raises(IndexCorruptError, match="format version 9, this code reads 2"):
        open_index(tmp_path / "index")
    path.write_text("{}")
    with pytest.raises(IndexCorruptError, match="not an index manifest"):
        open_index(tmp_path / "index")


@pytest.mark.parametrize("version", [1, 3])
@pytest.mark.parametrize("verify", [True, False])
def test_an_index_of_another_version_is_told_as_one_whatever_its_manifest_holds(
    corpus: Path, tmp_path: Path, version: int, verify: bool
) -> None:
    build_index(corpus, tmp_path / "index")
    path = tmp_path / "index" / "manifest.json"
    fields = json.loads(path.read_text())
    del fields["files"]
    path.write_text(json.dumps(fields | {"format_version": version, "segments": []}))
    told = rf"built by another version: it has format version {version}, this code reads 2; build the index again"
    with pytest.raises(IndexCorruptError, match=told):
        open_index(tmp_path / "index", verify=verify)
    build_index(corpus, tmp_path / "index", overwrite=True)
    assert open_index(tmp_path / "index").num_passages == 5


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd"])
def test_a_manifest_cannot_name_a_file_outside_its_folder(corpus: Path, tmp_path: Path, name: str) -> None:
    manifest = build_index(corpus, tmp_path / "index")
    manifest.model_copy(update={"files": manifest.files | {name: "0"}}).sealed().write(tmp_path / "index")
    with pytest.raises(IndexCorruptError, match="names a file outside the index"):
        open_index(tmp_path / "index")


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_told_at_opening_though_no_checksum_is_compared(
    corpus: Path, tmp_path: Path, verify: bool, left: float
) -> None:
    folder = tmp_path / "index"
    for name in build_index(corpus, folder).files:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * left)])
        with pytest.raises(IndexCorruptError, match="build the index again"):
            open_index(folder, verify=verify)
        (folder / name).write_bytes(content)
    open_index(folder, verify=verify).close()


def test_what_is_no_index_says_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no index at .*waymark build-index CORPUS --out"):
        open_index(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="holds no finished index"):
        open_index(tmp_path)


def test_a_folder_that_is_being_built_does_not_open_though_all_its_files_are_there(
    corpus: Path, tmp_path: Path
) -> None:
    build_index(corpus, tmp_path / "index")
    (tmp_path / "index").rename(tmp_path / ".index.building")
    with pytest.raises(FileNotFoundError, match="a build was killed there or is under way"):
        open_index(tmp_path / ".index.building")


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


@pytest.mark.parametrize("backend", BACKENDS)
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
    for backend in BACKENDS:
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
    assert seen["reading passages"][-1] == (2500, 2500) and len(seen["reading passages"]) == 3
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
