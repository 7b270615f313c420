"""What an index says about itself, and the check that it still is what it says.

`index_hash` covers everything that decides what a search returns: format, backend, settings, corpus and the checksum of
every file. When, with what versions and from which path it was built stands beside it, outside the hash.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from retrieval.searcher import Progress
from retrieval.staging import is_unfinished, replaced_path, staging_path

MANIFEST_FILE = "manifest.json"
FORMAT_VERSION = 2

_HASHED = {"format_version", "backend", "num_passages", "corpus_hash", "settings", "files"}
_AGAIN = "build the index again"


class Manifest(BaseModel):
    """The manifest of an index folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    """Version of the folder's layout; this code reads version 2."""
    backend: str
    """Name of the backend that built the index and searches it."""
    num_passages: int
    """Passages in the corpus."""
    corpus_hash: str
    """sha256 of ids, titles and texts in corpus order, whatever file they came from."""
    settings: dict[str, Any]
    """The backend's settings, analyzer included."""
    files: dict[str, str]
    """sha256 of every file of the index by name."""
    index_hash: str
    """sha256 of all of the above."""
    corpus: str
    """Name of the corpus file it was built from."""
    versions: dict[str, str]
    """Versions of the libraries that built it."""
    built_at: str
    """When it was built, UTC, ISO 8601."""
    build_seconds: float
    """Wall time of the build."""

    def content_hash(self) -> str:
        """The `index_hash` that the other fields give."""
        covered = self.model_dump(include=_HASHED)
        return hashlib.sha256(json.dumps(covered, sort_keys=True).encode("utf-8")).hexdigest()

    def sealed(self) -> "Manifest":
        """This manifest with its `index_hash` filled in."""
        return self.model_copy(update={"index_hash": self.content_hash()})

    def write(self, folder: Path) -> None:
        """Write `manifest.json`."""
        text = json.dumps(self.model_dump(), indent=2, sort_keys=True, ensure_ascii=False)
        (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")


class IndexCorruptError(ValueError):
    """An index folder is not whole: a file is missing or differs from its checksum."""


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an index folder, checked for consistency in itself.

    Raises:
        FileNotFoundError: no such folder, or it holds no finished index.
        IndexCorruptError: the manifest is broken, was altered, or is of another format version.
    """
    path = folder / MANIFEST_FILE
    if not folder.is_dir():
        raise FileNotFoundError(_why_absent(folder))
    if is_unfinished(folder) or not path.is_file():
        reason = "a build was killed there or is under way" if is_unfinished(folder) else f"it has no {MANIFEST_FILE}"
        raise FileNotFoundError(
            f"{folder} holds no finished index ({reason}); build one with `waymark build-index CORPUS --out DIR`"
        )
    content = path.read_bytes()
    _check_version(path, content)
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise IndexCorruptError(f"{path} is not an index manifest ({error.errors()[0]['msg']}); {_AGAIN}") from None
    if manifest.index_hash != manifest.content_hash():
        raise IndexCorruptError(f"{path} was changed after the build: its index_hash does not match; {_AGAIN}")
    return manifest


def _why_absent(folder: Path) -> str:
    """The message where there is no such folder: with what a killed build left of it beside, if anything."""
    if folder.exists():
        return f"{folder} is a file, and an index is a folder; build one with `waymark build-index {folder} --out DIR`"
    replaced = replaced_path(folder)
    if (replaced / MANIFEST_FILE).is_file():
        return (
            f"no index at {folder}: a build was killed while it replaced the one that was there, which is whole in "
            f"{replaced}; move it back (mv {replaced} {folder}), or give the build command again"
        )
    build = f"waymark build-index CORPUS --out {folder}"
    if staging_path(folder).is_dir():
        return (
            f"no index at {folder}, but an unfinished build in {staging_path(folder)}; `{build}` with the options that "
            "it was begun with goes on"
        )
    return f"no index at {folder}; build one with `{build}`"


def _check_version(path: Path, content: bytes) -> None:
    """Refuse another version before anything else is said: its manifest may have other fields."""
    try:
        fields = json.loads(content)
    except ValueError:
        return
    found = fields.get("format_version", FORMAT_VERSION) if isinstance(fields, dict) else FORMAT_VERSION
    if found != FORMAT_VERSION:
        raise IndexCorruptError(
            f"{path.parent} was built by another version: it has format version {found}, this code reads "
            f"{FORMAT_VERSION}; {_AGAIN}"
        )


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Compare every file with its checksum; reads the whole index once.

    Raises:
        IndexCorruptError: a file is missing or its checksum does not match.
    """
    for name in manifest.files:
        verify_file(folder, manifest, name)


def verify_file(folder: Path, manifest: Manifest, name: str) -> None:
    """Compare one file of the manifest with its checksum; reads it once.

    Raises:
        IndexCorruptError: it is missing or its checksum does not match.
    """
    path, expected = folder / name, manifest.files[name]
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise IndexCorruptError(f"{folder / MANIFEST_FILE} names a file outside the index, {name}; {_AGAIN}")
    if not path.is_file():
        raise IndexCorruptError(f"{path} is missing from the index; {_AGAIN}")
    found = file_checksum(path)
    if found != expected:
        raise IndexCorruptError(
            f"the checksum of {path} does not match: the manifest says {expected[:12]}..., the file has "
            f"{found[:12]}...; it was changed or damaged, {_AGAIN}"
        )


def file_checksum(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_checksums(folder: Path, known: Mapping[str, str], progress: Progress) -> dict[str, str]:
    """sha256 of every file of an index by name, hidden ones and the manifest left out; `known` ones are not read."""
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    checksums = {}
    for i, path in enumerate(files, start=1):
        name = path.relative_to(folder).as_posix()
        if name != MANIFEST_FILE:
            checksums[name] = known.get(name) or file_checksum(path)
        progress("checksums", i, len(files))
    return checksums
