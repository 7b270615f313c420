import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.tfidf import TfIdf, cosine, evenly_spaced, words
from tests.rewards.builders import PASSAGES


def test_the_weights_are_those_of_the_textbook() -> None:
    tfidf = TfIdf.fit(["red fox", "red hen", "blue hen hen"])
    assert tfidf.idf("red") == pytest.approx(math.log(4 / 3) + 1)
    assert tfidf.idf("unseen") == pytest.approx(math.log(4 / 1) + 1)
    vector = tfidf.vector("hen hen fox")
    hen, fox = 2 * (math.log(4 / 3) + 1), math.log(4 / 2) + 1
    assert vector["hen"] == pytest.approx(hen / math.hypot(hen, fox))
    assert vector["fox"] == pytest.approx(fox / math.hypot(hen, fox))


def test_words_are_lower_case_and_at_least_two_letters() -> None:
    assert words("A Fox, é-x über 1812 I_b") == ["fox", "über", "1812", "i_b"]


texts = st.text(alphabet="ab cd", max_size=20)


@given(st.lists(texts, min_size=1, max_size=5), texts, texts)
def test_cosine_is_symmetric_and_in_range(corpus: list[str], a: str, b: str) -> None:
    tfidf = TfIdf.fit(corpus)
    va, vb = tfidf.vector(a), tfidf.vector(b)
    assert cosine(va, vb) == pytest.approx(cosine(vb, va))
    assert 0.0 <= cosine(va, vb) <= 1.0
    assert cosine(va, va) == pytest.approx(1.0 if va else 0.0)


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (2, 2), (3, 3), (5, 3), (6, 6), (100, 6)])
def test_evenly_spaced_never_exceeds_the_limit(limit: int, count: int) -> None:
    chosen = list(evenly_spaced(list(PASSAGES.values()), limit))
    assert len(chosen) == count <= max(limit, 1)
    assert chosen[0].id == "a"
