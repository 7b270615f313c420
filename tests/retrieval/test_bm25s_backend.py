import json
from pathlib import Path

import bm25s
import numpy as np
import pytest
import Stemmer
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.build.work import BuildWork, Marks
from retrieval.corpus import read_corpus
from retrieval.index import Index, build_index, open_index
from retrieval.searcher import Shard
from retrieval.sparse.bm25s_backend import BM25sBuilder, BM25Settings, BM25sSearcher
from retrieval.sparse.kernels import best_rows

WORDS = ["river", "stone", "painter", "castle", "valley", "bridge", "winter", "singer", "island", "market"]


def texts_of(seed: int, num: int = 300) -> list[str]:
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(WORDS) + 1)
    return [
        " ".join(rng.choice(WORDS, size=rng.integers(1, 30), p=weights / weights.sum())) + f" unique{i % 40}"
        for i in range(num)
    ]


def write_corpus(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"id": f"p{i:05}", "text": text}) + "\n" for i, text in enumerate(texts)))
    return path


def tokens_of(texts: list[str]) -> list[list[str]]:
    stemmer = Stemmer.Stemmer("english")
    return bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)


def reference(texts: list[str], **parameters: object) -> bm25s.BM25:
    model = bm25s.BM25(backend="numba", **parameters)
    model.index(tokens_of(texts), show_progress=False)
    return model


def column(model: bm25s.BM25, term: str) -> dict[int, float]:
    number = model.vocab_dict[term]
    place = slice(int(model.scores["indptr"][number]), int(model.scores["indptr"][number + 1]))
    return dict(zip(model.scores["indices"][place].tolist(), model.scores["data"][place].tolist(), strict=True))


@pytest.mark.parametrize(("buffered_postings", "shard_size"), [(1 << 20, 1000), (1 << 20, 70), (100, 299), (1, 100)])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"method": "robertson", "k1": 0.9, "b": 0.4},
        {"method": "atire"},
        {"method": "atire", "idf_method": "robertson", "k1": 1.2},
    ],
)
def test_the_postings_are_bit_for_bit_those_of_bm25s(
    tmp_path: Path, parameters: dict[str, object], buffered_postings: int, shard_size: int
) -> None:
    texts = texts_of(0)
    builder = BM25sBuilder(BM25Settings(**parameters), buffered_postings=buffered_postings)
    shards = [
        Shard(number=number, first=first, count=len(texts[first : first + shard_size]))
        for number, first in enumerate(range(0, len(texts), shard_size))
    ]
    work = BuildWork(
        folder=tmp_path,
        parts=tmp_path,
        shards=shards,
        num_passages=len(texts),
        ram_bytes=None,
        progress=lambda stage, done, total: None,
        marks=Marks(tmp_path / "marks"),
    )
    for shard in shards:
        builder.build_part(texts[shard.first : shard.first + shard.count], work.part(shard))
    builder.merge(work)
    ours = bm25s.BM25.load(tmp_path, mmap=True, load_corpus=False, show_progress=False)
    theirs = reference(texts, **parameters)
    assert set(ours.vocab_dict) == set(theirs.vocab_dict) - {""}
    for term in ours.vocab_dict:
        assert column(ours, term) == column(theirs, term)


def build(tmp_path: Path, texts: list[str], **parameters: object) -> Index:
    build_index(write_corpus(tmp_path / "corpus.jsonl", texts), tmp_path / "index", settings=parameters)
    return open_index(tmp_path / "index")


def test_a_folder_opens_with_bm25s_itself_and_gives_the_same_scores(tmp_path: Path) -> None:
    texts = texts_of(1)
    index = build(tmp_path, texts)
    theirs = bm25s.BM25.load(tmp_path / "index", mmap=True, show_progress=False)
    assert theirs.backend == "numba"
    queries = ["painter castle unique7", "winter winter market", "the singer of the valley unique3"]
    for hits, tokens in zip(index.search(queries, 20), tokens_of(queries), strict=True):
        expected = np.sort(theirs.get_scores(tokens))[::-1][:20]
        np.testing.assert_array_equal(np.float32([hit.score for hit in hits]), expected)


def test_the_scores_are_mapped_and_not_read(tmp_path: Path) -> None:
    searcher = build(tmp_path, texts_of(2)).searcher
    assert isinstance(searcher, BM25sSearcher)
    assert all(isinstance(searcher.bm25.scores[name], np.memmap) for name in ("data", "indices", "indptr"))


def test_equal_scores_stand_in_corpus_order_at_every_depth(tmp_path: Path) -> None:
    index = build(tmp_path, ["river stone", "castle", "river stone", "stone river", "valley", "river stone"] * 20)
    ids = [hit.passage.id for hit in index.search(["river"], 80)[0]]
    assert ids == sorted(ids) and len(ids) == 80
    for k in (1, 2, 7, 79):
        assert [hit.passage.id for hit in index.search(["river"], k)[0]] == ids[:k]


