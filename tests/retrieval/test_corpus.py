import gzip
import json
import lzma
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from retrieval import id_ledger
from retrieval.corpus import CorpusError, CorpusReader, read_corpus
from retrieval.id_ledger import IdLedger
from retrieval.passage import Passage

ROWS = [{"id": "p1", "title": "Ada", "text": "Ada wrote notes."}, {"id": "p2", "title": "", "text": "Ein Fluß\nzwei"}]
PASSAGES = [Passage(id="p1", title="Ada", text="Ada wrote notes."), Passage(id="p2", title="", text="Ein Fluß\nzwei")]


def jsonl(rows: list[dict]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def refusal(path: Path) -> CorpusError:
    with pytest.raises(CorpusError) as caught:
        list(read_corpus(path))
    return caught.value


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("c.jsonl", bytes),
        ("c.jsonl.gz", gzip.compress),
        ("c.jsonl.xz", lzma.compress),
        ("c.jsonl.zst", zstandard.compress),
    ],
)
def test_a_corpus_reads_the_same_however_it_is_packed(tmp_path: Path, name: str, pack) -> None:
    assert list(read_corpus(write(tmp_path / name, pack(jsonl(ROWS))))) == PASSAGES


def test_a_packed_file_of_several_frames_is_read_to_its_end(tmp_path: Path) -> None:
    frames = b"".join(zstandard.compress(jsonl([row])) for row in ROWS)
    assert list(read_corpus(write(tmp_path / "c.jsonl.zst", frames))) == PASSAGES


@pytest.mark.parametrize(
    ("row", "passage"),
    [
        ({"_id": "7", "title": "T", "text": "x"}, Passage(id="7", title="T", text="x")),
        ({"_id": "7", "title": "T", "text": "x", "metadata": {}}, Passage(id="7", title="T", text="x")),
        ({"id": "0", "contents": '"Aaron"\nA man.\nTwo.'}, Passage(id="0", title="Aaron", text="A man.\nTwo.")),
        ({"id": "0", "contents": '"A "B" C"\nx'}, Passage(id="0", title='A "B" C', text="x")),
        ({"id": "0", "contents": "no title\nhere"}, Passage(id="0", title="", text="no title\nhere")),
        ({"id": "0", "title": "Cats", "contents": "They sleep."}, Passage(id="0", title="Cats", text="They sleep.")),
        ({"id": "0", "title": "Cats", "contents": '"Cats"\nThey.'}, Passage(id="0", title="Cats", text="They.")),
        ({"id": "0", "title": "Cats", "contents": "Cats\nThey."}, Passage(id="0", title="Cats", text="They.")),
        ({"id": "0", "title": "Cats", "contents": '"B"\nx'}, Passage(id="0", title="Cats", text='"B"\nx')),
        ({"id": "0", "title": "", "contents": '"Cats"\nThey.'}, Passage(id="0", title="Cats", text="They.")),
        ({"id": "0", "title": None, "contents": '"Cats"\nThey.'}, Passage(id="0", title="Cats", text="They.")),
        ({"id": "0", "contents": '"only a quote"'}, Passage(id="0", title="", text='"only a quote"')),
        ({"id": 12, "text": "x"}, Passage(id="12", title="", text="x")),
        ({"id": "1", "title": None, "text": ""}, Passage(id="1", title="", text="")),
    ],
)
def test_every_dialect_gives_the_same_passage_type(tmp_path: Path, row: dict, passage: Passage) -> None:
    assert list(read_corpus(write(tmp_path / "c.jsonl", jsonl([row])))) == [passage]


def test_a_beir_folder_is_read_by_its_corpus_file(tmp_path: Path) -> None:
    write(tmp_path / "corpus.jsonl", jsonl([{"_id": "7", "title": "T", "text": "x"}]))
    write(tmp_path / "queries.jsonl", b"{}")
    assert [passage.id for passage in read_corpus(tmp_path)] == ["7"]


def test_a_folder_with_two_corpora_must_be_named_by_file(tmp_path: Path) -> None:
    write(tmp_path / "corpus.jsonl", jsonl(ROWS))
    write(tmp_path / "corpus.jsonl.gz", gzip.compress(jsonl(ROWS)))
    assert "name the one to read" in str(refusal(tmp_path))


