"""The table of backends: imported when named, errors that name the way out."""

import subprocess
import sys
from pathlib import Path

import pytest

from retrieval import backends
from retrieval.backends import BACKENDS, backend_named, library_versions, settings_of
from retrieval.searcher import Backend

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["bm25s", "rank_bm25"])
def test_a_backend_is_found_under_its_own_name(name: str) -> None:
    backend = backend_named(name)
    assert isinstance(backend, Backend) and backend.name == name
    assert set(library_versions(backend)) == set(backend.libraries)


def test_naming_the_table_imports_no_backend() -> None:
    check = (
        "import sys, retrieval.index; sys.exit(any(name in sys.modules for name in ('numba', 'torch', 'faiss', 'ray')))"
    )
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0


def test_a_missing_library_is_told_with_the_extra_that_brings_it() -> None:
    bm25s = backend_named("bm25s")
    missing = Backend(
        name="dense",
        settings=bm25s.settings,
        libraries=("no-such-library",),
        builder=bm25s.builder,
        open=bm25s.open,
        extra="dense",
    )
    with pytest.raises(ValueError, match=r"backend dense needs no-such-library.*pip install 'waymark\[dense\]'"):
        library_versions(missing)


def test_an_unknown_backend_is_told_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "BACKENDS", {"bm25s": BACKENDS["bm25s"], "other": "m:O"})
    with pytest.raises(ValueError, match="unknown backend 'lucene'; choose one of bm25s, other"):
        backend_named("lucene")


def test_settings_are_checked_against_the_backend() -> None:
    bm25s, okapi = backend_named("bm25s"), backend_named("rank_bm25")
    assert settings_of(bm25s, None) == bm25s.settings()
    assert settings_of(bm25s, {"k1": 0.9}).model_dump()["k1"] == 0.9
    with pytest.raises(ValueError, match="takes BM25Settings, not OkapiSettings"):
        settings_of(bm25s, okapi.settings())
