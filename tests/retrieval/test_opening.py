"""One config line decides what a run searches: every form opens, and what cannot be opened says which part is wrong."""

import json
from pathlib import Path

import pytest

from retrieval.hybrid import HybridRetriever
from retrieval.index import Index, build_index
from retrieval.opening import open_retriever
from retrieval.rerank import RerankingRetriever
from retrieval.retriever import Retriever
from tests.retrieval.server.running import Start


def write_corpus(path: Path, word: str) -> Path:
    rows = [{"id": str(i), "title": f"T{i}", "text": f"{word} {'cats ' * i}"} for i in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bm25` and `okapi` over one corpus, `other` over another."""
    folder = tmp_path_factory.mktemp("indexes")
    corpus, other = write_corpus(folder / "a.jsonl", "dogs"), write_corpus(folder / "b.jsonl", "birds")
    build_index(corpus, folder / "bm25")
    build_index(corpus, folder / "okapi", backend="rank_bm25")
    build_index(other, folder / "other")
    return folder


def test_a_path_opens_an_index(indexes: Path) -> None:
    for spec in (indexes / "bm25", str(indexes / "bm25"), {"index": str(indexes / "bm25"), "verify": False}):
        with open_retriever(spec) as retriever:
            assert isinstance(retriever, Index) and retriever.search(["cats"], 1)[0][0].passage.id == "3"


def test_a_mapping_opens_a_hybrid_and_the_whole_says_what_it_is(indexes: Path) -> None:
    parts = [str(indexes / "bm25"), {"index": str(indexes / "okapi")}]
    with open_retriever({"hybrid": parts, "method": "weighted", "weights": [2, 1], "depth": 3}) as hybrid:
        assert isinstance(hybrid, HybridRetriever) and isinstance(hybrid, Retriever)
        assert [hit.passage.id for hit in hybrid.search(["cats"], 2)[0]] == ["3", "2"]
        assert hybrid.identity["settings"] == {"method": "weighted", "weights": [2.0, 1.0], "depth": 3}
        assert [part["backend"] for part in hybrid.identity["parts"]] == ["bm25s", "rank_bm25"]
        assert json.loads(json.dumps(hybrid.identity)) == hybrid.identity
        assert [passage.title for passage in hybrid.corpus] == ["T0", "T1", "T2", "T3"]
    with pytest.raises(ValueError, match="closed"):
        next(hybrid.parts[0].passages())  # type: ignore[attr-defined]


def test_a_server_opens_where_an_index_does_and_can_be_a_part(indexes: Path, start: Start) -> None:
    with open_retriever(indexes / "bm25") as here:
        url = start(here).url
        with open_retriever({"url": url, "timeout_s": 20, "retries": 1, "cache_queries": 9}) as remote:
            assert remote.identity["corpus_hash"] == here.identity["corpus_hash"]
            assert remote.search(["cats", "dogs"], 3) == here.search(["cats", "dogs"], 3)
        with open_retriever({"hybrid": [url, str(indexes / "okapi")]}) as hybrid:
            assert [hit.passage.id for hit in hybrid.search(["cats"], 2)[0]] == ["3", "2"]
            assert len(hybrid.corpus) == 4, "the part that is here has the passages"
        with pytest.raises(ValueError, match="another corpus"):
            open_retriever({"hybrid": [url, str(indexes / "other")]})


def test_a_file_holds_a_spec_and_specs_nest(indexes: Path, tmp_path: Path) -> None:
    inner = {"hybrid": [str(indexes / "bm25"), str(indexes / "okapi")], "rrf_k": 10}
    (tmp_path / "inner.json").write_text(json.dumps(inner))
    (tmp_path / "outer.yaml").write_text(f"hybrid:\n  - {tmp_path / 'inner.json'}\n  - {indexes / 'bm25'}\n")
    with open_retriever(tmp_path / "outer.yaml") as outer:
        assert outer.identity["parts"][0]["settings"]["rrf_k"] == 10
        assert [hit.passage.id for hit in outer.search(["cats"], 2)[0]] == ["3", "2"]


def test_a_reranker_loads_its_model_behind_the_first_stage(indexes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict] = []

    class Scorer:
        identity = "scripted"

        def __init__(self, **settings: object) -> None:
            made.append(settings)

        def __call__(self, pairs: list[tuple[str, str]]) -> list[float]:
            return [-float(text.count("cats")) for _, text in pairs]

    monkeypatch.setattr("retrieval.opening.CrossEncoderScorer", Scorer)
    spec = {"rerank": str(indexes / "bm25"), "model": "my/model", "depth": 3, "max_length": 64}
    with open_retriever(spec) as reranked:
        assert isinstance(reranked, RerankingRetriever)
        assert [hit.passage.id for hit in reranked.search(["cats"], 3)[0]] == ["1", "2", "3"]
    assert made[0]["model"] == "my/model" and made[0]["max_length"] == 64 and made[0]["batch_size"] == 32


def test_what_cannot_be_opened_leaves_nothing_open(indexes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    monkeypatch.setattr(Index, "close", lambda self: closed.append(self.manifest.backend))
    with pytest.raises(FileNotFoundError, match=r"no index at .*nowhere"):
        open_retriever({"hybrid": [str(indexes / "bm25"), str(indexes / "nowhere")]})
    assert closed == ["bm25s"]
    with pytest.raises(ValueError, match="part 2 of the hybrid searches another corpus than part 1"):
        open_retriever({"hybrid": [str(indexes / "okapi"), str(indexes / "other")]})
    assert sorted(closed) == ["bm25s", "bm25s", "rank_bm25"]
