import numpy as np
import pytest

from retrieval.retriever import CorpusElsewhere
from rewards.embeddings import TextEmbeddings
from rewards.reward import RewardContext
from rewards.text_space import EncoderSpace, TfIdfSpace, open_text_space
from rewards.tfidf import TfIdf, cosine
from tests.rewards.builders import PASSAGES, context


def test_the_table_is_every_pair_of_the_corpus_tfidf() -> None:
    space = TfIdfSpace(lambda: list(PASSAGES.values()))
    texts = ["harbour town Oskel", "harbour town", "", "a b c", "harbour town"]
    fitted = TfIdf.fit(p.contents for p in PASSAGES.values())
    vectors = [fitted.vector(text) for text in texts]
    table = space.cosines(texts)
    for i in range(len(texts)):
        for j in range(len(texts)):
            assert table[i, j] == pytest.approx(cosine(vectors[i], vectors[j]), abs=1e-12)
    assert table[0, 0] == table[1, 4] == 1.0
    assert not table[2].any() and not table[3].any()  # no word of two letters: no direction


def test_an_empty_corpus_has_no_idf() -> None:
    with pytest.raises(ValueError, match="corpus is empty"):
        TfIdfSpace(lambda: []).cosines(["a word"])


class Letters:
    def encode(self, texts):
        return np.array([[text.count("a") + 0.5, -text.count("b")] for text in texts], dtype=np.float32)


def test_an_encoder_gives_signed_cosines_and_is_not_asked_for_blank_texts() -> None:
    embeddings = TextEmbeddings(None, encoder=Letters())
    table = EncoderSpace(embeddings).cosines(["aa", " ", "bbb"])
    one, other = np.array([2.5, 0.0]), np.array([0.5, -3.0])
    wanted = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert table[0, 2] == pytest.approx(wanted, abs=1e-6) and table[0, 0] == pytest.approx(1.0, abs=1e-6)
    assert not table[1].any() and embeddings.misses == 2
    EncoderSpace(embeddings).cosines(["aa", "bbb"])
    assert embeddings.hit_rate == 0.5


def test_rewards_with_the_same_model_share_their_vectors() -> None:
    one, other, third = (open_text_space(context(), reward="r", model=m) for m in ("m", "m", "n"))
    assert isinstance(one, EncoderSpace) and isinstance(other, EncoderSpace) and isinstance(third, EncoderSpace)
    assert one.embeddings is other.embeddings is not third.embeddings


def test_without_a_model_the_corpus_has_to_be_here() -> None:
    def elsewhere():
        raise CorpusElsewhere("on a server")

    with pytest.raises(CorpusElsewhere):
        open_text_space(RewardContext(passage=PASSAGES.__getitem__, corpus=elsewhere), reward="r", model=None)
    with pytest.raises(ValueError, match="reward r: max_fit_passages"):
        open_text_space(context(), reward="r", model=None, max_fit_passages=0)
    with pytest.raises(ValueError, match="reward r: model must be a folder or a hub id"):
        open_text_space(context(), reward="r", model=3)  # type: ignore[arg-type]
