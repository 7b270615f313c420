"""The reranker in front of a scripted scorer (what order comes out) and of a real, random CrossEncoder (plumbing)."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from retrieval.hybrid import HybridRetriever
from retrieval.passage import Hit
from retrieval.rerank import CrossEncoderScorer, RerankingRetriever
from retrieval.retriever import Retriever
from tests.retrieval.scripted_retriever import ScriptedRetriever

FIRST = {"q": [("a", 9.0), ("b", 8.0), ("c", 7.0), ("d", 6.0)], "r": [("e", 1.0)]}


class Scripted:
    """Knows a relevance for each passage text, and writes down what it was asked."""

    def __init__(self, relevance: dict[str, float]) -> None:
        self.relevance = relevance
        self.calls: list[list[tuple[str, str]]] = []

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        self.calls.append(list(pairs))
        return [self.relevance.get(text[0].lower(), 0.0) for _, text in pairs]


def names(hits: Sequence[Hit]) -> list[str]:
    return [hit.passage.id for hit in hits]


def test_the_scorer_decides_the_order_and_the_score() -> None:
    scorer = Scripted({"c": 5.0, "a": 1.0, "e": -2.0})
    [first, second] = RerankingRetriever(ScriptedRetriever(FIRST), scorer).search(["q", "r"], 3)
    assert [(hit.passage.id, hit.score, hit.rank) for hit in first] == [("c", 5.0, 1), ("a", 1.0, 2), ("b", 0.0, 3)]
    assert [(hit.passage.id, hit.score) for hit in second] == [("e", -2.0)], "a negative score is no reason to drop it"


def test_all_queries_go_to_the_scorer_in_one_call_with_title_and_text() -> None:
    scorer = Scripted({})
    RerankingRetriever(ScriptedRetriever(FIRST), scorer).search(["q", "none", "r"], 1)
    [pairs] = scorer.calls
    assert pairs[0] == ("q", "A text of a") and [query for query, _ in pairs] == ["q"] * 4 + ["r"]


def test_equal_scores_keep_the_first_order() -> None:
    [hits] = RerankingRetriever(ScriptedRetriever(FIRST), Scripted({"d": 1.0})).search(["q"], 4)
    assert names(hits) == ["d", "a", "b", "c"]


def test_depth_is_how_far_down_it_looks() -> None:
    scorer = Scripted({"d": 5.0})
    first = ScriptedRetriever(FIRST)
    assert names(RerankingRetriever(first, scorer, depth=3).search(["q"], 2)[0]) == ["a", "b"]
    assert names(RerankingRetriever(first, scorer, depth=4).search(["q"], 2)[0]) == ["d", "a"]
    RerankingRetriever(first, scorer, depth=1).search(["q"], 2)
    assert [k for _, k in first.asked] == [3, 4, 2], "at least k"


def test_nothing_found_asks_the_scorer_nothing() -> None:
    scorer = Scripted({})
    assert RerankingRetriever(ScriptedRetriever(FIRST), scorer).search(["none"], 2) == [[]]
    assert scorer.calls == []


def test_a_scorer_that_gives_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="gave 1 scores for 4 pairs"):
        RerankingRetriever(ScriptedRetriever(FIRST), lambda pairs: [1.0]).search(["q"], 1)
    with pytest.raises(ValueError, match="gave nan for the query 'q' and the passage 'A text of a'"):
        RerankingRetriever(ScriptedRetriever(FIRST), lambda pairs: [float("nan")] * len(pairs)).search(["q"], 1)
    with pytest.raises(ValueError, match="depth is 0"):
        RerankingRetriever(ScriptedRetriever(FIRST), Scripted({}), depth=0)


def test_it_stands_wherever_a_retriever_stands() -> None:
    first, other = ScriptedRetriever(FIRST), ScriptedRetriever({"q": [("h", 1.0)]})
    reranked = RerankingRetriever(first, Scripted({"d": 1.0}))
    with HybridRetriever([reranked, other]) as hybrid:
        assert isinstance(reranked, Retriever) and names(hybrid.search(["q"], 2)[0]) == ["d", "h"]
    assert first.closed and other.closed
    identity = reranked.identity
    assert json.loads(json.dumps(identity)) == identity and identity["corpus_hash"] == "0" * 64
    assert identity["settings"]["scorer"].endswith("test_rerank:Scripted")
    assert RerankingRetriever(first, Scripted({}), depth=9).identity["index_hash"] != identity["index_hash"]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with random weights and a vocabulary of letters, saved as a CrossEncoder is."""
    import torch
    from sentence_transformers import CrossEncoder
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    words += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        num_labels=1,
        initializer_range=1.0,
    )
    BertForSequenceClassification(config).save_pretrained(folder / "bert")
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder / "bert")
    CrossEncoder(str(folder / "bert"), device="cpu").save_pretrained(str(folder / "cross"))
    return folder / "cross"


