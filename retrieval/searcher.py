"""What a backend has to bring: something that takes passages in, and something that ranks their rows.

A backend knows rows (0 is the first passage of the corpus) and scores; ids, passages, checksums and the manifest are
the index's business.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from retrieval.passage import Passage

Progress = Callable[[str, int, int | None], None]
"""Called as `(stage, done, total)`; `total` is None or an estimate where it is not known."""


class RowSearcher(Protocol):
    """Ranks rows. Thread-safe."""

    def top_rows(self, queries: Sequence[str], k: int) -> list[tuple[NDArray[np.int32], NDArray[np.floating]]]:
        """For each query the best rows and their scores, `[at most k]` each: positive scores only, best first, equal
        scores by row. Queries and `k` have been checked.
        """
        ...


class IndexBuilder(Protocol):
    """Takes the texts of a corpus in order and writes the backend's files."""

    def add(self, text: str) -> None:
        """Take one passage's title and text."""
        ...

    def finish(self, progress: Progress) -> None:
        """Write the files.

        Raises:
            ValueError: nothing in the corpus can be searched for.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One retrieval backend: its settings, how it is built into a folder, how it is opened from one."""

    name: str
    settings: type[BaseModel]
    libraries: tuple[str, ...]
    builder: Callable[[Path, Any], IndexBuilder]
    open: Callable[[Path, Any, Iterable[Passage]], RowSearcher]
