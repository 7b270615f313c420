"""What a dry run says is what the build then takes; and it leaves nothing behind."""

import gzip
import json
from pathlib import Path
from random import Random

import pytest

from retrieval.backends import BACKENDS
from retrieval.build.memory import in_words
from retrieval.index import build_index, forecast_index
from tests.retrieval.build import fake_backend
from tests.retrieval.build.corpora import data_files, write_corpus


@pytest.mark.parametrize("packed", [False, True])
def test_the_disk_that_a_forecast_names_is_what_the_index_takes(
    tmp_path: Path, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.build.forecast.SAMPLE_PASSAGES", 2000)
    corpus = write_corpus(tmp_path / "c.jsonl", 12_000)
    if packed:
        corpus = tmp_path / "c.jsonl.gz"
        corpus.write_bytes(gzip.compress((tmp_path / "c.jsonl").read_bytes()))
    needs = forecast_index(corpus, tmp_path / "index")
    assert not (tmp_path / "index").exists() and not list(tmp_path.glob(".*"))
    assert needs.sampled == 2000 and (needs.num_passages, needs.counted) == (12_000, True)
    build_index(corpus, tmp_path / "index")
    assert needs.disk_bytes == pytest.approx(sum(map(len, data_files(tmp_path / "index").values())), rel=0.15)
    assert needs.peak_disk_bytes > needs.disk_bytes and needs.fits_the_disk
    assert needs.seconds > 0 and needs.ram_bytes > 50e6 and "postings" in needs.details


@pytest.mark.parametrize("packed", [False, True])
def test_a_large_corpus_is_estimated_from_the_share_that_was_read(
    tmp_path: Path, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.build.forecast.SAMPLE_PASSAGES", 500)
    monkeypatch.setattr("retrieval.build.forecast._TELLING_BYTES", 1 << 20)
    path = tmp_path / ("c.jsonl.gz" if packed else "c.jsonl")
    random = Random(0)
    rows = [json.dumps({"id": f"p{i}", "text": random.randbytes(400).hex()}) for i in range(20_000)]
    content = "\n".join(rows).encode()
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    needs = forecast_index(path, tmp_path / "index")
    assert not needs.counted and needs.num_passages == pytest.approx(20_000, rel=0.15)


def test_a_forecast_adds_what_reading_takes_to_what_the_backend_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKENDS, "fake", "tests.retrieval.build.fake_backend:FAKE")
    corpus = write_corpus(tmp_path / "c.jsonl", 200)
    one = forecast_index(corpus, tmp_path / "index", backend="fake")
    four = forecast_index(corpus, tmp_path / "index", backend="fake", workers=4)
    assert one.details["sample"] == "200"
    assert 1400 < one.seconds < 1410 and 1100 < four.seconds < 1110
    assert four.ram_bytes > 4 * one.ram_bytes
    assert one.peak_disk_bytes - one.disk_bytes == 10 * 200 and one.disk_bytes > 10 * 200


def test_a_forecast_refuses_what_the_build_would_refuse(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 20)
    build_index(corpus, tmp_path / "index")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match="exists and is not an index"):
        forecast_index(corpus, tmp_path / "mine")
    assert forecast_index(corpus, tmp_path / "index").replaces
    assert not forecast_index(corpus, tmp_path / "other").replaces
    with pytest.raises(ValueError, match="has no setting kk1"):
        forecast_index(corpus, tmp_path / "other", settings={"kk1": 1})
    with pytest.raises(FileNotFoundError, match="no corpus at"):
        forecast_index(tmp_path / "none.jsonl", tmp_path / "other")


def test_a_forecast_says_what_an_unfinished_build_has_left_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKENDS, "fake", "tests.retrieval.build.fake_backend:FAKE")
    monkeypatch.setattr(fake_backend, "fault", "part of p150")
    corpus = write_corpus(tmp_path / "c.jsonl", 200)
    with pytest.raises(OSError, match="the cable is out"):
        build_index(corpus, tmp_path / "index", backend="fake", shard_size=10)
    needs = forecast_index(corpus, tmp_path / "index", backend="fake", shard_size=10)
    assert needs.unfinished is not None and needs.unfinished.differences == ()
    assert (needs.unfinished.passages, needs.unfinished.corpus_is_read) == (150, False)
    assert 1400 < needs.seconds < 1410 and 1100 < needs.seconds_left < 1110, "2 s a passage, 1000 s to merge"
    monkeypatch.setattr(fake_backend, "fault", "merge")
    with pytest.raises(OSError, match="the cable is out"):
        build_index(corpus, tmp_path / "index", backend="fake", shard_size=10)
    needs = forecast_index(corpus, tmp_path / "index", backend="fake", shard_size=10)
    assert needs.unfinished is not None and needs.unfinished.corpus_is_read and needs.unfinished.passages == 200
    assert 1000 < needs.seconds_left < 1010 and not needs.unfinished.is_merged
    other = forecast_index(corpus, tmp_path / "index", backend="fake", shard_size=11)
    assert other.unfinished is not None and other.unfinished.differences == ("shard_size",)
    assert other.seconds_left == other.seconds


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (2_345, "2.3 kB"),
        (99_900_000, "99.9 MB"),
        (1_234_567_890_000, "1,234.57 GB"),
    ],
)
def test_amounts_are_said_in_the_unit_that_shows_them(amount: int, words: str) -> None:
    assert in_words(amount) == words


def test_fewer_workers_are_taken_where_memory_is_short(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 60)
    from retrieval.build.memory import GB, resident_bytes

    notices: list[str] = []
    ram_gb = resident_bytes() * 1.5 / GB + 0.1
    build_index(corpus, tmp_path / "index", workers=64, ram_gb=ram_gb, notice=notices.append)
    assert len(notices) == 1 and "has room for 1 of 64 workers" in notices[0]


def test_a_forecast_counts_what_the_lookups_of_ids_and_titles_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKENDS, "fake", "tests.retrieval.build.fake_backend:FAKE")
    corpus = write_corpus(tmp_path / "c.jsonl", 200)
    monkeypatch.setattr("retrieval.build.forecast.resident_bytes", lambda: 0)
    sorted_at_once = forecast_index(corpus, tmp_path / "index", backend="fake")
    monkeypatch.setattr("retrieval.build.lookup_writer.RUN_PAIRS", 50)
    in_runs = forecast_index(corpus, tmp_path / "index", backend="fake")
    assert sorted_at_once.ram_bytes - in_runs.ram_bytes == 2 * 150 * 64
    assert sorted_at_once.disk_bytes == in_runs.disk_bytes
    assert in_runs.peak_disk_bytes - in_runs.disk_bytes == 2 * 16 * 200, "more than the parts and the merged files"
    build_index(corpus, tmp_path / "index", backend="fake")
    lookups = sum(path.stat().st_size for path in (tmp_path / "index").glob("passages.*_*.npy"))
    assert in_runs.disk_bytes > lookups == 2 * 12 * 200 + 4 * 128
