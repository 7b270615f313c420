"""An `evaluation.json` read back, whatever version of Waymark wrote it, and refused where it cannot be trusted.

A file is whole or it is not read: columns of one length, every question once, figures that are numbers. What an older
file does not say (texts, types, parts of the comparability block) is None, and shown as unknown. A file of a newer
format is refused, because a figure in it may mean something else.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.question_columns import TEXT_COLUMNS

FORMAT = 2
"""Of `evaluation.json`; files without one are of format 1, which has no texts."""

FILE = "evaluation.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationFile:
    """One evaluation, as its file tells it.

    Attributes:
        path: the file.
        summary: means, intervals and counts, by the names of `evaluate --json`, latencies among them.
        question_ids: `[num_questions]`.
        figures: one number per question by name, NaN where it does not apply: `[num_questions]` each.
        texts: the columns of `evaluation.question_columns` that the file has: `[num_questions]` each.
        comparability: the block, as it was written.
        controls: summaries by the control's name.
    """

    path: Path
    summary: dict[str, Any]
    question_ids: tuple[str, ...]
    figures: dict[str, NDArray[np.float64]]
    texts: dict[str, list[Any]]
    comparability: dict[str, Any]
    controls: dict[str, dict[str, Any]]

    @property
    def num_questions(self) -> int:
        """Questions that the file has figures of."""
        return len(self.question_ids)

    @property
    def trajectories(self) -> Path | None:
        """The folder of the episodes, None where it is not beside the file."""
        folder = self.path.parent / "trajectories"
        return folder if folder.is_dir() else None

    def taken(self, ids: tuple[str, ...]) -> "EvaluationFile":
        """The same evaluation with these questions alone, in this order; the summary stays that of all questions."""
        if ids == self.question_ids:
            return self
        place = {question_id: i for i, question_id in enumerate(self.question_ids)}
        rows = [place[question_id] for question_id in ids]
        return EvaluationFile(
            path=self.path,
            summary=self.summary,
            question_ids=ids,
            figures={name: values[rows] for name, values in self.figures.items()},
            texts={name: [values[row] for row in rows] for name, values in self.texts.items()},
            comparability=self.comparability,
            controls=self.controls,
        )


def read_evaluation(path: str | Path) -> EvaluationFile:
    """Read an `evaluation.json`, or the one in a folder.

    Raises:
        FileNotFoundError: there is none; the message says whether the evaluation was broken off.
        ValueError: the file is cut off, not an evaluation, of a newer format, or its questions are not each there once.
    """
    file = evaluation_path(Path(path))
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not JSON ({error}): it was cut off or edited; evaluate again") from None
    if not isinstance(record, dict):
        raise ValueError(
            f"{file} holds a {type(record).__name__}, not an evaluation; give a file of `waymark evaluate`"
        )
    written = record.get("format", 1)
    if not isinstance(written, int) or written > FORMAT:
        raise ValueError(
            f"{file} has format {written!r}, and this version of Waymark reads formats up to {FORMAT}: it was written "
            "by a newer one; update Waymark to compare it"
        )
    columns = record.get("per_question")
    if not isinstance(columns, dict) or not isinstance(columns.get("question_id"), list):
        raise ValueError(
            f"{file} has no figures per question (per_question.question_id); give a file of `waymark evaluate`"
        )
    ids = _question_ids(file, columns["question_id"])
    for name, values in columns.items():
        if not isinstance(values, list) or len(values) != len(ids):
            size = len(values) if isinstance(values, list) else type(values).__name__
            raise ValueError(f"{file}: per_question.{name} has {size} entries for {len(ids)} questions; evaluate again")
    other = {"latency", "per_question", "comparability", "controls", "retrieval", "consistency_per_question", "format"}
    return EvaluationFile(
        path=file,
        summary={
            **{name: value for name, value in record.items() if name not in other},
            **_mapping(record.get("latency")),
        },
        question_ids=ids,
        figures={
            name: _numbers(file, name, v) for name, v in columns.items() if name not in TEXT_COLUMNS and _is_figure(v)
        },
        texts={name: columns[name] for name in TEXT_COLUMNS[1:] if name in columns},
        comparability=_mapping(record.get("comparability")),
        controls={name: _mapping(summary) for name, summary in _mapping(record.get("controls")).items()},
    )


def evaluation_path(path: Path) -> Path:
    """The file that a path names: itself, or `evaluation.json` in a folder.

    Raises:
        FileNotFoundError: there is none.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"there is no evaluation at {path}; give a folder of `waymark evaluate`, or its {FILE}")
    if (path / FILE).is_file():
        return path / FILE
    if is_half_written(path):
        raise FileNotFoundError(f"{path} is half written: it has trajectories but no {FILE}; evaluate again")
    raise FileNotFoundError(f"{path} holds no {FILE}; give a folder of `waymark evaluate`")


def is_half_written(folder: Path) -> bool:
    """True if an evaluation was begun in a folder and has not been finished."""
    if (folder / FILE).exists() or (folder / "metrics.jsonl").exists():
        return False
    return (folder / "trajectories").is_dir()


def _question_ids(file: Path, values: list[Any]) -> tuple[str, ...]:
    ids = tuple(map(str, values))
    if not ids:
        raise ValueError(f"{file} has no question; evaluate again")
    seen: set[str] = set()
    repeated = [question_id for question_id in ids if question_id in seen or seen.add(question_id)]  # type: ignore[func-returns-value]
    if repeated:
        raise ValueError(
            f"{file} has {len(repeated)} questions twice, first {repeated[0]!r}; figures are kept per question: make "
            "the ids of the question file unique and evaluate again"
        )
    return ids


def _is_figure(values: list[Any]) -> bool:
    return all(value is None or isinstance(value, (int, float)) for value in values)


def _numbers(file: Path, name: str, values: list[Any]) -> NDArray[np.float64]:
    numbers = np.asarray([np.nan if value is None else float(value) for value in values], dtype=np.float64)
    if np.isinf(numbers).any():
        raise ValueError(f"{file}: per_question.{name} holds an infinite number; evaluate again")
    return numbers


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
