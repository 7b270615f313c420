"""Fusion that orders ties by chance makes runs differ; fusion over two corpora mixes passages that share an id."""

import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.hybrid import HybridRetriever, fuse, reciprocal_ranks, unit_scores
from retrieval.passage import Hit
from retrieval.retriever import Retriever
from tests.retrieval.scripted_retriever import ScriptedRetriever

SPARSE = {"q": [("a", 12.0), ("b", 9.0), ("c", 3.0)], "r": [("d", 1.0)]}
DENSE = {"q": [("b", 0.9), ("d", 0.8), ("a", 0.5)], "r": [("e", 0.4), ("f", 0.4)]}


def parts() -> list[ScriptedRetriever]:
    return [ScriptedRetriever(SPARSE), ScriptedRetriever(DENSE)]


def shown(hits: list[Hit]) -> list[tuple[str, float, int]]:
    return [(hit.passage.id, round(hit.score, 6), hit.rank) for hit in hits]


def test_rrf_adds_reciprocal_ranks() -> None:
    [first, second] = HybridRetriever(parts()).search(["q", "r"], 3)
    assert shown(first) == [
        ("b", round(1 / 62 + 1 / 61, 6), 1),
        ("a", round(1 / 61 + 1 / 63, 6), 2),
        ("d", round(1 / 62, 6), 3),
    ]
    # d and e are both first in one part: the part that is named first decides.
    assert [name for name, _, _ in shown(second)] == ["d", "e", "f"]


def test_weights_and_rrf_k_count() -> None:
    [hits] = HybridRetriever(parts(), weights=[3, 1], rrf_k=0).search(["q"], 2)
    assert shown(hits) == [("a", round(3 + 1 / 3, 6), 1), ("b", 2.5, 2)]


def test_weighted_brings_scores_of_different_kinds_to_one_range() -> None:
    hybrid = HybridRetriever(parts(), method="weighted", weights=[1, 2])
    [hits] = hybrid.search(["q"], 8)
    # sparse: a 1, b 2/3, c 0; dense: b 1, d .75, a 0, twice.
    assert shown(hits) == [("b", round(2 / 3 + 2, 6), 1), ("d", 1.5, 2), ("a", 1.0, 3), ("c", 0.0, 4)]
    assert [name for name, _, _ in shown(hybrid.search(["r"], 3)[0])] == ["e", "f", "d"], "equal scores all count as 1"


def test_each_part_is_searched_once_a_batch_and_deep_enough() -> None:
    both = parts()
    HybridRetriever(both, depth=2).search(["q", "r"], 3)
    HybridRetriever(both, depth=100).search(["q"], 3)
    assert both[0].asked == both[1].asked == [(["q", "r"], 3), (["q"], 8)], "at least k, at most the corpus"


def test_what_no_part_finds_is_not_found() -> None:
    assert HybridRetriever(parts()).search(["nothing"], 3) == [[]]
    assert HybridRetriever(parts()).search([], 3) == []


def test_parts_over_different_corpora_are_refused() -> None:
    with pytest.raises(ValueError, match=r"part 2 .* another corpus than part 1 \(111111111111.* with 8 passages"):
        HybridRetriever([ScriptedRetriever(SPARSE), ScriptedRetriever(DENSE, corpus_hash="1" * 64)])
    with pytest.raises(ValueError, match="part 1 of the hybrid does not say which corpus it searches"):
        HybridRetriever([ScriptedRetriever(SPARSE, corpus_hash=None), ScriptedRetriever(DENSE, corpus_hash=None)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "sum"}, "method is 'sum'; choose rrf or weighted"),
        ({"weights": [1]}, "there are 1 weights for 2 parts"),
        ({"weights": [1, 0]}, "must be a number above 0"),
        ({"weights": [1, math.nan]}, "must be a number above 0"),
        ({"rrf_k": -1}, "rrf_k is -1; it must be a number of at least 0"),
        ({"depth": 0}, "depth is 0; each part must give at least 1 hit"),
    ],
)
def test_settings_out_of_range_say_what_is_allowed(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HybridRetriever(parts(), **settings)
    with pytest.raises(ValueError, match="needs two or more"):
        HybridRetriever(parts()[:1])


def test_a_search_that_no_index_would_carry_out_is_refused_alike() -> None:
    hybrid = HybridRetriever(parts())
    for queries, k, message in ((["q"], 9, "the corpus has 8"), (["q"], 0, "k is 0"), ([" "], 1, "query 0 is empty")):
        with pytest.raises(ValueError, match=message):
            hybrid.search(queries, k)


def test_it_is_a_retriever_and_closes_its_parts() -> None:
    both = parts()
    with HybridRetriever(both) as hybrid:
        assert isinstance(hybrid, Retriever) and hybrid.num_passages == 8
        assert hybrid.get("c").title == "C" and "c" in hybrid and "z" not in hybrid
        with pytest.raises(KeyError):
            hybrid.get("z")
    assert both[0].closed and both[1].closed


def test_identity_names_everything_that_decides_the_answers() -> None:
    def identity(**settings: object) -> dict:
        return HybridRetriever(parts(), **settings).identity  # type: ignore[arg-type]

    plain = identity()
    assert json.loads(json.dumps(plain)) == plain == identity()
    assert plain["backend"] == "hybrid" and len(plain["parts"]) == 2 and plain["corpus_hash"] == "0" * 64
    others = [identity(method="weighted"), identity(weights=[1, 2]), identity(rrf_k=10), identity(depth=5)]
    swapped = HybridRetriever(parts()[::-1]).identity
    assert len({made["index_hash"] for made in (plain, swapped, *others)}) == 6


RANKINGS = st.lists(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.integers(0, 3).map(float)), max_size=6, unique_by=lambda hit: hit[0]
    ),
    min_size=2,
    max_size=4,
).map(lambda lists: [sorted(ranking, key=lambda hit: -hit[1]) for ranking in lists])


@given(RANKINGS, st.sampled_from(["rrf", "weighted"]))
def test_fused_order_is_total_and_no_part_order_changes_a_score(rankings: list, method: str) -> None:
    def points(ranking: list) -> list[float]:
        return reciprocal_ranks(ranking, 60) if method == "rrf" else unit_scores(ranking)

    fused = fuse(rankings, [1.0] * len(rankings), points)
    assert fused == fuse(rankings, [1.0] * len(rankings), points)
    assert {name for name, _ in fused} == {name for ranking in rankings for name, _ in ranking}
    assert [score for _, score in fused] == sorted((score for _, score in fused), reverse=True)
    for order in itertools.permutations(rankings):
        assert dict(fuse(order, [1.0] * len(order), points)) == dict(fused), "sums are exact in any order"


@given(RANKINGS)
def test_a_passage_first_everywhere_is_first(rankings: list) -> None:
    topped = [[("top", 9.0), *ranking] for ranking in rankings]
    assert fuse(topped, [1.0] * len(topped), lambda ranking: reciprocal_ranks(ranking, 60))[0][0] == "top"
