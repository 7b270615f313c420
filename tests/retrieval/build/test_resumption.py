"""When a build goes on with what an earlier one has left, when it begins anew, and what it says about it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retrieval.backends import BACKENDS
from retrieval.corpus import CorpusError
from retrieval.index import build_index, open_index
from tests.retrieval.build import fake_backend
from tests.retrieval.build.corpora import data_files, write_corpus


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Build `tmp_path/index` of `tmp_path/c.jsonl` with the fake backend; gives the notices."""
    monkeypatch.setitem(BACKENDS, "fake", "tests.retrieval.build.fake_backend:FAKE")
    monkeypatch.setattr(fake_backend, "built", [])
    monkeypatch.setattr(fake_backend, "fault", None)

    def run(**options: Any) -> list[str]:
        notices: list[str] = []
        options = {"backend": "fake", "shard_size": 10, "notice": notices.append} | options
        build_index(tmp_path / "c.jsonl", tmp_path / "index", **options)
        return notices

    return run


def broken_off(build: Callable[..., list[str]], at: str, **options: Any) -> None:
    """A build that ends with an error of the operating system at a part or at the merge; nothing is logged of it."""
    fake_backend.fault = at
    with pytest.raises(OSError, match="the cable is out"):
        build(**options)
    fake_backend.fault = None
    fake_backend.built.clear()


def test_a_build_goes_on_behind_the_last_shard_that_was_finished(build: Any, tmp_path: Path) -> None:
    write_corpus(tmp_path / "c.jsonl", 45)
    broken_off(build, "part of p30")
    assert "3 of 5 shards were there already" in build()
    assert fake_backend.built == ["p30", "p40"]
    assert (tmp_path / "index" / "texts").read_text().count("\n") == 45


def test_only_the_merge_is_done_again_where_the_merge_failed(build: Any, tmp_path: Path) -> None:
    write_corpus(tmp_path / "c.jsonl", 45)
    broken_off(build, "merge")
    assert "5 of 5 shards were there already" in build()
    assert fake_backend.built == []


def test_not_even_the_merge_is_done_again_where_it_was_finished(build: Any, tmp_path: Path, monkeypatch: Any) -> None:
    write_corpus(tmp_path / "c.jsonl", 45)

    def no_cable(*_: object) -> dict[str, str]:
        raise OSError("the cable is out")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="the cable is out"):
        patched.setattr("retrieval.index.file_checksums", no_cable)
        build()
    fake_backend.fault = "merge"
    build()
    assert open_index(tmp_path / "index").num_passages == 45


@pytest.mark.parametrize(
    ("options", "field"), [({"settings": {"suffix": "!"}}, "settings"), ({"shard_size": 9}, "shard_size")]
)
def test_a_build_with_other_settings_begins_anew_and_says_why(
    build: Any, tmp_path: Path, options: dict[str, Any], field: str
) -> None:
    write_corpus(tmp_path / "c.jsonl", 45)
    broken_off(build, "merge")
    [notice] = build(**options)
    assert notice.endswith(f"it is cleared away: its {field} differ") and len(fake_backend.built) == 5


def test_a_build_begins_anew_on_demand(build: Any, tmp_path: Path) -> None:
    write_corpus(tmp_path / "c.jsonl", 45)
    broken_off(build, "merge")
    [notice] = build(resume=False)
    assert "a resume was not wanted" in notice and len(fake_backend.built) == 5


def test_shards_before_a_change_of_the_corpus_are_kept_and_those_behind_it_are_not(build: Any, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 45)
    broken_off(build, "merge")
    lines = corpus.read_text().splitlines()
    lines[25] = lines[25].replace("p25", "changed")
    corpus.write_text("\n".join(lines) + "\n")
    assert "2 of 5 shards were there already" in build()
    assert fake_backend.built == ["p20", "p30", "p40"]
    assert "changed" in open_index(tmp_path / "index") and "p25" not in open_index(tmp_path / "index")


def test_a_corpus_that_became_shorter_leaves_no_part_behind(build: Any, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 45)
    broken_off(build, "merge")
    corpus.write_text("".join(corpus.read_text().splitlines(keepends=True)[:20]))
    assert "2 of 2 shards were there already" in build()
    assert fake_backend.built == [] and (tmp_path / "index" / "texts").read_text().count("\n") == 20


def test_what_was_merged_of_another_corpus_is_merged_again_also_if_a_reading_was_broken_off_in_between(
    build: Any, tmp_path: Path
) -> None:
    """All parts of the shorter corpus are there, and so are the marks of the longer one's merge."""
    corpus = write_corpus(tmp_path / "c.jsonl", 45)
    broken_off(build, "end of the merge")
    corpus.write_text("".join(corpus.read_text().splitlines(keepends=True)[:20]))

    def unplug(stage: str, done: int, total: int | None) -> None:
        raise OSError("the cable is out")

    with pytest.raises(OSError, match="the cable is out"):
        build(progress=unplug)
    assert "2 of 2 shards were there already" in build()
    assert (tmp_path / "index" / "texts").read_text().count("\n") == 20


def test_a_merge_of_the_same_corpus_is_gone_on_with_also_if_a_reading_was_broken_off_in_between(
    build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 45)
    broken_off(build, "end of the merge")
    corpus.write_bytes(corpus.read_bytes())
    marks = tmp_path / ".index.building" / ".build" / "marks"
    before = (marks / "merge.joined").stat().st_mtime_ns
    seen = []
    monkeypatch.setattr(fake_backend, "at_merge", lambda: seen.append((marks / "merge.joined").stat().st_mtime_ns))
    build()
    assert seen == [before]


def test_a_corpus_of_the_same_size_and_time_that_was_written_again_is_read_again(build: Any, tmp_path: Path) -> None:
    import os

    corpus = write_corpus(tmp_path / "c.jsonl", 45)
    broken_off(build, "merge")
    times = corpus.stat()
    corpus.write_text(corpus.read_text().replace('"p44"', '"q44"'))
    os.utime(corpus, ns=(times.st_atime_ns, times.st_mtime_ns))
    build()
    assert "q44" in open_index(tmp_path / "index")


def test_a_broken_line_costs_no_finished_shard(build: Any, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 45)
    whole = corpus.read_text()
    corpus.write_text(whole + "{broken\n")
    with pytest.raises(CorpusError, match="line 46"):
        build()
    corpus.write_text(whole)
    fake_backend.built.clear()
    assert "4 of 5 shards were there already" in build() and fake_backend.built == ["p40"]


def test_a_build_that_finished_nothing_leaves_nothing(build: Any, tmp_path: Path) -> None:
    write_corpus(tmp_path / "c.jsonl", 45)
    broken_off(build, "part of p0")
    assert [path.name for path in tmp_path.iterdir()] == ["c.jsonl"]


def test_the_old_index_stays_until_the_new_one_stands(build: Any, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 20)
    build()
    before = data_files(tmp_path / "index")
    write_corpus(corpus, 45)
    broken_off(build, "merge", overwrite=True)
    assert data_files(tmp_path / "index") == before
    assert "5 of 5 shards were there already" in build(overwrite=True)
    assert open_index(tmp_path / "index").num_passages == 45


def test_a_shard_of_long_passages_ends_early(build: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("retrieval.build.reading.MAX_SHARD_CHARACTERS", 60)
    write_corpus(tmp_path / "c.jsonl", 45)
    build()
    assert len(fake_backend.built) > 10
    assert (tmp_path / "index" / "texts").read_text().count("\n") == 45
