"""Shards on a real Ray, started on this machine: the same files, and a broken-off build goes on there."""

from pathlib import Path

import pytest

from retrieval.build.ray_shards import part_of
from retrieval.index import build_index
from tests.retrieval.build.corpora import data_files, write_corpus


@pytest.mark.slow
def test_a_build_on_ray_writes_the_files_of_one_on_this_process_and_goes_on_after_a_fault(tmp_path: Path) -> None:
    import ray

    corpus = write_corpus(tmp_path / "c.jsonl", 300)
    build_index(corpus, tmp_path / "here")

    def pull_the_plug(stage: str, done: int, total: int | None) -> None:
        if stage == "indexing passages" and done >= 120:
            raise ConnectionError("the plug is out")

    with pytest.raises(ConnectionError, match="the plug is out"):
        build_index(corpus, tmp_path / "index", ray_address="local", shard_size=40, progress=pull_the_plug)
    assert not ray.is_initialized(), "a Ray that the build has started must end with it"
    notices: list[str] = []
    build_index(corpus, tmp_path / "index", ray_address="local", shard_size=40, notice=notices.append)
    assert any("of 8 shards were there already" in notice for notice in notices)
    assert data_files(tmp_path / "index") == data_files(tmp_path / "here")


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_told(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 5)
    with pytest.raises(ConnectionError, match="Ray"):
        build_index(corpus, tmp_path / "index", ray_address="auto")
    assert not (tmp_path / "index").exists()


def test_a_part_travels_as_its_files() -> None:
    [(name, content)] = part_of("bm25s", "{}", ["cats sleep", "dogs"])
    assert name == "" and b"cat\nsleep\ndog" in content
