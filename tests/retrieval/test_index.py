"""An index as a retriever: what it finds, in which order, and what it says about itself."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from retrieval.index import Index, build_index, open_index
from retrieval.manifest import read_manifest
from retrieval.passage import Passage
from retrieval.retriever import Retriever
from tests.retrieval.five_passages import ROWS, SPARSE, write_rows


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "corpus.jsonl")


@pytest.fixture(params=SPARSE)
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


@pytest.mark.parametrize("backend", SPARSE)
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
        ((query for query in ["cat"]), 1, "queries is a generator; give a list of strings"),
        ({"cat"}, 1, "queries is a set; give a list of strings"),
        ({"first": "cat"}, 1, "queries is a dict; give a list of strings"),
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
