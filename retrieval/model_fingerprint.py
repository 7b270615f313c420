"""Which model it is, wherever it lies: a hash over the files of its folder, or its commit on the hub."""

import hashlib
from pathlib import Path
from typing import Any

_NOT_READ = frozenset({".md", ".png", ".jpg", ".onnx", ".h5", ".msgpack", ".ot"})
"""Papers, pictures, and weights in formats that torch does not load."""


def model_identity(model: str, revision: str | None = None, *, commit: str | None = None) -> dict[str, Any]:
    """A model for an identity: of a folder its name and the sha256 of its files, of a hub id the id and the commit.

    `commit` is what the id was resolved to when it was loaded; None leaves the `revision` that was asked for.
    """
    folder = Path(model)
    if not folder.is_dir():
        return {"model": model, "revision": commit or revision}
    return {"model": folder.resolve().name, "files_sha256": folder_fingerprint(folder)}


def folder_fingerprint(folder: Path) -> str:
    """sha256 over names and contents of the files that decide what a model says: weights, config, tokenizer.

    Hidden files and what torch does not read (model cards, other frameworks' weights) are passed over.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and path.suffix not in _NOT_READ and not any(part.startswith(".") for part in name.parts):
            with path.open("rb") as file:
                digest.update(f"{name.as_posix()}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return digest.hexdigest()
