"""A backend that only copies texts, records which shards it built, and fails where a test says so."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from retrieval.build.work import BuildWork
from retrieval.searcher import Backend, Estimate, ShardStage

built: list[str] = []
"""First passage of every shard built, as `p0`, `p10` ..."""

fault: str | None = None
"""Where to fail: `part of p30`, `merge` in its only step, or `end of the merge` behind it."""

at_merge: Callable[[], None] = lambda: None  # noqa: E731
"""Called when a merge begins."""


class FakeSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    suffix: str = ""


class FakeBuilder:
    def __init__(self, settings: FakeSettings) -> None:
        self._settings = settings
        self._next = 0

    def shard_size(self) -> int:
        return 1000

    def build_part(self, texts: Sequence[str], path: Path) -> None:
        path.mkdir()
        (path / "texts").write_text("".join(text + self._settings.suffix + "\n" for text in texts))
        first = first_of(path)
        if fault == f"part of {first}":
            raise OSError("the cable is out")
        built.append(first)

    def merge(self, work: BuildWork) -> None:
        at_merge()
        if not work.done("joined"):
            texts = "".join((work.part(shard) / "texts").read_text() for shard in work.shards)
            (work.folder / "texts").write_text(texts)
            if fault == "merge":
                raise OSError("the cable is out")
            work.mark("joined")
        if fault == "end of the merge":
            raise OSError("the cable is out")

    def estimate(self, sample: Sequence[str], num_passages: int, ram_bytes: int | None) -> Estimate:
        return Estimate(
            ram_bytes=num_passages,
            disk_bytes=10 * num_passages,
            peak_disk_bytes=20 * num_passages,
            shard_seconds=2.0 * num_passages,
            merge_seconds=1000.0,
            details={"sample": str(len(sample))},
        )


def first_of(path: Path) -> str:
    """The first passage of the shard whose part is written at `path`, in builds of ten passages a shard."""
    return f"p{10 * int(path.name.removeprefix('.new-')[:8])}"


class FakeSearcher:
    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows

    def top_rows(self, queries: Sequence[str], k: int) -> list[tuple[NDArray[np.int32], NDArray[np.floating]]]:
        return [(np.arange(k, dtype=np.int32), np.ones(k)) for _ in queries]


FAKE = Backend(
    name="fake",
    settings=FakeSettings,
    libraries=("numpy",),
    builder=FakeBuilder,
    open=lambda folder, settings, passages: FakeSearcher((folder / "texts").read_text().count("\n")),
)

FAKE_READING_FIRST = replace(
    FAKE,
    name="fake_reading_first",
    shard_stage=ShardStage(
        name=lambda settings: "copying passages",
        reads_first=True,
        refusal=lambda settings, passage: "must not be here" if passage.id == "unwanted" else None,
        check_count=lambda settings, num_passages: check_count(num_passages),
    ),
)


def check_count(num_passages: int) -> None:
    if num_passages == 13:
        raise ValueError("13 passages bring bad luck")
