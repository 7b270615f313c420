"""Postings of a shard against counting by hand, and their merge under a bound on memory."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.analyzer import Analyzer
from retrieval.build.memory import resident_bytes
from retrieval.build.work import BuildWork, Marks
from retrieval.searcher import Shard
from retrieval.sparse.bm25s_backend import BM25sBuilder, BM25Settings
from retrieval.sparse.posting_merge import buffered_postings, join_vocabularies
from retrieval.sparse.posting_part import PostingPart, cut_part, read_postings, read_terms, write_part
from retrieval.sparse.vocabulary import WordNumbers, write_vocabulary

words = st.sampled_from(["cat", "cats", "the", "dog", "Zürich", "x", "running", "runs", "東京", "a_b"])
texts = st.lists(st.lists(words, max_size=8).map(" ".join), min_size=1, max_size=12)


def postings_of(part: PostingPart) -> dict[str, dict[int, int]]:
    found, start = {}, 0
    for term, frequency in zip(part.terms, part.frequencies.tolist(), strict=True):
        rows = part.rows[start : start + frequency].tolist()
        assert rows == sorted(rows)
        found[term] = dict(zip(rows, part.counts[start : start + frequency].tolist(), strict=True))
        start += frequency
    assert start == len(part.rows) == len(part.counts)
    return found


@settings(max_examples=150, deadline=None)
@given(shards=st.lists(texts, min_size=1, max_size=3))
def test_the_postings_of_a_shard_are_the_counts_of_its_terms_whatever_came_before(shards: list[list[str]]) -> None:
    numbers = WordNumbers(Analyzer())
    for shard in shards:
        part = cut_part(shard, numbers)
        cut = [Analyzer().terms(text) for text in shard]
        assert part.terms == list(dict.fromkeys(term for terms in cut for term in terms)), "order of first use"
        assert part.lengths.tolist() == [len(terms) for terms in cut]
        expected: dict[str, dict[int, int]] = {}
        for row, terms in enumerate(cut):
            for term, count in Counter(terms).items():
                expected.setdefault(term, {})[row] = count
        assert postings_of(part) == expected
        assert part.rows.dtype == np.uint16


def test_a_word_said_more_often_than_two_bytes_can_count(tmp_path: Path) -> None:
    part = cut_part(["cat dog", "cat " * 70_000], WordNumbers(Analyzer()))
    assert postings_of(part) == {"cat": {0: 1, 1: 70_000}, "dog": {0: 1}}
    write_part(tmp_path / "part", part)
    terms, frequencies, lengths = read_terms(tmp_path / "part")
    assert terms == ["cat", "dog"] and frequencies.tolist() == [2, 1] and lengths.tolist() == [2, 70_000]
    for array, expected in zip(
        read_postings(tmp_path / "part"), (part.frequencies, part.lengths, part.rows, part.counts), strict=True
    ):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)


def test_a_shard_without_a_term_is_a_part_too(tmp_path: Path) -> None:
    write_part(tmp_path / "part", cut_part(["the", "", "?"], WordNumbers(Analyzer())))
    terms, frequencies, lengths = read_terms(tmp_path / "part")
    assert terms == [] and len(frequencies) == 0 and lengths.tolist() == [0, 0, 0]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True))
def test_a_vocabulary_is_written_as_json_would_write_it(terms: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write_vocabulary(Path(folder) / "v.json", terms)
        written = (Path(folder) / "v.json").read_text(encoding="utf-8")
    assert written == json.dumps({term: number for number, term in enumerate(terms)}, ensure_ascii=False)


def work_with(folder: Path, ram_bytes: int | None) -> BuildWork:
    shards = [Shard(number=0, first=0, count=2), Shard(number=1, first=2, count=1)]
    builder = BM25sBuilder(BM25Settings())
    work = BuildWork(
        folder=folder,
        parts=folder,
        shards=shards,
        num_passages=3,
        ram_bytes=ram_bytes,
        progress=lambda stage, done, total: None,
        marks=Marks(folder / "marks"),
    )
    builder.build_part(["cats sleep", "dogs"], work.part(shards[0]))
    builder.build_part(["cats run"], work.part(shards[1]))
    return work


def hold(monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    """Let the process hold `held` bytes throughout: what other tests left is freed at moments of its own choosing."""
    for module in ("retrieval.sparse.posting_merge", "retrieval.build.memory"):
        monkeypatch.setattr(f"{module}.resident_bytes", lambda: held)


def test_the_buffer_for_postings_takes_what_the_bound_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, free = resident_bytes(), 400_000_000
    hold(monkeypatch, held)
    work = work_with(tmp_path, held + free)
    assert buffered_postings(work, 10**9, 7) == pytest.approx(free / 8, rel=0.5)
    assert buffered_postings(work, 5, 7) == 5
    assert buffered_postings(work_with(tmp_path, None), 10**9, 7) == 7


def test_a_bound_without_room_is_refused_with_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = resident_bytes()
    hold(monkeypatch, held)
    with pytest.raises(ValueError, match=r"has no room for a buffer for scored postings: at least \d\.\d is needed"):
        buffered_postings(work_with(tmp_path, held + 1_000_000), 10**9, 7)
    with pytest.raises(ValueError, match=r"has no room for the vocabulary, 3 terms so far,.*the build goes on"):
        join_vocabularies(work_with(tmp_path, 1_000_000), tmp_path / "vocabulary")
