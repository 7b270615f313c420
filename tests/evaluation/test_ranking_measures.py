"""nDCG and MRR must be the numbers of everybody else's tables: worked by hand here, computed by trec_eval there."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.ranking_measures import ranking_measures

RANKED = ["z", "b", "y", "a", "w"]


def one(ranked: list[str], gold: set[str]) -> tuple[float, float]:
    found = ranking_measures([ranked], [gold])
    return float(found["ndcg@10"][0]), float(found["mrr@10"][0])


def test_a_ranking_worked_by_hand() -> None:
    # Golds at ranks 2 and 4 of three: DCG = 1/log2(3) + 1/log2(5); the best ranking has them at 1, 2 and 3.
    gained = 1 / math.log2(3) + 1 / math.log2(5)
    best = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert one(RANKED, {"a", "b", "c"}) == (pytest.approx(gained / best), 0.5)
    assert gained / best == pytest.approx(0.4981892575)
    assert one(["m", "n", "o"], {"m", "n"}) == (1.0, 1.0)
    assert one([f"d{i}" for i in range(9)] + ["x"], {"x"}) == (pytest.approx(1 / math.log2(11)), pytest.approx(0.1))


def test_what_stands_below_the_cutoff_is_not_found() -> None:
    assert one([f"d{i}" for i in range(10)] + ["x"], {"x"}) == (0.0, 0.0)
    assert one([], {"x"}) == (0.0, 0.0)
    assert ranking_measures([["a", "x"]], [{"x"}], cutoff=1)["mrr@1"].tolist() == [0.0]


def test_the_best_ranking_of_more_golds_than_the_cutoff_counts_to_the_cutoff() -> None:
    gold = {f"g{i}" for i in range(12)}
    assert one(sorted(gold)[:10], gold) == (pytest.approx(1.0), 1.0)


def test_ids_may_be_anything() -> None:
    assert one(["a b", "none", "other0", "g0", "\tü\0"], {"none", "\tü\0"})[1] == 0.5
    assert one(["g1", "g0"], {"x"}) == (0.0, 0.0), "an id that looks like our own name of a gold is none"


def test_what_cannot_be_measured_says_why() -> None:
    with pytest.raises(ValueError, match="1 rankings for 2 sets"):
        ranking_measures([["a"]], [{"a"}, {"b"}])
    with pytest.raises(ValueError, match="no gold"):
        ranking_measures([["a"]], [set()])


IDS = st.sampled_from([f"p{i}" for i in range(14)])


@given(st.lists(st.tuples(st.lists(IDS, unique=True), st.sets(IDS, min_size=1)), min_size=1, max_size=12))
def test_the_formulas_of_the_papers_give_the_same(cases: list[tuple[list[str], set[str]]]) -> None:
    found = ranking_measures([ranked for ranked, _ in cases], [gold for _, gold in cases])
    for i, (ranked, gold) in enumerate(cases):
        gain = sum(1 / math.log2(rank + 1) for rank, name in enumerate(ranked[:10], start=1) if name in gold)
        best = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(gold), 10) + 1))
        assert found["ndcg@10"][i] == pytest.approx(gain / best)
        first = next((1 / rank for rank, name in enumerate(ranked[:10], start=1) if name in gold), 0.0)
        assert found["mrr@10"][i] == pytest.approx(first)
