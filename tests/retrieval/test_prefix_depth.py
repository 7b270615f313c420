"""Where the first `k` hits of a deeper search are the search with `k`, and that those who cannot promise it say so."""

import json
from pathlib import Path
from typing import Any

import pytest

from retrieval.client import HttpRetriever
from retrieval.hybrid import HybridRetriever
from retrieval.index import build_index, open_index
from retrieval.passage import Hit
from retrieval.rerank import RerankingRetriever
from retrieval.retriever import Retriever
from tests.retrieval.dense.tiny_encoder import write_tiny_bert
from tests.retrieval.scripted_retriever import ScriptedRetriever

QUERIES = ["owl sees cat", "dog 3", "number 17", "nothing"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 passages, many of which say the same."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    rows = [{"id": f"p{i}", "title": "", "text": f"owl {i % 5} sees cat {i % 7} dog {i % 11}"} for i in range(300)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def names(hits: list[Hit]) -> list[tuple[str, float]]:
    return [(hit.passage.id, hit.score) for hit in hits]


def check_prefixes(retriever: Retriever, deepest: int) -> None:
    deep = retriever.search(QUERIES, deepest)
    for k in (1, 2, 3, 7, 20, deepest - 1):
        if 1 <= k <= deepest:
            assert list(map(names, retriever.search(QUERIES, k))) == [names(hits[:k]) for hits in deep], k


@pytest.mark.parametrize("backend", ["bm25s", "rank_bm25"])
def test_of_exact_sparse_backends(corpus: Path, tmp_path: Path, backend: str) -> None:
    build_index(corpus, tmp_path / "index", backend=backend)
    with open_index(tmp_path / "index") as index:
        assert index.prefix_depth == 300
        check_prefixes(index, 300)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "exact"),
    [
        ("flat", True),
        ("torch_exact", True),
        ("hnsw", False),
        ("ivf_flat", False),
        ("ivf_sq8", False),
        ("ivf_pq", False),
    ],
)
def test_of_dense_backends(corpus: Path, tmp_path: Path, backend: str, exact: bool) -> None:
    settings: dict[str, Any] = {"encoder": {"model": write_tiny_bert(tmp_path / "encoder")}}
    build_index(corpus, tmp_path / "index", backend=backend, settings=settings)
    with open_index(tmp_path / "index") as index:
        assert index.prefix_depth == (300 if exact else 0)
        if exact:
            check_prefixes(index, 300)


def test_of_combinations() -> None:
    first = ScriptedRetriever({query: [(name, 9.0 - i) for i, name in enumerate("abcdefgh")] for query in QUERIES})
    second = ScriptedRetriever({query: [(name, 9.0 - i) for i, name in enumerate("hgfedcba")] for query in QUERIES})
    hybrid = HybridRetriever([first, second], method="weighted", depth=4)
    assert hybrid.prefix_depth == 4
    check_prefixes(hybrid, 4)
    assert names(hybrid.search(["dog 3"], 8)[0][:4]) != names(hybrid.search(["dog 3"], 4)[0]), (
        "deeper it is another list"
    )
    reranked = RerankingRetriever(first, lambda pairs: [float(ord(text[-1])) for _, text in pairs], depth=5)
    assert reranked.prefix_depth == 5
    check_prefixes(reranked, 5)
    assert names(reranked.search(["dog 3"], 8)[0][:5]) != names(reranked.search(["dog 3"], 5)[0])


def test_of_a_server_nothing_is_known() -> None:
    with HttpRetriever("http://127.0.0.1:9") as remote:
        assert remote.prefix_depth == 0
