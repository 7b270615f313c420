"""What a staging folder was begun for: a build goes on only where every part would come out the same today."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from retrieval.build.durable import write_whole
from retrieval.build.work import WORK_FOLDER

PART_VERSION = 1
"""Version of what lies in the hidden folder of a build; raised when parts of older builds can no longer be used."""

_RECORD_FILE = "record.json"


class BuildRecord(BaseModel):
    """All that decides what a part looks like, beside its texts. A part's texts are told by its mark."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    part_version: int = PART_VERSION
    """Version of the hidden folder's layout."""
    format_version: int
    """Version of the index folder's layout."""
    backend: str
    """Name of the backend."""
    settings: dict[str, Any]
    """Its settings."""
    shard_size: int
    """Passages a shard."""
    versions: dict[str, str]
    """Versions of the backend's libraries."""

    def write(self, staging: Path) -> None:
        """Begin a build in a staging folder."""
        (staging / WORK_FOLDER).mkdir(exist_ok=True)
        write_whole(staging / WORK_FOLDER / _RECORD_FILE, self.model_dump_json(indent=1).encode("utf-8"))

    def differences(self, other: "BuildRecord") -> list[str]:
        """Names of the fields that differ."""
        return [name for name in type(self).model_fields if getattr(self, name) != getattr(other, name)]


def read_record(staging: Path) -> BuildRecord | None:
    """The record in a staging folder, or None where there is none that can be read."""
    try:
        return BuildRecord.model_validate_json((staging / WORK_FOLDER / _RECORD_FILE).read_bytes())
    except (OSError, ValidationError):
        return None
