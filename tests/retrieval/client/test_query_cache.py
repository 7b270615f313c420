import json
import pickle
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from retrieval.client.http_retriever import query_cache
from retrieval.client.query_cache import DiskCache, MemoryCache, query_key
from retrieval.passage import Hit, Passage

HITS = [Hit(passage=Passage(id="1", title="ü", text="a\nb"), score=0.1 + 0.2, rank=1)]


def test_memory_keeps_the_last_ones_asked_for() -> None:
    cache = MemoryCache(2)
    for key in "ab":
        cache.put(key, HITS)
    assert cache.get("a") == HITS
    cache.put("c", HITS)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (HITS, None, HITS)
    assert len(cache) == 2


def test_what_is_kept_cannot_be_changed_from_outside() -> None:
    cache = MemoryCache(2)
    cache.put("a", HITS)
    cache.get("a").clear()  # type: ignore[union-attr]
    assert cache.get("a") == HITS


def test_disk_outlives_the_process_that_wrote_it(tmp_path: Path) -> None:
    first = DiskCache(tmp_path / "cache")
    first.put("a", HITS)
    first.put("none", [])
    first.close()
    second = DiskCache(tmp_path / "cache")
    assert (second.get("a"), second.get("none"), second.get("b")) == (HITS, [], None)
    second.close()


def test_disk_is_bounded(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, max_bytes=300_000)
    big = [Hit(passage=Passage(id="1", title="", text="x" * 10_000), score=1.0, rank=1)]
    for i in range(200):
        cache.put(str(i), big)
    cache.close()
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < 1_500_000
    assert DiskCache(tmp_path).get("199") == big


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("evil-was-here"),))


def test_a_pickle_somebody_put_into_the_folder_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cache = DiskCache(tmp_path / "cache")
    cache.put("a", HITS)
    cache.close()
    with sqlite3.connect(tmp_path / "cache" / "cache.db") as database:
        changed = database.execute("UPDATE Cache SET mode = 4, value = ?", (pickle.dumps(Evil()),))
        assert changed.rowcount == 1
    database.close()
    assert DiskCache(tmp_path / "cache").get("a") is None
    assert not (tmp_path / "evil-was-here").exists()


def test_a_damaged_entry_is_a_miss_and_a_damaged_folder_an_error(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache")
    cache._kept.set("a", "[[1]]")
    assert cache.get("a") is None
    cache.close()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "cache.db").write_bytes(b"no database " * 1000)
    with pytest.raises(ValueError, match="cannot be used as a query cache"):
        DiskCache(broken)


@pytest.mark.parametrize(
    "entry",
    [
        [["1", "title", 5, 0.5]],
        [[None, "title", "text", 0.5]],
        [["1", ["title"], "text", 0.5]],
        [["1", "title", "text", "high"]],
        [["1", "title", "text", True]],
        [["1", "title", "text", float("inf")]],
        [["1", "title", "\ud800", 0.5]],
        [["1", "title", "text", 10**400]],
        {"1234": 1},
        7,
    ],
)
def test_an_entry_that_no_server_could_have_answered_is_a_miss(tmp_path: Path, entry: object) -> None:
    cache = DiskCache(tmp_path)
    cache._kept.set("a", json.dumps(entry))
    cache._kept.set("deep", "[" * 200_000)
    assert cache.get("a") is None and cache.get("deep") is None
    cache.close()


def test_a_depth_of_numpy_is_the_same_key() -> None:
    assert query_key("a", "x", np.int64(3)) == query_key("a", "x", 3)  # type: ignore[arg-type]


def test_keys_differ_by_index_query_and_depth() -> None:
    keys = {query_key(source, query, k) for source in "ab" for query in ("x", "y", "é") for k in (1, 2)}
    assert len(keys) == 12


def test_settings_choose_the_cache(tmp_path: Path) -> None:
    assert query_cache() is None
    assert isinstance(query_cache(queries=5), MemoryCache)
    assert isinstance(query_cache(folder=tmp_path), DiskCache)
    with pytest.raises(ValueError, match="both cache_queries and cache_folder"):
        query_cache(queries=5, folder=tmp_path)
    with pytest.raises(ValueError, match="cache_queries is -1"):
        query_cache(queries=-1)
