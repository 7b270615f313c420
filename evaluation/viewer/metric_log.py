"""A run's `metrics.jsonl`, read as it grows.

Only what was appended since the last look is read. A line that is no JSON object is skipped and counted; the last line
is left alone until it is whole. A run that was resumed rewrites its file: then it is read again from the start.
"""

import json
import os
import threading
from pathlib import Path
from typing import Any

Points = list[tuple[float, float]]
"""(step, value) pairs in the order of writing."""

_TOO_LARGE = 1e300
"""A figure of this size, infinite or no number at all is not drawn: no scale holds it."""


class MetricLog:
    """What a metrics file says so far.

    Attributes:
        num_bad_lines: whole lines that are no JSON object with a step.
        last: the newest line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._forget(None)

    def _forget(self, inode: int | None) -> None:
        self._inode = inode
        self._consumed = 0
        self._tail = b""
        self._points: dict[str, Points] = {}
        self._histograms: dict[str, tuple[int, dict[str, Any]]] = {}
        self.num_bad_lines = 0
        self.last: dict[str, Any] = {}
        self.num_steps = 0

    def refresh(self) -> bool:
        """Read what is new; True if there was anything. A file that is gone leaves what was read."""
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    about = os.fstat(file.fileno())
                    if about.st_ino != self._inode or about.st_size < self._consumed or not self._still_begins(file):
                        self._forget(about.st_ino)
                    if about.st_size == self._consumed:
                        return False
                    file.seek(self._consumed)
                    data = file.read()
            except OSError:
                return False
            end = data.rfind(b"\n") + 1
            for line in data[:end].splitlines():
                self._take(line)
            if end:
                self._tail = data[:end].splitlines(keepends=True)[-1]
            self._consumed += end
            return end > 0

    def _still_begins(self, file: Any) -> bool:
        """True if the last line that was read stands where it stood: else the file was written anew."""
        file.seek(self._consumed - len(self._tail))
        return bool(file.read(len(self._tail)) == self._tail)

    def _take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
            step = int(record["step"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            self.num_bad_lines += 1
            return
        self.last = record
        self.num_steps += 1
        for key, value in record.items():
            if isinstance(value, dict) and {"edges", "counts"} <= value.keys():
                self._histograms[key] = (step, value)
            elif not isinstance(value, bool) and isinstance(value, int | float) and abs(value) < _TOO_LARGE:
                self._points.setdefault(key, []).append((float(step), float(value)))

    def names(self) -> list[str]:
        """Names of figures, in order of appearance."""
        with self._lock:
            return list(self._points)

    def points(self, key: str) -> Points:
        """One figure over steps; empty where it was never logged."""
        with self._lock:
            return list(self._points.get(key, ()))

    def histogram(self, key: str) -> tuple[int, dict[str, Any]] | None:
        """The newest histogram under a name, with its step."""
        with self._lock:
            return self._histograms.get(key)

    def histogram_names(self) -> list[str]:
        """Names of histograms."""
        with self._lock:
            return list(self._histograms)
