"""Whatever bytes a corpus file holds, its reader gives passages or says in which line it cannot."""

import gzip
import json
import lzma
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from retrieval.corpus import CorpusError, _passage, _plain_passage, read_corpus
from retrieval.passage import Passage
from retrieval.passage_store import PassageStore, PassageWriter, line_of_passage, passage_of_line

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".jsonl": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text()
    | st.text(st.characters(min_codepoint=0xD7F0, max_codepoint=0xE010)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(["id", "_id", "title", "text", "contents", "other"])
rows = st.dictionaries(keys, json_values | st.text(), max_size=6) | json_values
texts = st.text(st.characters(exclude_categories=["Cs"]))
passages = st.lists(
    st.builds(Passage, id=texts.filter(bool), title=texts, text=texts),
    min_size=1,
    max_size=12,
    unique_by=lambda p: p.id,
)


def read(content: bytes, suffix: str) -> list[Passage] | CorpusError:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"corpus{suffix}"
        path.write_bytes(content)
        try:
            return list(read_corpus(path))
        except CorpusError as error:
            assert str(path) in str(error) and error.line >= 0
            return error


@pytest.mark.parametrize("suffix", PACKERS)
@QUICK
@given(content=st.binary(max_size=300))
@example(content=b"")
@example(content=b"\xef\xbb\xbf")
@example(content=b"\x28\xb5\x2f\xfd")
@example(content=b'\xef\xbb\xbf{"id": "a", "text": "x"}')
@example(content=b'{"id": "a", "text": "x"}\n \t\r\n{"id": "b", "text": ""}\n\n')
@example(content=b'{"id": "a", "text": "x"}\n\xff\n')
def test_any_bytes_are_read_line_for_line_or_refused(suffix: str, content: bytes) -> None:
    """A file is never read in part, nor as nothing: so many lines, so many passages; packing changes neither."""
    found = read(PACKERS[suffix](content), suffix)
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if isinstance(found, list):
        assert len(found) == sum(bool(line.decode("utf-8").strip()) for line in lines) > 0
    else:
        assert found.line <= len(lines)
        plain = read(content, ".jsonl")
        assert isinstance(plain, CorpusError) and plain.line == found.line
    if suffix != ".jsonl":
        assert isinstance(read(content, suffix), CorpusError), "what is not packed is not taken for a packed file"


@QUICK
@given(
    rows=st.lists(st.tuples(texts.filter(bool), texts), max_size=8, unique_by=lambda row: row[0]),
    broken=st.none() | st.integers(0, 8),
)
def test_a_corpus_is_read_whole_or_refused_at_its_first_broken_line(
    rows: list[tuple[str, str]], broken: int | None
) -> None:
    lines = [json.dumps({"id": name, "text": text}) for name, text in rows]
    if broken is not None:
        lines.insert(broken, '{"id": "broken", "text": ')
    found = read("\n".join(lines).encode(), ".jsonl")
    if broken is not None:
        assert isinstance(found, CorpusError) and found.line == min(broken, len(rows)) + 1
    elif not rows:
        assert isinstance(found, CorpusError) and "the corpus is empty" in str(found)
    else:
        assert isinstance(found, list) and [(passage.id, passage.text) for passage in found] == rows


@QUICK
@given(lines=st.lists(rows, max_size=8), ascii_only=st.booleans())
def test_any_json_lines_are_read_or_refused(lines: list[object], ascii_only: bool) -> None:
    content = "".join(json.dumps(line, ensure_ascii=ascii_only) + "\n" for line in lines)
    found = read(content.encode("utf-8", "surrogatepass"), ".jsonl")
    if isinstance(found, list):
        assert len(found) == len(lines) and all(passage.id for passage in found)


@settings(max_examples=400, deadline=None)
@given(row=rows, ascii_only=st.booleans())
@example(row={"id": "a", "text": "x", "title": None}, ascii_only=True)
@example(row={"id": 2**66, "text": "x"}, ascii_only=True)
@example(row={"id": "a", "text": "\ud800"}, ascii_only=True)
def test_the_quick_reader_of_a_line_says_nothing_that_the_careful_one_does_not(row: object, ascii_only: bool) -> None:
    line = json.dumps(row, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    quick = _plain_passage(line)
    if quick is not None:
        assert quick == _passage(Path("c"), 1, line.decode("utf-8"))


@pytest.mark.parametrize("suffix", PACKERS)
@QUICK
@given(
    corpus=passages, dialect=st.sampled_from(["plain", "beir", "contents"]), blank=st.sampled_from(["", "\n", " \t\n"])
)
def test_passages_come_back_from_every_dialect_and_packing(
    suffix: str, corpus: list[Passage], dialect: str, blank: str
) -> None:
    lines = []
    for p in corpus:
        row = {"id": p.id, "title": p.title, "text": p.text}
        if dialect == "beir":
            row = {"_id": p.id, "title": p.title, "text": p.text, "metadata": {}}
        elif dialect == "contents":
            row = {"id": p.id, "contents": f'"{p.title}"\n{p.text}'}
        lines.append(blank + json.dumps(row, ensure_ascii=len(p.text) % 2 == 0) + "\n")
    expected = corpus
    if dialect == "contents":  # a title of several lines cannot be told from the text
        expected = [passage for passage in corpus if "\n" not in passage.title]
    found = read(PACKERS[suffix]("".join(lines).encode()), suffix)
    assert isinstance(found, list), found
    assert [passage for passage in found if passage.id in {p.id for p in expected}] == expected


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
@QUICK
@given(place=st.integers(0, 10_000), flip=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_packed_file_is_refused_or_harmless(suffix: str, place: int, flip: int, cut: bool) -> None:
    rows = "".join(json.dumps({"id": f"p{i}", "text": f"{i * 7919} words"}) + "\n" for i in range(60)).encode()
    packed = bytearray(PACKERS[suffix](rows))
    place %= len(packed)
    if cut:
        assert isinstance(read(bytes(packed[:place]), suffix), CorpusError)
    else:
        packed[place] ^= flip
        read(bytes(packed), suffix)


@QUICK
@given(corpus=passages)
def test_the_store_gives_back_what_was_written_and_writes_what_json_would(corpus: list[Passage]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with PassageWriter(Path(folder)) as writer:
            for passage in corpus:
                writer.add(passage)
            writer.finish()
        store = PassageStore(Path(folder))
        assert list(store) == corpus and [store.find(passage.id) for passage in corpus] == corpus
        store.close()
    for passage in corpus:
        row = {"id": passage.id, "title": passage.title, "text": passage.text}
        line = line_of_passage(passage)
        assert line == (json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
        assert passage_of_line(line) == passage
