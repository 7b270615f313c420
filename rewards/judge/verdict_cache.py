"""Verdicts by key in one SQLite file, for several threads, processes and runs; JSON text, nothing to unpickle.

SQLite's write-ahead log keeps the file whole through a kill at any moment, and lets one process write while others
read. Failed verdicts are never kept. What cannot be read or written counts in `faults` and is judged again: the cache
may be slow or broken, never wrong. The log needs shared memory, so the file belongs on a disk of the machine.
"""

import json
import os
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from rewards.judge.answer_scale import AnswerScale
from rewards.judge.judge import Verdict

_WAIT_S = 30.0
_KEYS_PER_QUERY = 500
_TABLE = "CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, verdict TEXT NOT NULL) WITHOUT ROWID"


class VerdictCache:
    """A file of verdicts; None keeps them in memory.

    Raises:
        ValueError: the file is something else, or cannot be opened or written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._faults = 0
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._opened_by, self._database = os.getpid(), self._open()
        except (sqlite3.Error, OSError) as error:
            raise ValueError(
                f"judge: {path} cannot be used as the cache of verdicts ({error}); name another"
            ) from error

    @property
    def faults(self) -> int:
        """Reads and writes that did not work, and rows that were not understood."""
        return self._faults

    def get(self, keys: Mapping[str, AnswerScale]) -> dict[str, Verdict]:
        """The verdicts that are kept under these keys and that the key's scale could have given."""
        rows: list[tuple[str, str]] = []
        wanted = list(keys)
        with self._lock:
            try:
                for start in range(0, len(wanted), _KEYS_PER_QUERY):
                    part = wanted[start : start + _KEYS_PER_QUERY]
                    marks = ",".join("?" * len(part))
                    rows += self._own().execute(f"SELECT key, verdict FROM verdicts WHERE key IN ({marks})", part)
            except sqlite3.Error:
                self._faults += 1
        found = {}
        for key, text in rows:
            verdict = _decoded(text, keys[key])
            if verdict is None:
                self._faults += 1
            else:
                found[key] = verdict
        return found

    def put(self, key: str, verdict: Verdict) -> None:
        """Keep a verdict; one that is NaN is refused.

        Raises:
            ValueError: the verdict failed.
        """
        if verdict.score != verdict.score:
            raise ValueError("a failed verdict is never kept: the next run may succeed")
        text = json.dumps([verdict.score, verdict.label, verdict.reason])
        with self._lock:
            try:
                with self._own() as database:
                    database.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?)", (key, text))
            except sqlite3.Error:
                self._faults += 1

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        with self._lock:
            if self._opened_by == os.getpid():
                self._database.close()

    def _own(self) -> sqlite3.Connection:
        """The connection; a forked process opens its own, since SQLite's must not be carried over a fork."""
        if self._opened_by != os.getpid():
            self._opened_by, self._database = os.getpid(), self._open()
        return self._database

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path or ":memory:", timeout=_WAIT_S, check_same_thread=False)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        with database:
            database.execute(_TABLE)
        return database


def _decoded(text: object, scale: AnswerScale) -> Verdict | None:
    try:
        parts = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(parts, Sequence) or len(parts) != 3:
        return None
    return scale.restored(*parts)
