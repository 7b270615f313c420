from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.question import Hop
from rewards.annotation import MissingAnnotation
from rewards.answer import normalize_answer
from rewards.compose import Composition, RewardTerm
from rewards.keyword import KeywordReward
from tests.rewards.builders import QUESTION, answer, context, group, invalid, search, trajectory

FIRST, SECOND = "Who founded Lomira?", "In which town did Tavo Rinsel grow up?"


def score(*turns, question=QUESTION) -> float:
    return float(KeywordReward(context())(group(trajectory(*turns)), {"q": question}).outcome[0])


def test_the_best_matching_query_counts_for_each_hop() -> None:
    assert score(search([], FIRST), search([], SECOND), answer("Oskel")) == 1.0
    assert score(search([], FIRST), answer("Oskel")) == pytest.approx((1 + 0) / 2)


def test_a_later_query_that_matches_worse_does_not_overwrite_a_better_one() -> None:
    good = (search([], FIRST), search([], SECOND))
    assert score(*good, search([], "founded in which year?"), search([], "Tavo Rinsel")) == 1.0


def test_any_alias_of_an_earlier_answer_will_do() -> None:
    hops = (replace(QUESTION.hops[0], answers=("Tavo Rinsel", "Big T")), QUESTION.hops[1])
    question = replace(QUESTION, hops=hops)
    assert score(search([], FIRST), search([], "town Big T grow up"), question=question) == 1.0


def brute_force(queries: list[str], references: list[list[list[str]]]) -> float:
    """(1/M) sum_i max_j max_t F1 with loops and lists."""
    total = 0.0
    for hop in references:
        best = 0.0
        for keys in hop:
            for query in queries:
                left, same = list(keys), 0
                asked = [w for w in normalize_answer(query).split() if w in {"red", "blue", "town", "river", "lomira"}]
                for word in asked:
                    if word in left:
                        left.remove(word)
                        same += 1
                if same:
                    precision, recall = same / len(asked), same / len(keys)
                    best = max(best, 2 * precision * recall / (precision + recall))
        total += best
    return total / len(references)


WORDS = st.lists(st.sampled_from(["red", "blue", "town", "river", "lomira", "the", "of", "is"]), max_size=6)
CONTENT = st.lists(st.sampled_from(["red", "blue", "town", "river"]), min_size=1, max_size=4)


@given(st.lists(WORDS.map(" ".join), max_size=5), st.lists(CONTENT, min_size=1, max_size=3))
def test_it_equals_a_brute_force_loop(queries: list[str], hops: list[list[str]]) -> None:
    question = replace(QUESTION, hops=tuple(Hop(question=" ".join(["the", *h]), answers=("x",)) for h in hops))
    got = score(*(search([], query) for query in queries), answer("x"), question=question)
    assert got == pytest.approx(brute_force(queries, [[h] for h in hops]))


HONEST = (search(["a"], FIRST), search(["b"], SECOND), answer("Oskel"))


@pytest.mark.parametrize(
    "cheat",
    [
        pytest.param((search(["a"], QUESTION.text), answer("Oskel")), id="the question itself"),
        pytest.param((search(["a"], FIRST), search(["a"], FIRST), answer("Oskel")), id="the same query twice"),
        pytest.param((search(["a"], f"{FIRST} {SECOND}"), answer("Oskel")), id="everything in one query"),
        pytest.param((search(["x"], "drum glacier", num_queries=20), answer("Oskel")), id="query spamming"),
        pytest.param((answer("Oskel"),), id="not searching"),
        pytest.param((invalid(), answer("Oskel")), id="a forged observation"),
    ],
)
def test_cheats_earn_less(cheat) -> None:
    assert score(*cheat) < score(*HONEST) - 0.1


def test_without_hops_or_key_words_it_does_not_apply() -> None:
    assert np.isnan(score(*HONEST, question=replace(QUESTION, hops=())))
    assert np.isnan(score(*HONEST, question=replace(QUESTION, hops=(Hop(question="Who is it?", answers=("x",)),))))
    composition = Composition({"keyword": KeywordReward(context())}, {"keyword": RewardTerm()})
    with pytest.raises(MissingAnnotation, match="'keyword' needs the dataset field 'decomposition'"):
        composition.check([replace(QUESTION, hops=())])
