import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.information_gain import InformationGainReward
from rewards.reward import RewardContext
from rewards.tfidf import words
from tests.rewards.builders import PASSAGES, QUESTION, answer, context, group, search, trajectory


def score(*turns, question=QUESTION, **params) -> list[float]:
    reward = InformationGainReward(context(), **params)
    return reward(group(trajectory(*turns, question=question)), {"q": question}).turn[0].tolist()


def reference(shown: list[list[str]], gold: list[str]) -> list[float]:
    """StepSearch's formula with dense matrices, as METHODS state it, repeats inside a turn counted too."""
    ids = list(PASSAGES)
    texts = [words(p.contents) for p in PASSAGES.values()]
    vocabulary = sorted({w for text in texts for w in text})
    counts = np.array([[text.count(w) for w in vocabulary] for text in texts], dtype=float)
    idf = np.log((1 + len(ids)) / (1 + (counts > 0).sum(axis=0))) + 1
    matrix = counts * idf
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    cos = matrix @ matrix.T
    best, history, rewards = np.zeros(len(gold)), set(), []
    for docs in shown:
        if not docs:
            rewards.append(0.0)
            continue
        c = np.array([max(cos[ids.index(g), ids.index(d)] for d in docs) for g in gold])
        gain = np.maximum(c - best, 0).mean()
        best = np.maximum(best, c)
        repeated = sum(d in history or d in docs[:j] for j, d in enumerate(docs)) / len(docs)
        history |= set(docs)
        rewards.append(gain - repeated)
    return rewards


shown_lists = st.lists(st.lists(st.sampled_from("abcxyz"), max_size=4), max_size=5)


@given(shown_lists)
def test_equals_the_formula_with_dense_matrices(shown: list[list[str]]) -> None:
    assert score(*map(search, shown)) == pytest.approx(reference(shown, ["a", "b"]), abs=1e-9)


@given(shown_lists)
def test_ranges_and_the_sum_of_gains(shown: list[list[str]]) -> None:
    values = np.array(score(*map(search, shown)))
    assert (values >= -1.0).all() and (values <= 1.0 + 1e-12).all()
    gains = np.array(score(*map(search, shown), redundancy=0.0))
    assert (gains >= 0.0).all() and gains.sum() <= 1.0 + 1e-9


@given(shown_lists.filter(bool), st.data())
def test_a_repeated_search_never_raises_the_sum(shown: list[list[str]], data: st.DataObject) -> None:
    copied = data.draw(st.integers(0, len(shown) - 1))
    at = data.draw(st.integers(copied, len(shown) - 1)) + 1
    longer = [*shown[:at], shown[copied], *shown[at:]]
    assert sum(score(*map(search, longer))) <= sum(score(*map(search, shown))) + 1e-9


HONEST = (search(["a", "x"]), search(["b", "y"]), answer("Oskel"))


@pytest.mark.parametrize(
    "cheat",
    [
        pytest.param((search(["a", "x"]), search(["a", "x"]), answer("Oskel")), id="repeated query"),
        pytest.param((*HONEST[:2], search(["a", "b"]), answer("Oskel")), id="one search more, for nothing new"),
        pytest.param(
            (search(["x", "y", "z"], num_queries=5), search(["x", "c"]), answer("Oskel")), id="query spamming"
        ),
        pytest.param(
            (search(["a", "a", "a", "a"], num_queries=4), search(["b"])), id="the same hit under four queries"
        ),
        pytest.param((answer("Tavo Rinsel grew up in the harbour town of Oskel."),), id="copied text without a search"),
        pytest.param((search([], hits=["a", "b"]), answer("Oskel")), id="hits that were never shown"),
    ],
)
def test_cheats_earn_less_than_the_honest_searches(cheat) -> None:
    assert sum(score(*cheat)) < sum(score(*HONEST))


def test_finding_the_gold_passage_itself_covers_it_fully() -> None:
    assert score(search(["a", "b"]), answer("Oskel")) == pytest.approx([1.0, 0.0])


def test_the_idf_is_fitted_once_and_vectors_are_kept() -> None:
    fits, lookups = [], []

    class Corpus(list):
        def __getitem__(self, row):
            if row == 0:
                fits.append(1)
            return super().__getitem__(row)

    def corpus():
        return Corpus(PASSAGES.values())

    def passage(passage_id: str):
        lookups.append(passage_id)
        return PASSAGES[passage_id]

    reward = InformationGainReward(RewardContext(passage=passage, corpus=corpus))
    assert not fits  # nothing is read before the first unit
    unit = group(*(trajectory(search(["a", "x"]), search(["b"]), sample=i) for i in range(5)))
    for _ in range(3):
        reward(unit, {"q": QUESTION})
    assert len(fits) == 1
    assert sorted(lookups) == ["a", "b", "x"]


def test_the_idf_of_a_large_corpus_is_fitted_on_evenly_spaced_passages() -> None:
    reward = InformationGainReward(context(), max_fit_passages=2)
    reward(group(trajectory(search(["a"]))), {"q": QUESTION})
    assert reward.similarity.tfidf.num_documents == 2


def test_supports_that_the_corpus_lacks_leave_the_mean_and_none_at_all_is_nan() -> None:
    partly = replace(QUESTION, supporting_ids=("a", "gone"))
    assert score(search(["a"]), question=partly) == pytest.approx([1.0])
    assert math.isnan(score(search(["a"]), question=replace(QUESTION, supporting_ids=("gone",)))[0])


def test_a_shown_passage_from_another_corpus_is_refused() -> None:
    with pytest.raises(ValueError, match="was shown passage 'alien', which the reward's corpus does not have"):
        score(search(["alien"]))


def test_an_empty_corpus_is_refused() -> None:
    reward = InformationGainReward(RewardContext(passage=PASSAGES.__getitem__, corpus=list))
    with pytest.raises(ValueError, match="the corpus is empty"):
        reward(group(trajectory(search(["a"]))), {"q": QUESTION})