@settings(max_examples=60, deadline=None)
@given(
    postings=st.lists(st.lists(st.tuples(st.integers(0, 14), st.sampled_from([0.0, 0.5, 1.0, 2.0]))), max_size=5),
    queries=st.lists(st.lists(st.integers(0, 4), max_size=6), max_size=4),
    k=st.integers(1, 15),
)
def test_best_rows_equals_sorting_every_row(
    postings: list[list[tuple[int, float]]], queries: list[list[int]], k: int
) -> None:
    columns = [dict(column) for column in postings] + [{}] * (5 - len(postings))
    rows = np.asarray([row for column in columns for row in sorted(column)], dtype=np.int32)
    scores = np.asarray([column[row] for column in columns for row in sorted(column)], dtype=np.float32)
    starts = np.cumsum([0] + [len(column) for column in columns], dtype=np.int64)
    terms = np.asarray([term for query in queries for term in query], dtype=np.int32)
    ends = np.cumsum([len(query) for query in queries], dtype=np.int64)
    total, touched = np.zeros(15, np.float32), np.zeros(15, np.int32)
    got_rows, got_scores, filled = best_rows(terms, ends, k, scores, rows, starts, total, touched)
    assert not total.any(), "the scratch must come back as zeros"
    for q, query in enumerate(queries):
        totals = {row: sum(columns[term].get(row, 0.0) for term in query) for row in range(15)}
        expected = sorted((-score, row) for row, score in totals.items() if score > 0)[:k]
        got = zip((-got_scores[q, : filled[q]]).tolist(), got_rows[q, : filled[q]].tolist(), strict=True)
        assert list(got) == expected


def test_passages_without_a_term_count_as_passages(tmp_path: Path) -> None:
    index = build(tmp_path, ["river", "", "the", "stone"])
    assert index.num_passages == 4 and [hit.passage.id for hit in index.search(["stone"], 4)[0]] == ["p00003"]


def agreement(okapi: Index, bm25: Index, query: str) -> None:
    """Both rank the whole corpus alike: scores to 1e-4 relative, passages by score and then by id."""
    n = okapi.num_passages
    [(rows, scores)], [(our_rows, our_scores)] = (index.searcher.top_rows([query], n) for index in (okapi, bm25))
    expected, got = (np.zeros(n) for _ in range(2))
    expected[rows], got[our_rows] = scores, our_scores
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    # Ids ascend with the rows of this corpus. float32 may tie, or swap, what float64 tells apart by rounding alone.
    for ranked, by_row in ((rows, expected), (our_rows, got)):
        assert ranked.tolist() == sorted(ranked.tolist(), key=lambda row: (-by_row[row], row))
    swapped = rows != our_rows
    np.testing.assert_allclose(expected[our_rows[swapped]], expected[rows[swapped]], rtol=1e-6)


def okapi_pair(corpus: Path, out: Path) -> tuple[Index, Index]:
    parameters = {"k1": 1.5, "b": 0.75}
    build_index(corpus, out / "okapi", backend="rank_bm25", settings=parameters)
    build_index(corpus, out / "bm25s", settings={**parameters, "method": "atire", "idf_method": "robertson"})
    return open_index(out / "okapi"), open_index(out / "bm25s")


def test_both_backends_agree_where_the_idf_is_positive(tmp_path: Path) -> None:
    okapi, bm25 = okapi_pair(write_corpus(tmp_path / "c.jsonl", texts_of(3)), tmp_path)
    idf = okapi.searcher.okapi.idf  # type: ignore[attr-defined]
    common = [
        word
        for word in WORDS
        if bm25.searcher.bm25.vocab_dict  # type: ignore[attr-defined]
        and 2 * sum(word in text for text in texts_of(3)) > 300
    ]
    assert common and all(idf[Stemmer.Stemmer("english").stemWord(word)] > 0 for word in common), "Okapi's floor"
    rare = [word for word in WORDS if word not in common]
    for query in (*rare, " ".join(rare[:3]), f"{rare[0]} {rare[0]} unique5"):
        agreement(okapi, bm25, query)


@pytest.mark.data
def test_both_backends_agree_on_hotpotqa(data_dir: Path, tmp_path: Path) -> None:
    from envs.datasets import read_questions

    okapi, bm25 = okapi_pair(data_dir / "hotpotqa" / "corpus.jsonl.gz", tmp_path)
    corpus = list(read_corpus(data_dir / "hotpotqa" / "corpus.jsonl.gz"))
    assert okapi.num_passages == bm25.num_passages == len(corpus)
    scorer = okapi.searcher.okapi  # type: ignore[attr-defined]
    assert bm25.searcher.bm25.vocab_dict.keys() == scorer.idf.keys(), "same tokens"  # type: ignore[attr-defined]
    half = len(corpus) / 2
    frequencies: dict[str, int] = {}
    for counts in scorer.doc_freqs:
        for term in counts:
            frequencies[term] = frequencies.get(term, 0) + 1
    assert all(count < half for count in frequencies.values()), "every IDF of this corpus is positive"
    questions = read_questions(data_dir / "hotpotqa" / "questions.jsonl.gz")
    assert [passage.id for passage in corpus] == sorted(passage.id for passage in corpus)
    for question in questions[:: len(questions) // 12]:
        agreement(okapi, bm25, question.text)
