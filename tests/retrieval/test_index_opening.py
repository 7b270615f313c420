"""Opening an index: whatever is not whole, not of this version or does not fit together is told then, not later."""

import json
from pathlib import Path
from typing import Any

import pytest

from retrieval.index import build_index, open_index
from retrieval.manifest import IndexCorruptError, file_checksum, read_manifest
from tests.retrieval.five_passages import ROWS, SPARSE, write_rows


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "corpus.jsonl")


@pytest.mark.parametrize("backend", SPARSE)
def test_every_file_is_checked_when_an_index_opens(corpus: Path, tmp_path: Path, backend: str) -> None:
    folder = tmp_path / "index"
    for name in build_index(corpus, folder, backend=backend).files:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
        with pytest.raises(IndexCorruptError, match=rf"the checksum of .*{name} does not match.*build the index again"):
            open_index(folder)
        (folder / name).unlink()
        with pytest.raises(IndexCorruptError, match=rf"{name} is missing"):
            open_index(folder)
        (folder / name).write_bytes(content)
    assert open_index(folder).num_passages == 5


def test_an_altered_manifest_does_not_open(corpus: Path, tmp_path: Path) -> None:
    build_index(corpus, tmp_path / "index")
    path = tmp_path / "index" / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace('"k1": 1.5', '"k1": 1.2'))
    with pytest.raises(IndexCorruptError, match="its index_hash does not match"):
        open_index(tmp_path / "index")
    path.write_text(text.replace('"format_version": 2', '"format_version": 9'))
    with pytest.raises(IndexCorruptError, match="format version 9, this code reads 2"):
        open_index(tmp_path / "index")
    path.write_text("{}")
    with pytest.raises(IndexCorruptError, match="not an index manifest"):
        open_index(tmp_path / "index")


@pytest.mark.parametrize("version", [1, 3])
@pytest.mark.parametrize("verify", [True, False])
def test_an_index_of_another_version_is_told_as_one_whatever_its_manifest_holds(
    corpus: Path, tmp_path: Path, version: int, verify: bool
) -> None:
    build_index(corpus, tmp_path / "index")
    path = tmp_path / "index" / "manifest.json"
    fields = json.loads(path.read_text())
    del fields["files"]
    path.write_text(json.dumps(fields | {"format_version": version, "segments": []}))
    told = rf"built by another version: it has format version {version}, this code reads 2; build the index again"
    with pytest.raises(IndexCorruptError, match=told):
        open_index(tmp_path / "index", verify=verify)
    build_index(corpus, tmp_path / "index", overwrite=True)
    assert open_index(tmp_path / "index").num_passages == 5


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd"])
def test_a_manifest_cannot_name_a_file_outside_its_folder(corpus: Path, tmp_path: Path, name: str) -> None:
    manifest = build_index(corpus, tmp_path / "index")
    manifest.model_copy(update={"files": manifest.files | {name: "0"}}).sealed().write(tmp_path / "index")
    with pytest.raises(IndexCorruptError, match="names a file outside the index"):
        open_index(tmp_path / "index")


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_told_at_opening_though_no_checksum_is_compared(
    corpus: Path, tmp_path: Path, verify: bool, left: float
) -> None:
    folder = tmp_path / "index"
    for name in build_index(corpus, folder).files:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * left)])
        with pytest.raises(IndexCorruptError, match="build the index again"):
            open_index(folder, verify=verify)
        (folder / name).write_bytes(content)
    open_index(folder, verify=verify).close()


def test_what_is_no_index_says_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no index at .*waymark build-index CORPUS --out"):
        open_index(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="holds no finished index"):
        open_index(tmp_path)


def test_a_folder_that_is_being_built_does_not_open_though_all_its_files_are_there(
    corpus: Path, tmp_path: Path
) -> None:
    build_index(corpus, tmp_path / "index")
    (tmp_path / "index").rename(tmp_path / ".index.building")
    with pytest.raises(FileNotFoundError, match="a build was killed there or is under way"):
        open_index(tmp_path / ".index.building")


@pytest.mark.parametrize("backend", SPARSE)
@pytest.mark.parametrize("verify", [True, False])
def test_a_manifest_that_counts_other_passages_does_not_open(
    corpus: Path, tmp_path: Path, backend: str, verify: bool
) -> None:
    manifest = build_index(corpus, tmp_path / "index", backend=backend)
    manifest.model_copy(update={"num_passages": 4}).sealed().write(tmp_path / "index")
    with pytest.raises(IndexCorruptError, match="holds 5 passages, and its manifest says 4 passages; build the index"):
        open_index(tmp_path / "index", verify=verify)


@pytest.mark.parametrize("backend", ["bm25s", pytest.param("pyserini", marks=pytest.mark.slow)])
@pytest.mark.parametrize("more", [True, False])
def test_files_of_a_backend_over_another_number_of_passages_do_not_open(
    corpus: Path, tmp_path: Path, backend: str, more: bool
) -> None:
    """All checksums are right; only the count in the files of the backend is not that of the passages."""
    other = write_rows(tmp_path / "other.jsonl", [*ROWS, ROWS[0] | {"id": "sixth"}] if more else ROWS[:3])
    manifest, theirs = (
        build_index(path, tmp_path / name, backend=backend) for path, name in ((corpus, "index"), (other, "theirs"))
    )
    files = {name: digest for name, digest in manifest.files.items() if name.startswith("passages.")}
    for name in manifest.files.keys() - files:
        (tmp_path / "index" / name).unlink()
    for name in theirs.files:
        if not name.startswith("passages."):
            (tmp_path / "theirs" / name).rename(tmp_path / "index" / name)
            files[name] = file_checksum(tmp_path / "index" / name)
    manifest.model_copy(update={"files": files}).sealed().write(tmp_path / "index")
    counted = 6 if more else 3
    with pytest.raises(IndexCorruptError, match=f"holds {counted} rows in the files of .*its manifest says 5 passages"):
        open_index(tmp_path / "index")


@pytest.mark.slow
def test_passages_without_text_at_the_end_are_rows_of_lucene_too(tmp_path: Path) -> None:
    rows = [*ROWS, {"id": "blank", "title": "", "text": "\t"}, {"id": "also blank", "title": "", "text": " \n"}]
    build_index(write_rows(tmp_path / "c.jsonl", rows), tmp_path / "index", backend="pyserini")
    assert open_index(tmp_path / "index").num_passages == 7


@pytest.mark.parametrize("verify", [True, False])
def test_an_index_that_is_replaced_while_it_opens_is_opened_anew_and_not_mixed(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verify: bool
) -> None:
    build_index(corpus, tmp_path / "index")
    write_rows(corpus, [{"id": "owl", "text": "owls"}, *ROWS])
    read: list[str] = []

    def replaced_then(folder: Path) -> Any:
        manifest = read_manifest(folder)
        if not read:
            build_index(corpus, folder, overwrite=True)
        read.append(manifest.index_hash)
        return manifest

    monkeypatch.setattr("retrieval.index.read_manifest", replaced_then)
    with open_index(tmp_path / "index", verify=verify) as index:
        assert index.num_passages == 6 and index.search(["owls"], 1)[0][0].passage.id == "owl"
    assert len(read) == 2


def test_what_does_not_open_holds_no_file(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = build_index(corpus, tmp_path / "index")
    manifest.model_copy(update={"num_passages": 4}).sealed().write(tmp_path / "index")
    closed = []
    monkeypatch.setattr("retrieval.passage_store.PassageStore.close", lambda self: closed.append(len(self)))
    with pytest.raises(IndexCorruptError):
        open_index(tmp_path / "index")
    assert closed == [5]
