"""Two policies question by question: where one is right and the other is wrong comes first."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedQuestion:
    """One question's trajectories in two runs; EM is the mean over them, None where it is not known."""

    question_id: str
    count_a: int
    count_b: int
    em_a: float | None
    em_b: float | None

    @property
    def change(self) -> float | None:
        """EM of the second less EM of the first."""
        return None if self.em_a is None or self.em_b is None else self.em_b - self.em_a


def compared_questions(a: sqlite3.Connection, b: sqlite3.Connection) -> list[ComparedQuestion]:
    """Questions that both runs asked, those that the second lost first."""
    first, second = _by_question(a), _by_question(b)
    both = [
        ComparedQuestion(question_id=q, count_a=n, count_b=second[q][0], em_a=em, em_b=second[q][1])
        for q, (n, em) in first.items()
        if q in second
    ]
    return sorted(both, key=lambda row: (row.change is None, row.change or 0.0, row.question_id))


def _by_question(database: sqlite3.Connection) -> dict[str, tuple[int, float | None]]:
    rows = database.execute("SELECT question_id, count(*), avg(em) FROM trajectory GROUP BY question_id")
    return {row[0]: (row[1], row[2]) for row in rows}


def trajectories_of(database: sqlite3.Connection, question_id: str, most: int = 4) -> Sequence[sqlite3.Row]:
    """The newest trajectories of a question, of the newest step that asked it."""
    return database.execute(
        "SELECT * FROM trajectory WHERE question_id = ? AND step = (SELECT max(step) FROM trajectory "
        "WHERE question_id = ?) ORDER BY n LIMIT ?",
        (question_id, question_id, most),
    ).fetchall()