def test_blank_lines_and_a_byte_order_mark_are_no_passages(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + jsonl(ROWS[:1]) + b"\n  \n" + jsonl(ROWS[1:])
    assert list(read_corpus(write(tmp_path / "c.jsonl", content))) == PASSAGES


def test_a_missing_corpus_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no corpus at .*none\.jsonl; give a \.jsonl file"):
        list(read_corpus(tmp_path / "none.jsonl"))
    with pytest.raises(FileNotFoundError, match=r"it should hold one of corpus\.jsonl"):
        list(read_corpus(tmp_path))


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_corpus_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "the corpus is empty" in str(refusal(write(tmp_path / "c.jsonl", content)))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id": "p3", "text": "cut', "not JSON"),
        (b"[1, 2]", "a JSON list, not an object"),
        (b'{"id": "p3", "body": "x"}', r"has the keys ['body', 'id']; a passage is {id, title, text}"),
        (b'{"id": "p3", "text": 5}', "text is a int; it must be a string"),
        (b'{"id": "p3", "contents": null}', "text is a NoneType"),
        (b'{"id": "", "text": "x"}', "id is empty"),
        (b'{"id": true, "text": "x"}', "id is a bool"),
        (b'{"id": "p3", "text": "\xff"}', "not UTF-8"),
        (b'{"id": "p3", "text": "\\ud800"}', "half a surrogate pair"),
        (b'{"id": "p1", "text": "again"}', "id 'p1' was already used in line 1"),
        (b"[" * 100_000, "not a flat JSON object"),
    ],
)
def test_a_broken_line_is_told_with_file_and_line(tmp_path: Path, line: bytes, message: str) -> None:
    path = write(tmp_path / "c.jsonl", jsonl(ROWS) + b"\n" + line + b"\n")
    error = refusal(path)
    assert error.line == 4 and str(error).startswith(f"{path}, line 4: ") and message in str(error)


@pytest.mark.parametrize(
    ("name", "pack"), [("c.gz", gzip.compress), ("c.xz", lzma.compress), ("c.zst", zstandard.compress)]
)
def test_a_cut_off_packed_file_is_not_taken_for_a_short_corpus(tmp_path: Path, name: str, pack) -> None:
    rows = [{"id": str(i), "text": f"{i * i * 7919}" * 20} for i in range(2000)]
    packed = pack(jsonl(rows))
    error = refusal(write(tmp_path / name, packed[: len(packed) // 2]))
    assert "cut off" in str(error) or "not JSON" in str(error)
    assert 0 < error.line < 2001


def test_a_file_that_is_not_packed_as_its_name_says_is_refused(tmp_path: Path) -> None:
    assert "its name has the wrong ending" in str(refusal(write(tmp_path / "c.jsonl.gz", jsonl(ROWS))))


def test_a_repeated_id_is_found_far_away_and_named_with_both_lines(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(id_ledger, "_BLOCK", 4)
    rows = [{"id": f"p{i}", "text": "x"} for i in range(50)] + [{"id": "p2", "text": "x"}]
    error = refusal(write(tmp_path / "c.jsonl", jsonl(rows)))
    assert "id 'p2' was already used in line 3" in str(error) and error.line == 51


def test_two_ids_that_share_a_hash_are_no_repeat(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("retrieval.corpus.id_hash", lambda passage_id: 7)
    rows = [{"id": f"p{i}", "text": "x"} for i in range(3)]
    assert len(list(read_corpus(write(tmp_path / "c.jsonl", jsonl(rows))))) == 3


@given(st.lists(st.integers(0, 40), max_size=120))
def test_the_ledger_finds_a_repeat_exactly_where_there_is_one(hashes: list[int]) -> None:
    block, id_ledger._BLOCK = id_ledger._BLOCK, 5
    try:
        ledger = IdLedger()
        told = [repeat for hashed in hashes for repeat in ledger.add(hashed)] + ledger.settle()
    finally:
        id_ledger._BLOCK = block
    assert set(told) == {hashed for hashed in hashes if hashes.count(hashed) > 1}


def test_the_reader_tells_how_far_it_is(tmp_path: Path) -> None:
    rows = [{"id": str(i), "text": "word " * 50} for i in range(5000)]
    reader = CorpusReader(write(tmp_path / "c.jsonl.gz", gzip.compress(jsonl(rows))))
    shares = [reader.share_read for _ in reader]
    assert shares == sorted(shares) and 0 < shares[0] <= shares[-1] <= 1


@pytest.mark.parametrize("line_break", ["\n", "\r\n", ""])
def test_the_column_of_a_broken_line_is_counted_in_that_line(tmp_path: Path, line_break: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(('{"id": "x", "text": ' + line_break).encode())
    with pytest.raises(CorpusError, match=r"line 1: not JSON \(Expecting value at column 21\)"):
        list(read_corpus(path))


def test_what_an_id_may_be_is_said(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"id": 7, "text": "whole numbers are allowed"}\n{"id": 7.5, "text": "x"}\n')
    passages = read_corpus(path)
    assert next(passages).id == "7"
    with pytest.raises(CorpusError, match="line 2: id is a float; it must be a string or a whole number"):
        next(passages)
