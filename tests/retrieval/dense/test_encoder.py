"""The encoder against a plain transformers computation: prefixes, pooling, length, norm; and what it refuses."""

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import BertModel, BertTokenizerFast

from retrieval.dense.encoder import Encoder
from retrieval.dense.flat import FlatVectors
from retrieval.dense.presets import EncoderSettings, Pooling
from tests.retrieval.dense.tiny_encoder import write_tiny_bert

TEXTS = ["the cat", "a much longer text about dogs and their many long days", "x", "the cat", "cars : fast"]


def plainly(folder: str, texts: list[str], pooling: str, *, normalize: bool, max_length: int = 64) -> NDArray:
    """One text at a time through transformers, without padding."""
    tokenizer, model = BertTokenizerFast.from_pretrained(folder), BertModel.from_pretrained(folder).eval()
    found = []
    for text in texts:
        with torch.inference_mode():
            states = model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=max_length))[0][0]
        pooled = {"cls": states[0], "mean": states.mean(0), "max": states.max(0).values, "lasttoken": states[-1]}
        found.append(pooled[pooling] / (pooled[pooling].norm() if normalize else 1))
    return torch.stack(found).numpy()


@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "lasttoken"])
@pytest.mark.parametrize("normalize", [True, False])
def test_pooling_and_normalisation_are_those_of_a_plain_computation(
    tiny_bert: str, pooling: Pooling, normalize: bool
) -> None:
    encoder = Encoder(EncoderSettings(model=tiny_bert, pooling=pooling, normalize=normalize))
    found = encoder.queries(TEXTS)
    assert found.dtype == np.float32 and found.shape == (5, 32) == (5, encoder.dimension)
    np.testing.assert_allclose(found, plainly(tiny_bert, TEXTS, pooling, normalize=normalize), atol=2e-5)


def test_queries_and_passages_get_their_own_prefix(tiny_bert: str) -> None:
    encoder = Encoder(EncoderSettings(model=tiny_bert, preset="e5-base-v2", max_length=64))
    for encode, prefix in ((encoder.queries, "query: "), (encoder.passages, "passage: ")):
        expected = plainly(tiny_bert, [prefix + text for text in TEXTS], "mean", normalize=True)
        np.testing.assert_allclose(encode(TEXTS), expected, atol=2e-5)
    assert np.abs(encoder.queries(TEXTS) - encoder.passages(TEXTS)).max() > 0.01


def test_long_texts_are_cut_at_max_length(tiny_bert: str) -> None:
    encoder = Encoder(EncoderSettings(model=tiny_bert, pooling="mean", max_length=8))
    expected = plainly(tiny_bert, TEXTS, "mean", normalize=True, max_length=8)
    np.testing.assert_allclose(encoder.passages(TEXTS), expected, atol=2e-5)


