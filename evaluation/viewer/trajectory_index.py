"""A run's trajectories in a small sqlite file, so that 100,000 of them are listed and searched at once.

The run folder is never written to: the index lies in a cache folder of the user and can be deleted at any time. It is
filled in two passes that both go on while the run does. `catch_up` takes what was appended to `index.jsonl` (step,
question, reward, finish reason); `read_records` opens the records themselves for what only they say (group, answer,
words to search in). Damaged lines and records are skipped and counted.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from envs.question import Question
from evaluation.trajectory_segment import IndexEntry, Segment, StoredTrajectory, read_frame, segments
from evaluation.viewer.index_lines import parse_line
from evaluation.viewer.record_reader import RecordSummary, summarise

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS segment (
  number INTEGER PRIMARY KEY, inode INTEGER, consumed INTEGER, tail BLOB, bad_lines INTEGER, newer TEXT);
CREATE TABLE IF NOT EXISTS trajectory (
  n INTEGER PRIMARY KEY AUTOINCREMENT, segment INTEGER, offset INTEGER, length INTEGER, id TEXT, question_id TEXT,
  step INTEGER, finish_reason TEXT, num_turns INTEGER, num_searches INTEGER, reward REAL,
  state INTEGER DEFAULT 0,
  group_id TEXT, unit_id TEXT, view INTEGER, parent_id TEXT, fork_turn INTEGER, sample INTEGER, answer TEXT, em REAL,
  thought_words INTEGER, duplicate_queries INTEGER, sampled_tokens INTEGER);
CREATE INDEX IF NOT EXISTS by_place ON trajectory (segment, offset);
CREATE INDEX IF NOT EXISTS by_id ON trajectory (id);
CREATE INDEX IF NOT EXISTS by_question ON trajectory (question_id, n);
CREATE INDEX IF NOT EXISTS by_step ON trajectory (step, n);
CREATE INDEX IF NOT EXISTS by_reward ON trajectory (reward, n);
CREATE INDEX IF NOT EXISTS by_finish ON trajectory (finish_reason, n);
CREATE INDEX IF NOT EXISTS by_group ON trajectory (group_id, n);
CREATE INDEX IF NOT EXISTS by_unit ON trajectory (unit_id, n);
CREATE INDEX IF NOT EXISTS waiting ON trajectory (n) WHERE state = 0;
CREATE INDEX IF NOT EXISTS damaged ON trajectory (n) WHERE state = 2;
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(body, content='');
CREATE TABLE IF NOT EXISTS question (id TEXT PRIMARY KEY, record TEXT);
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT);
"""
_COLUMNS = tuple(name for name in RecordSummary.__dataclass_fields__ if name != "text")
READ, DAMAGED = 1, 2