def test_a_cross_encoder_scores_each_pair_as_the_model_itself_does(tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model).eval()
    scorer = CrossEncoderScorer(str(tiny_model), device="cpu", batch_size=2)
    pairs = [("a cat", "cats sleep"), ("a cat", "dogs run " * 50), ("x", "")]
    expected = []
    for query, text in pairs:
        tokens = tokenizer([query], [text], truncation=True, max_length=64, return_tensors="pt")
        with torch.inference_mode():
            expected.append(model(**tokens).logits.item())
    assert scorer(pairs) == pytest.approx(expected, abs=1e-5)
    assert scorer(pairs[:1]) == pytest.approx(expected[:1], abs=1e-5), "one pair is a list of one"
    assert scorer([]) == []


def test_a_cross_encoder_reranks_and_threads_agree(tiny_model: Path) -> None:
    scorer = CrossEncoderScorer(str(tiny_model), device="cpu")
    reranked = RerankingRetriever(ScriptedRetriever(FIRST), scorer, depth=4)
    [alone] = reranked.search(["q"], 4)
    assert sorted(names(alone)) == ["a", "b", "c", "d"]
    assert [hit.score for hit in alone] == sorted((hit.score for hit in alone), reverse=True)
    with ThreadPoolExecutor(4) as pool:
        for hits in pool.map(lambda _: reranked.search(["q"], 4)[0], range(12)):
            assert names(hits) == names(alone)
    assert reranked.identity["settings"]["scorer"]["model"] == tiny_model.name


def test_two_rerankers_of_one_name_are_told_apart_and_one_in_two_places_is_not(
    tiny_model: Path, tmp_path: Path
) -> None:
    import shutil

    from safetensors.numpy import load_file, save_file

    for place in ("moved", "changed"):
        shutil.copytree(tiny_model, tmp_path / place / tiny_model.name)
    weights = tmp_path / "changed" / tiny_model.name / "model.safetensors"
    arrays = load_file(weights)
    name = min(arrays)
    save_file({**arrays, name: arrays[name] + 1}, weights, metadata={"format": "pt"})
    (tmp_path / "moved" / tiny_model.name / "README.md").write_text("a card")
    first, moved, changed = (
        RerankingRetriever(ScriptedRetriever(FIRST), CrossEncoderScorer(str(folder), device="cpu")).identity
        for folder in (tiny_model, *(tmp_path / place / tiny_model.name for place in ("moved", "changed")))
    )
    assert first == moved and first["index_hash"] != changed["index_hash"]
    assert first["settings"]["scorer"]["files_sha256"] != changed["settings"]["scorer"]["files_sha256"]


def test_a_model_that_is_no_reranker_says_so(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    AutoModelForSequenceClassification.from_pretrained(
        tiny_model, num_labels=3, ignore_mismatched_sizes=True
    ).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has 3 outputs a pair; a reranker needs one with 1"):
        CrossEncoderScorer(str(tmp_path), device="cpu")
    with pytest.raises(ValueError, match="batch_size is 0"):
        CrossEncoderScorer(str(tiny_model), batch_size=0)


def test_without_sentence_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'waymark\[dense\]'"):
        CrossEncoderScorer("any")
