"""Reading the corpus of a build: a file that changes meanwhile, reading all of it first, and what is told when."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retrieval.backends import BACKENDS
from retrieval.corpus import CorpusError
from retrieval.index import build_index, open_index
from tests.retrieval.build import fake_backend
from tests.retrieval.build.corpora import data_files, write_corpus

FAKES = {
    "fake": "tests.retrieval.build.fake_backend:FAKE",
    "fake_reading_first": "tests.retrieval.build.fake_backend:FAKE_READING_FIRST",
}


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, place in FAKES.items():
        monkeypatch.setitem(BACKENDS, name, place)
    monkeypatch.setattr(fake_backend, "built", [])
    monkeypatch.setattr(fake_backend, "fault", None)
    monkeypatch.setattr("retrieval.build.reading._REPORT_EVERY", 1)


def replaced(corpus: Path) -> None:
    """Another file takes the place of the corpus; who has opened the old one reads on in that."""
    write_corpus(corpus.with_name("new.jsonl"), 45, seed=1).replace(corpus)


def written_again(corpus: Path) -> None:
    """The file keeps its inode, and gets other content of the same length."""
    corpus.write_text(corpus.read_text().replace("Title", "Other"))


def grown(corpus: Path) -> None:
    with corpus.open("a") as file:
        file.write(json.dumps({"id": "late", "text": "late"}) + "\n")


@pytest.mark.parametrize("backend", FAKES)
@pytest.mark.parametrize("change", [replaced, written_again, grown])
@pytest.mark.parametrize("at", [0, 25, 45])
def test_a_corpus_that_changes_while_it_is_read_is_told_and_never_indexed_by_halves(
    tmp_path: Path, backend: str, change: Callable[[Path], None], at: int
) -> None:
    """At 0 no line has been read, at 45 every line has, and the mark that says so is not yet written."""
    corpus = write_corpus(tmp_path / "c.jsonl", 45)
    moments = []

    def meanwhile(stage: str, done: int, total: int | None) -> None:
        if stage == "reading passages" and done == at and not moments:
            moments.append(done)
            change(corpus)

    with pytest.raises(CorpusError, match=r"c\.jsonl: the file was changed while it was read; build again"):
        build_index(corpus, tmp_path / "index", backend=backend, shard_size=10, progress=meanwhile)
    assert moments == [at] and not (tmp_path / "index").exists()
    build_index(corpus, tmp_path / "index", backend=backend, shard_size=10)
    build_index(corpus, tmp_path / "whole", backend=backend, shard_size=10)
    assert data_files(tmp_path / "index") == data_files(tmp_path / "whole")


def test_a_corpus_that_is_linked_and_gets_other_rights_while_it_is_read_is_the_same(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 45)
    before = corpus.stat()

    def meanwhile(stage: str, done: int, total: int | None) -> None:
        if stage == "reading passages" and done == 0:
            time.sleep(0.02)  # the clock of the file system has steps
            (tmp_path / "backup").hardlink_to(corpus)
            corpus.chmod(0o640)

    build_index(corpus, tmp_path / "index", backend="fake", shard_size=10, progress=meanwhile)
    assert corpus.stat().st_ctime_ns > before.st_ctime_ns and corpus.stat().st_mtime_ns == before.st_mtime_ns
    assert open_index(tmp_path / "index").num_passages == 45


def test_a_corpus_that_changed_after_a_kill_is_read_again_whatever_was_read_of_it(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 45)
    for backend in FAKES:
        fake_backend.fault = "merge"
        with pytest.raises(OSError, match="the cable is out"):
            build_index(corpus, tmp_path / backend, backend=backend, shard_size=10)
        written_again(corpus) if backend == "fake" else replaced(corpus)
        fake_backend.fault = None
        build_index(corpus, tmp_path / backend, backend=backend, shard_size=10)
        expected = [json.loads(line)["title"] for line in corpus.read_text().splitlines()]
        assert [passage.title for passage in open_index(tmp_path / backend).passages()] == expected


def test_a_file_that_went_away_and_a_broken_line_of_a_changed_one_are_told_as_such(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 45)

    def breaks(stage: str, done: int, total: int | None) -> None:
        if done == 0:
            corpus.write_text("{")

    with pytest.raises(CorpusError, match="changed while it was read"):
        build_index(corpus, tmp_path / "index", backend="fake", progress=breaks)
    write_corpus(corpus, 45)
    with pytest.raises(CorpusError, match=r"c\.jsonl: the file is gone; put it back"):
        build_index(corpus, tmp_path / "index", backend="fake", progress=lambda *_: corpus.unlink(missing_ok=True))


def test_where_shards_take_long_all_lines_are_read_before_the_first_is_built(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 45)
    whole = corpus.read_text()
    unwanted = json.dumps({"id": "unwanted", "text": "x"})
    for line, told in (("{broken", "line 46: not JSON"), (unwanted, "line 46: passage 'unwanted' must not be here")):
        corpus.write_text(f"{whole}{line}\n")
        with pytest.raises(CorpusError, match=told):
            build_index(corpus, tmp_path / "index", backend="fake_reading_first", shard_size=10)
        assert fake_backend.built == []
    write_corpus(corpus, 13)
    with pytest.raises(ValueError, match="13 passages bring bad luck"):
        build_index(corpus, tmp_path / "index", backend="fake_reading_first", shard_size=10)
    assert fake_backend.built == []
    corpus.write_text(whole)
    for backend in FAKES:
        build_index(corpus, tmp_path / backend, backend=backend, shard_size=10)
    assert data_files(tmp_path / "fake") == data_files(tmp_path / "fake_reading_first")


def test_a_build_that_goes_on_says_what_is_there_before_it_builds_the_rest(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 45)
    options: dict[str, Any] = {"backend": "fake_reading_first", "shard_size": 10}
    fake_backend.fault = "part of p30"
    with pytest.raises(OSError, match="the cable is out"):
        build_index(corpus, tmp_path / "index", **options)
    fake_backend.fault = None
    os.utime(corpus)  # the reading is done again, too
    events: list[str] = []
    build_index(
        corpus,
        tmp_path / "index",
        **options,
        notice=events.append,
        progress=lambda stage, done, total: events.append(f"{stage} {done}/{total}"),
    )
    assert events[0].startswith("going on") and events[1] == "reading passages 0/None"
    said = events.index("3 of 5 shards were there already")
    assert events[said - 1] == "reading passages 45/45"
    assert events[said + 1 : said + 4] == [f"copying passages {done}/45" for done in (30, 40, 45)]
