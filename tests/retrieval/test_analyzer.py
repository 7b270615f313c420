from concurrent.futures import ThreadPoolExecutor

import bm25s
import pytest
import Stemmer
from bm25s.stopwords import STOPWORDS_EN
from hypothesis import given
from hypothesis import strategies as st

from retrieval.analyzer import ENGLISH_STOPWORDS, Analyzer, AnalyzerSettings
from retrieval.sparse import vocabulary
from retrieval.sparse.vocabulary import Vocabulary, WordNumbers

TEXT = "The Running cats' of I.B.M. weren't at Café Zürich in 1999; it's RUNNING_late — naïve coöperation, 東京 a b c"


def bm25s_terms(text: str) -> list[str]:
    return bm25s.tokenize(
        [text], stopwords="en", stemmer=Stemmer.Stemmer("english"), return_ids=False, show_progress=False
    )[0]


def test_the_stopwords_are_bm25s_own() -> None:
    assert frozenset(STOPWORDS_EN) == ENGLISH_STOPWORDS


def test_terms_are_bm25s_own() -> None:
    assert Analyzer().terms(TEXT) == bm25s_terms(TEXT)


@given(st.text(max_size=80))
def test_terms_are_bm25s_own_for_any_text(text: str) -> None:
    assert Analyzer().terms(text) == bm25s_terms(text)


def test_settings_turn_stopwords_and_stemming_off() -> None:
    analyzer = Analyzer(AnalyzerSettings(stopwords=None, stemmer=None))
    assert analyzer.terms("The cats") == ["the", "cats"]


def test_threads_get_the_terms_that_one_thread_gets() -> None:
    texts = [f"running {i} cats jumped over {i} houses" for i in range(2000)]
    analyzer = Analyzer()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(analyzer.terms, texts)) == [Analyzer().terms(text) for text in texts]


def test_words_are_numbered_by_their_terms_and_a_vocabulary_leaves_unknown_ones_out() -> None:
    words = WordNumbers(Analyzer())
    numbers, ends = words.cut(["Cats chase the cat", "", "X is a dog"])
    assert list(ends) == [4, 4, 8] and words.terms == ["cat", "chase", "dog"]
    assert list(numbers) == [0, 1, -1, 0, -1, -1, -1, 2]
    assert Vocabulary(Analyzer(), {"cat": 0, "chase": 1}).look_up("a dog chased cats") == [1, 0]


def test_forgetting_words_changes_no_term(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "_MAX_CACHED_WORDS", 2)
    words = WordNumbers(Analyzer())
    for text in ("cats chase dogs", "dogs sleep", "cats"):
        words.forget_if_full()
        numbers, _ = words.cut([text])
        assert [words.terms[number] for number in numbers] == Analyzer().terms(text)


@given(st.text() | st.text(alphabet=st.characters(max_codepoint=127)))
def test_pieces_are_the_words_and_perhaps_single_letters(text: str) -> None:
    assert [piece for piece in Analyzer.pieces(text) if len(piece) > 1] == Analyzer.words(text)


def test_an_analyzer_that_is_no_mapping_is_refused_by_the_names_of_its_parts() -> None:
    with pytest.raises(ValueError, match=r"analyzer\.stopwords \(english or null\) and analyzer\.stemmer"):
        AnalyzerSettings.model_validate(3)
