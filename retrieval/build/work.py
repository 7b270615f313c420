"""What a build leaves for its next attempt: the marks of what is finished, and the parts of the shards.

All of it lies in a hidden folder of the staging folder. A mark is a small file that appears whole, after what it
speaks of is on the disk; what has no mark is done again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.build.durable import write_whole
from retrieval.searcher import Progress, Shard

WORK_FOLDER = ".build"
"""Name of the hidden folder in a staging folder."""

_MERGE = "merge."


class Marks:
    """Named records of what is finished, each a JSON value; crash-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str) -> Any:
        """The value of a mark, or None where it has not been set."""
        try:
            return json.loads((self._folder / name).read_bytes())
        except FileNotFoundError:
            return None

    def set(self, name: str, value: Any) -> None:
        """Set a mark; it stands, through a power cut too, when the call returns."""
        write_whole(self._folder / name, json.dumps(value).encode("utf-8"))

    def clear(self, prefix: str) -> None:
        """Take back every mark whose name begins with `prefix`."""
        for path in self._folder.glob(f"{prefix}*"):
            path.unlink(missing_ok=True)

    def names(self, prefix: str) -> list[str]:
        """The marks whose name begins with `prefix`."""
        return sorted(path.name for path in self._folder.glob(f"{prefix}*"))

    def __len__(self) -> int:
        return sum(not path.name.startswith(".") for path in self._folder.iterdir())


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildWork:
    """What a backend's merge may use."""

    folder: Path
    """The staging folder, where the final files go."""
    parts: Path
    """The hidden folder below it with the shards' parts; it is removed before checksums are taken."""
    shards: Sequence[Shard]
    """All shards, in corpus order."""
    num_passages: int
    """Passages in the corpus."""
    ram_bytes: int | None
    """Bound on the memory of the whole build (`--ram-gb`), the interpreter included; None: the backend's default."""
    progress: Progress
    """Called as `(stage, done, total)`."""
    marks: Marks
    """The build's marks; a merge uses `done` and `mark`."""

    def part(self, shard: Shard) -> Path:
        """Where the part of a shard lies."""
        return part_path(self.parts, shard)

    def done(self, name: str) -> bool:
        """True if a sub-stage of the merge has been marked, in this call or in one that was killed."""
        return self.marks.get(_MERGE + name) is not None

    def mark(self, name: str) -> None:
        """Mark a sub-stage of the merge as finished. Its files must be flushed first (`retrieval.build.durable`)."""
        self.marks.set(_MERGE + name, True)


def part_path(parts: Path, shard: Shard) -> Path:
    """Where the part of a shard lies in the folder of parts."""
    return parts / f"{shard.number:08d}"


def clear_merge_marks(marks: Marks) -> None:
    """Forget every sub-stage of the merge: a part has changed."""
    marks.clear(_MERGE)
