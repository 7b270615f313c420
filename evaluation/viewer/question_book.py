"""The questions that trajectories answer: their wording, golden answers and supports, which a trajectory does not hold.

They come from the files that a run's `config.yaml` names, and from those given with `--questions`. A file that is not
there any more is told, and its trajectories are shown without gold.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from envs.datasets import read_questions
from envs.question import Question


class QuestionBook:
    """Questions by id, read once a file and again when it changes.

    Args:
        given: files of the reader's own; they come before those that runs name.
    """

    def __init__(self, given: Sequence[Path] = ()) -> None:
        self.given = tuple(given)
        self._lock = threading.Lock()
        self._files: dict[Path, tuple[int, dict[str, Question] | str]] = {}
        self._evaluations: dict[Path, tuple[Mapping[str, Any], dict[str, Question]]] = {}

    def check(self) -> None:
        """See that the reader's own files can be read.

        Raises:
            FileNotFoundError, ValueError: one cannot; the message names it.
        """
        for path in self.given:
            if not path.is_file():
                raise FileNotFoundError(f"--questions: there is no file {path}")
            found = self._read(path, None)
            if isinstance(found, str):
                raise ValueError(f"--questions: {found}")

    def files_of(self, run_folder: Path, config: Mapping[str, Any]) -> list[tuple[Path, str | None]]:
        """(file, format) of every file in question for a run; those that the config names stand last."""
        data = config.get("data")
        named = data if isinstance(data, Mapping) else {}
        files: list[tuple[Path, str | None]] = [(path, None) for path in self.given]
        for field in ("train_questions", "dev_questions", "questions"):
            path = named.get(field)
            if isinstance(path, str):
                own_format = named.get("format")
                files.append((found_from(Path(path), run_folder), own_format if isinstance(own_format, str) else None))
        return files

    def find(self, question_id: str, run_folder: Path, config: Mapping[str, Any]) -> Question | None:
        """The question of an id, as a run would have it; None where no file has it."""
        for path, own_format in self.files_of(run_folder, config):
            questions = self._read(path, own_format)
            if not isinstance(questions, str) and question_id in questions:
                return questions[question_id]
        return None

    def file_with(self, text: str, run_folder: Path, config: Mapping[str, Any]) -> Path | None:
        """The first file in which a question of this text, or this id, stands."""
        wanted = text.strip()
        for path, own_format in self.files_of(run_folder, config):
            questions = self._read(path, own_format)
            if not isinstance(questions, str) and any(wanted in (q.id, q.text.strip()) for q in questions.values()):
                return path
        return None

    def in_evaluation(self, folder: Path, evaluation: Mapping[str, Any], question_id: str) -> Question | None:
        """The question as the `evaluation.json` of a run's folder tells it, without hops."""
        if not evaluation:
            return None
        with self._lock:
            known = self._evaluations.get(folder)
            if known is None or known[0] is not evaluation:
                self._evaluations[folder] = known = (evaluation, _questions_of(evaluation))
        return known[1].get(question_id)

    def troubles(self, run_folder: Path, config: Mapping[str, Any]) -> list[str]:
        """Files that could not be read, in sentences."""
        read = [self._read(path, own_format) for path, own_format in self.files_of(run_folder, config)]
        return [found for found in read if isinstance(found, str)]

    def _read(self, path: Path, own_format: str | None) -> dict[str, Question] | str:
        with self._lock:
            try:
                changed = path.stat().st_mtime_ns
            except OSError:
                return f"Questions are not shown with their gold: {path} is not there (name it with --questions)."
            known = self._files.get(path)
            if known is None or known[0] != changed:
                self._files[path] = known = (changed, _parse(path, own_format))
            return known[1]


def _parse(path: Path, own_format: str | None) -> dict[str, Question] | str:
    if own_format is not None and ":" in own_format:
        return f"{path} has a format of the run's own ({own_format}), whose code the viewer does not run."
    try:
        return {question.id: question for question in read_questions(path, own_format)}
    except (ValueError, OSError) as error:
        return f"{path} cannot be read as questions: {error}"


def _questions_of(evaluation: Mapping[str, Any]) -> dict[str, Question]:
    columns = evaluation.get("per_question")
    if not isinstance(columns, Mapping) or not isinstance(columns.get("question"), list):
        return {}
    count = len(columns["question"])
    names = ("question_id", "question", "golden_answers", "supporting_ids")
    rows = zip(
        *(found if isinstance(found := columns.get(name), list) else [()] * count for name in names), strict=False
    )
    return {
        id: Question(id=id, text=text, golden_answers=_texts(golds), supporting_ids=_texts(supports))
        for id, text, golds, supports in rows
        if isinstance(id, str) and isinstance(text, str)
    }


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(value for value in values if isinstance(value, str)) if isinstance(values, list | tuple) else ()


def found_from(path: Path, run_folder: Path) -> Path:
    """A path as the run wrote it; a relative one is looked for from here and from every folder above the run."""
    if path.is_absolute() or path.exists():
        return path
    return next((folder / path for folder in run_folder.parents if (folder / path).exists()), path)
