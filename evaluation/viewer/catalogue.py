"""Every run with its index, and the thread that keeps the indexes filled while pages are being read."""

import hashlib
import os
import sqlite3
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from envs.question import Question
from evaluation.viewer.question_book import QuestionBook
from evaluation.viewer.runs import Run, RunList
from evaluation.viewer.token_text import TokenText
from evaluation.viewer.trajectory_index import TrajectoryIndex

_LOOK_EVERY_S = 1.0
_RECORDS_AT_ONCE = 200
_LINES_IN_A_REQUEST = 5_000


class Catalogue:
    """What the pages are made from.

    Attributes:
        faults: by the key of a run, what kept its trajectories from being indexed at the last look.

    Args:
        folders: runs, or folders of them.
        questions: files of questions beside those that runs name.
        cache: folder for the indexes; default: the user's cache folder.
        tokenizer: folder with a `tokenizer.json` for runs that name none which is there.

    Raises:
        FileNotFoundError, ValueError: a folder or file that cannot be used.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        questions: Sequence[Path] = (),
        cache: Path | None = None,
        *,
        tokenizer: Path | None = None,
    ) -> None:
        self.runs = RunList(folders)
        self.questions = QuestionBook(questions)
        self.questions.check()
        if tokenizer is not None and not (tokenizer / "tokenizer.json").is_file():
            raise FileNotFoundError(f"--tokenizer: {tokenizer} has no tokenizer.json; name the folder of a model")
        self.tokens = TokenText(tokenizer)
        self._cache = _usable(cache)
        self._indexes: dict[str, TrajectoryIndex] = {}
        self._noticed: dict[str, str] = {}
        self.faults: dict[str, str] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def index(self, run: Run) -> TrajectoryIndex:
        """The index of a run, with what was appended to a small store since."""
        index = self._index(run)
        index.catch_up(_LINES_IN_A_REQUEST)
        return index

    def _index(self, run: Run) -> TrajectoryIndex:
        with self._lock:
            if run.key not in self._indexes or not self._indexes[run.key].file.exists():
                self._noticed.pop(run.key, None)
                file = self._cache / f"{self._file_name(run)}.sqlite"
                self._indexes[run.key] = TrajectoryIndex(run.store, file, lambda id: self.question(run, id))
            index = self._indexes[run.key]
            index.store = run.store  # may appear after the run was found
            return index

    def _file_name(self, run: Run) -> str:
        """Whoever views the same run with other questions has an index of their own: records are scored with them."""
        named = "\n".join(map(str, (run.path, *(path.resolve() for path in self.questions.given))))
        return hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()[:24]

    def question(self, run: Run, question_id: str) -> Question | None:
        """The question of an id, as a run has it."""
        found = self.questions.find(question_id, run.path, run.config)
        return found or self.questions.in_evaluation(run.path, run.told_by, question_id)

    def start(self) -> None:
        """Begin to keep the indexes filled."""
        self._thread = threading.Thread(target=self._keep_filled, name="waymark-view-index", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End that thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def _keep_filled(self) -> None:
        while not self._stop.is_set():
            if not self.fill_once():
                self._stop.wait(_LOOK_EVERY_S)

    def fill_once(self) -> int:
        """One look at every run: figures, new lines, and some records; returns how much there was to do."""
        self.runs.look(every_s=2.0)
        done = 0
        for run in self.runs:
            if self._stop.is_set():
                break
            if not run.is_there:
                continue
            try:
                run.metrics.refresh()
                index = self._index(run)
                done += index.catch_up()
                self._notice_questions(run, index)
                done += index.read_records(_RECORDS_AT_ONCE)
                self.faults.pop(run.key, None)
            except (sqlite3.OperationalError, OSError):
                continue  # busy, or deleted just now: the next look tells
            except sqlite3.DatabaseError:
                self._drop(run)
            except Exception as error:  # one run that nothing here foresaw may not end the thread that serves all
                self.faults[run.key] = f"{type(error).__name__}: {error}"[:300]
        return done

    def _drop(self, run: Run) -> None:
        """Delete an index that is damaged; the next look makes it anew."""
        with self._lock:
            index = self._indexes.pop(run.key, None)
            if index is not None:
                index.file.unlink(missing_ok=True)

    def _notice_questions(self, run: Run, index: TrajectoryIndex) -> None:
        """Records were read with the questions of that time: with others they are read again."""
        stamp = []
        evaluated = run.evaluation_file
        files = [path for path, _ in self.questions.files_of(run.path, run.config)]
        for path in [*files, *([evaluated] if evaluated else [])]:
            try:
                stamp.append(f"{path.resolve()}:{path.stat().st_mtime_ns}")
            except OSError:
                continue
        text = "\n".join(stamp)
        if self._noticed.get(run.key) == text:
            return  # another viewer over this cache may know other files: the two may not undo each other for ever
        self._noticed[run.key] = text
        before = index.fact("questions")
        if before != text:
            if before is not None or text:
                index.score_again()
            index.set_fact("questions", text)

    def fill(self) -> None:
        """Fill every index to the end."""
        while self.fill_once():
            pass


def _usable(cache: Path | None) -> Path:
    """The cache folder, made; a folder of this process alone where the user's cannot be written."""
    wanted = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "waymark" / "viewer"
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=wanted):
            return wanted
    except OSError:
        if cache is not None:
            raise
        return Path(tempfile.mkdtemp(prefix="waymark-view-"))