class TrajectoryIndex:
    """The index of one store.

    Args:
        store: folder of the trajectories; it need not be there yet.
        file: of the index; made where it is missing, made anew where another version wrote it.
        question_of: the question of an id, or None.
    """

    def __init__(self, store: Path, file: Path, question_of: Callable[[str], Question | None]) -> None:
        self.store = store
        self.file = file
        self._question_of = question_of
        self._writing = threading.Lock()
        file.parent.mkdir(parents=True, exist_ok=True)
        if not self._is_ours():
            for leftover in (file, *(file.with_name(f"{file.name}{end}") for end in ("-wal", "-shm"))):
                leftover.unlink(missing_ok=True)
        with closing(sqlite3.connect(file)) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.executescript(_SCHEMA)
            database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            database.commit()

    def _is_ours(self) -> bool:
        if not self.file.exists():
            return True
        try:
            with closing(sqlite3.connect(self.file)) as database:
                return bool(database.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise  # another viewer is at it: nothing is wrong with the file
            return False

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that only reads."""
        with closing(sqlite3.connect(f"file:{_quoted(self.file)}?mode=ro", uri=True, timeout=5)) as database:
            database.row_factory = sqlite3.Row
            yield database

    @contextmanager
    def _written(self) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction that no other writes beside, in this process or another."""
        address = f"file:{_quoted(self.file)}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=10, isolation_level=None)) as database:
            database.row_factory = sqlite3.Row
            database.execute("PRAGMA synchronous=OFF")  # what a crash loses is read again
            database.execute("BEGIN IMMEDIATE")
            with database:
                yield database

    def catch_up(self, most_lines: int = 20_000) -> int:
        """Take what was appended to the store's index, at most so many lines; returns how many were taken."""
        if not self._writing.acquire(blocking=False):
            return 0  # another thread is at it
        try:
            there = {segment.number: segment for segment in segments(self.store)} if self.store.is_dir() else {}
            with self.reading() as database:
                known = {row["number"]: dict(row) for row in database.execute("SELECT * FROM segment")}
            taken = 0
            gone = known.keys() - there.keys()
            if gone:
                with self._written() as database:
                    for number in gone:
                        _forget(database, number)
            for number, segment in there.items():
                if taken < most_lines:
                    taken += self._take_segment(segment, known.get(number), most_lines - taken)
            return taken
        except OSError:
            return 0  # deleted while it was looked at
        finally:
            self._writing.release()

    def _take_segment(self, segment: Segment, known: dict[str, Any] | None, most_lines: int) -> int:
        try:
            about = segment.index.stat()
        except FileNotFoundError:
            return 0
        if known and (about.st_ino, about.st_size) == (known["inode"], known["consumed"]):
            return 0
        as_known = known
        with segment.index.open("rb") as file:
            if known:
                tail = known["tail"]
                file.seek(max(0, known["consumed"] - len(tail)))
                if about.st_ino != known["inode"] or file.read(len(tail)) != tail:
                    known = None  # a resumed run wrote it anew
            start = known["consumed"] if known else 0
            file.seek(start)
            lines = _whole_lines(file, most_lines)
        if not lines and known:
            return 0
        rows, bad, newer = [], 0, set[str](json.loads(known["newer"]) if known else ())
        for line in lines:
            try:
                entry, unknown = parse_line(line, segment.number)
                rows.append(_row(entry))
                newer.update(unknown)
            except ValueError:
                bad += 1
        consumed = start + sum(map(len, lines))
        tail = lines[-1][-4096:] if lines else b""
        with self._written() as database:
            row = database.execute("SELECT * FROM segment WHERE number = ?", (segment.number,)).fetchone()
            if (dict(row) if row else None) != as_known:
                return 0  # another viewer over this cache has taken these lines
            if known is None:
                _forget(database, segment.number)
            database.executemany(
                "INSERT INTO trajectory (segment, offset, length, id, question_id, step, finish_reason, num_turns, "
                "num_searches, reward) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            bad += known["bad_lines"] if known else 0
            database.execute(
                "REPLACE INTO segment VALUES (?, ?, ?, ?, ?, ?)",
                (segment.number, about.st_ino, consumed, tail, bad, json.dumps(sorted(newer))),
            )
        return len(lines)

    def read_records(self, most: int = 200) -> int:
        """Open records that were not opened yet, the newest first; returns how many were."""
        with self.reading() as database:
            waiting = database.execute(
                "SELECT n, segment, offset, length FROM trajectory WHERE state = 0 ORDER BY n DESC LIMIT ?", (most,)
            ).fetchall()
        if not waiting:
            return 0
        found: list[tuple[int, RecordSummary | None]] = []
        files: dict[int, BinaryIO | None] = {}
        try:
            for row in waiting:
                found.append((row["n"], self._summary(row, files)))
        finally:
            for file in files.values():
                if file is not None:
                    file.close()
        with self._writing, self._written() as database:
            for n, summary in found:
                if summary is None:
                    database.execute("UPDATE trajectory SET state = ? WHERE n = ?", (DAMAGED, n))
                    continue
                values = [_storable(v) if isinstance(v := getattr(summary, name), str) else v for name in _COLUMNS]
                settings = ", ".join(f"{name} = ?" for name in _COLUMNS)
                changed = database.execute(
                    f"UPDATE trajectory SET state = ?, {settings} WHERE n = ? AND state = 0", (READ, *values, n)
                )
                if changed.rowcount:
                    database.execute("INSERT INTO words (rowid, body) VALUES (?, ?)", (n, _storable(summary.text)))
        return len(found)

    def _summary(self, row: sqlite3.Row, files: dict[int, BinaryIO | None]) -> RecordSummary | None:
        number = row["segment"]
        if number not in files:
            try:
                files[number] = Segment(self.store, number).data.open("rb")
            except OSError:
                files[number] = None
        file = files[number]
        if file is None:
            return None
        try:
            stored = read_frame(file, row["offset"], row["length"])
            return summarise(stored, self._question_of(stored.trajectory.question_id))
        except (ValueError, OSError):
            return None

    def read(self, segment: int, offset: int, length: int) -> StoredTrajectory:
        """One record.

        Raises:
            FileNotFoundError: its file has been deleted.
            ValueError: it is damaged, or of a version that this one does not know.
        """
        with Segment(self.store, segment).data.open("rb") as file:
            return read_frame(file, offset, length)

    def set_fact(self, name: str, value: str) -> None:
        """Keep something beside the index, such as what it was filled from."""
        with self._writing, self._written() as database:
            database.execute("REPLACE INTO fact VALUES (?, ?)", (name, value))

    def fact(self, name: str) -> str | None:
        """What was kept under a name."""
        with self.reading() as database:
            row = database.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return row["value"] if row else None

    def score_again(self) -> None:
        """Let every record be opened once more, because questions have come that were not known before."""
        with self._writing, self._written() as database:
            database.execute("DROP TABLE words")
            database.execute("CREATE VIRTUAL TABLE words USING fts5(body, content='')")
            database.execute("UPDATE trajectory SET state = 0")


def _forget(database: sqlite3.Connection, number: int) -> None:
    """Numbers are never given again, so what `words` still holds of these is found by nobody."""
    database.execute("DELETE FROM trajectory WHERE segment = ?", (number,))
    database.execute("DELETE FROM segment WHERE number = ?", (number,))


def _whole_lines(file: BinaryIO, most: int) -> list[bytes]:
    lines: list[bytes] = []
    for line in file:
        if not line.endswith(b"\n") or len(lines) == most:
            break
        lines.append(line)
    return lines


def _row(entry: IndexEntry) -> tuple[Any, ...]:
    reward = entry.scalars.get("reward")
    number = None
    if isinstance(reward, int | float) and not isinstance(reward, bool) and abs(reward) < 1e300:
        number = float(reward)
    own = (entry.num_turns, entry.num_searches, number)
    texts = (_storable(entry.id), _storable(entry.question_id))
    return (entry.segment, entry.offset, entry.length, *texts, entry.step, _storable(entry.finish_reason), *own)


def _storable(text: str) -> str:
    """Text without lone surrogates, which sqlite cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _quoted(file: Path) -> str:
    return str(file.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