def test_prefixes_and_pooling_of_a_saved_sentence_encoder_are_taken_from_its_files(
    tiny_bert: str, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    modules = [Transformer(tiny_bert), Pooling(32, pooling_mode="cls"), Normalize()]
    prompts = {"query": "find: ", "document": "text: "}
    SentenceTransformer(modules=modules, prompts=prompts, default_prompt_name="query").save(str(tmp_path / "saved"))
    encoder = Encoder(EncoderSettings(model=str(tmp_path / "saved")))
    assert (encoder.settings.query_prefix, encoder.settings.passage_prefix) == ("find: ", "text: ")
    expected = plainly(tiny_bert, ["text: the cat"], "cls", normalize=True)
    np.testing.assert_allclose(encoder.passages(["the cat"]), expected, atol=2e-5)
    bare = Encoder(EncoderSettings(model=str(tmp_path / "saved"), passage_prefix="", normalize=False))
    expected = plainly(tiny_bert, ["the cat"], "cls", normalize=False)
    np.testing.assert_allclose(bare.passages(["the cat"]), expected, atol=2e-5)


def test_the_same_call_gives_the_same_bytes_from_any_thread(tiny_bert: str) -> None:
    encoder = Encoder(EncoderSettings(model=tiny_bert, batch_size=3))
    batches = [[f"{word} {other}" for word in TEXTS] for other in "abcdefgh"]
    alone = [encoder.queries(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(encoder.queries, batches * 4))
    assert all((a == b).all() for a, b in zip(alone * 4, together, strict=True))
    again = Encoder(EncoderSettings(model=tiny_bert, batch_size=3))
    assert (again.queries(batches[0]) == alone[0]).all()


def test_no_texts_give_no_vectors(tiny_bert: str) -> None:
    assert Encoder(EncoderSettings(model=tiny_bert)).queries([]).shape == (0, 32)


def test_an_empty_text_is_refused_by_its_place(tiny_bert: str) -> None:
    encoder = Encoder(EncoderSettings(model=tiny_bert))
    with pytest.raises(ValueError, match="passage 1 of 2 is an empty text"):
        encoder.passages(["cat", " \n"])
    with pytest.raises(ValueError, match="query 0 of 1 is an empty text"):
        encoder.queries([""])


def test_any_other_text_has_a_vector(tiny_bert: str) -> None:
    encoder = Encoder(EncoderSettings(model=tiny_bert))
    assert np.isfinite(encoder.queries(["\x00\x01", "中文", "😀" * 500, "a" * 100_000, "?"])).all()
    with pytest.raises(ValueError, match="query 1 of 2 holds half a surrogate pair, which is no character"):
        encoder.queries(["cat", "cat \ud83d"])


def test_a_missing_library_names_the_extra(tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, use in (
        ("sentence_transformers", lambda: Encoder(EncoderSettings(model=tiny_bert))),
        ("faiss", lambda: FlatVectors(np.eye(3, dtype=np.float32))),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ValueError, match=r"needs .*; pip install 'waymark\[dense\]'"):
            use()


def test_a_missing_or_broken_folder_is_told_before_anything_is_read(tiny_bert: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no encoder folder at .*nowhere; encoder.model is a Hugging Face id"):
        Encoder(EncoderSettings(model=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match=r"holds neither config.json nor modules.json"):
        Encoder(EncoderSettings(model=str(tmp_path)))
    with pytest.raises(ValueError, match=r"nobody/nothing (is not on this machine|could not be loaded)"):
        Encoder(EncoderSettings(model="nobody/nothing"))
    shutil.copytree(tiny_bert, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="cut could not be loaded"):
        Encoder(EncoderSettings(model=str(tmp_path / "cut")))


def test_a_length_or_device_that_the_machine_lacks_is_refused(tiny_bert: str) -> None:
    with pytest.raises(ValueError, match=r"max_length is 512, and .* has 64 positions"):
        Encoder(EncoderSettings(model=tiny_bert, preset="e5-base-v2"))
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch sees no CUDA GPU here; open the index with"):
            Encoder(EncoderSettings(model=tiny_bert, device="cuda"))


def test_vectors_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path / "broken")
    model = BertModel.from_pretrained(folder)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[5 + ord("x") - ord("a")] = float("nan")
    model.save_pretrained(folder)
    encoder = Encoder(EncoderSettings(model=folder))
    assert np.isfinite(encoder.queries(["cat"])).all()
    with pytest.raises(ValueError, match=r"gave NaN or infinity for 1 of 2 texts, first for the query 'x'"):
        encoder.queries(["cat", "x"])


def test_half_precision_is_near(tiny_bert: str) -> None:
    exact = Encoder(EncoderSettings(model=tiny_bert)).queries(TEXTS)
    half = Encoder(EncoderSettings(model=tiny_bert, dtype="bfloat16")).queries(TEXTS)
    assert half.dtype == np.float32 and (half * exact).sum(1).min() > 0.995
    np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, atol=1e-6)


@pytest.mark.slow
def test_a_real_encoder_knows_what_is_said_in_other_words(minilm: str) -> None:
    encoder = Encoder(EncoderSettings(model=minilm, preset="all-MiniLM-L6-v2"))
    assert json.loads(Path(minilm, "1_Pooling", "config.json").read_text())["pooling_mode_mean_tokens"]
    [query] = encoder.queries(["Who painted the ceiling of the Sistine Chapel?"])
    passages = encoder.passages(
        ["Michelangelo decorated the vault of the pope's chapel with frescoes.", "Who fixed the ceiling fan?"]
    )
    own_files = Encoder(EncoderSettings(model=minilm))
    assert (query @ passages.T).argmax() == 0
    np.testing.assert_allclose(own_files.passages(["a cat"]), encoder.passages(["a cat"]), atol=1e-6)
