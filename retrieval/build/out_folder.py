"""What stands where an index is to be built (nothing, an index, something else), and what a broken-off build left."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.build.parts import passages_of_parts
from retrieval.build.pipeline import is_merged
from retrieval.build.reading import PASSAGES_MARK
from retrieval.build.record import BuildRecord, read_record
from retrieval.build.work import WORK_FOLDER, Marks
from retrieval.manifest import MANIFEST_FILE
from retrieval.staging import holds_something, staging_path


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedBuild:
    """What a build that was broken off, or is under way, has left beside its folder."""

    folder: str
    """Where it lies."""
    differences: tuple[str, ...]
    """What it was begun with that is now another (`settings`, `shard_size` ...): a build clears it away if anything."""
    passages: int
    """Passages whose shards are there; fewer may still fit where the corpus has changed."""
    corpus_is_read: bool
    """True if all of the corpus, as it is now, was read."""
    is_merged: bool
    """True if the shards of this corpus were merged, too: only checksums are missing."""


def refuse_existing(out: Path, overwrite: bool) -> bool:
    """True if `out` may be written.

    Raises:
        NotADirectoryError: it lies below a file.
        FileExistsError: it holds something that is no index, or an index and `overwrite` is off.
    """
    above = next((folder for folder in out.absolute().parents if folder.exists()), None)
    if above is not None and not above.is_dir():
        raise NotADirectoryError(f"--out is {out}, and {above} is a file; choose a folder that can be made")
    if not holds_something(out):
        return True
    if not (out / MANIFEST_FILE).is_file():
        raise FileExistsError(f"{out} exists and is not an index; choose a new folder for --out")
    if not overwrite:
        raise FileExistsError(f"{out} already holds an index; add --overwrite to replace it, or choose another folder")
    return True


def unfinished_build(out: Path, record: BuildRecord, corpus_identity: dict[str, Any]) -> UnfinishedBuild | None:
    """What an unfinished build of `out` has left; None where nothing of one is finished. Reads small files only."""
    staging = staging_path(out)
    left = read_record(staging)
    if left is None or not (staging / WORK_FOLDER / "marks").is_dir():
        return None
    marks = Marks(staging / WORK_FOLDER / "marks")
    if not len(marks):
        return None
    read = marks.get(PASSAGES_MARK)
    is_same = read is not None and read["identity"] == corpus_identity
    return UnfinishedBuild(
        folder=str(staging),
        differences=tuple(left.differences(record)),
        passages=passages_of_parts(marks),
        corpus_is_read=is_same,
        is_merged=is_same and is_merged(marks, read["corpus_hash"]),
    )
