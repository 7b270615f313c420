"""Which trajectories a reader wants to see, in which order, a page at a time.

Pages are cut by key, not by offset: the next page begins after the last row of this one, so the thousandth page is as
fast as the first, and rows that a live run adds move nothing.
"""

import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode

PAGE_SIZE = 50
ORDERS: dict[str, tuple[str, str]] = {
    "newest": ("n", "DESC"),
    "oldest": ("n", "ASC"),
    "highest reward": ("reward", "DESC"),
    "lowest reward": ("reward", "ASC"),
}
"""Column and direction of each order; rows without a reward stand nowhere in the last two."""

OUTCOMES = ("right", "wrong", "unread")
_TEXT_FIELDS = ("question", "group", "finish", "text", "outcome", "order", "after")
_NUMBER_FIELDS = ("step_from", "step_to", "reward_from", "reward_to")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryFilter:
    """One question asked of the index; what is "" or None asks nothing."""

    question: str = ""
    group: str = ""
    finish: str = ""
    text: str = ""
    outcome: str = ""
    order: str = "newest"
    step_from: float | None = None
    step_to: float | None = None
    reward_from: float | None = None
    reward_to: float | None = None
    after: str = ""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Self:
        """From an address; what is no number, or an unknown order, asks nothing."""
        values: dict[str, Any] = {name: query[name].strip() for name in _TEXT_FIELDS if query.get(name)}
        for name in _NUMBER_FIELDS:
            try:
                values[name] = float(query[name])
            except (KeyError, ValueError):
                continue
        if values.get("order") not in ORDERS:
            values.pop("order", None)
        return cls(**values)

    def address(self, **changes: Any) -> str:
        """The query string of this filter with some fields changed; a page of its own unless `after` is given."""
        fields = {name: getattr(self, name) for name in (*_TEXT_FIELDS, *_NUMBER_FIELDS) if name != "after"} | changes
        return urlencode(
            {k: written(v) if isinstance(v, float) else v for k, v in fields.items() if v not in ("", None)}
        )

    @property
    def asks_records(self) -> bool:
        """True if it asks what only the records say, which may not all have been read yet."""
        return bool(self.group or self.text or self.outcome)

    def _conditions(self) -> tuple[list[str], list[Any]]:
        conditions, values = ["1"], list[Any]()
        for column, value in (("question_id", self.question), ("finish_reason", self.finish)):
            if value:
                conditions.append(f"{column} = ?")
                values.append(value)
        if self.group:
            conditions.append("(group_id = ? OR unit_id = ?)")
            values += [self.group, self.group]
        for column, low, high in (("step", self.step_from, self.step_to), ("reward", self.reward_from, self.reward_to)):
            for sign, bound in ((">=", low), ("<=", high)):
                if bound is not None:
                    conditions.append(f"{column} {sign} ?")
                    values.append(bound)
        if self.outcome in ("right", "wrong"):
            conditions.append("em = ?" if self.outcome == "right" else "em < ?")
            values.append(1)
        elif self.outcome == "unread":
            conditions.append("state = 2")
        if self.text:
            conditions.append("n IN (SELECT rowid FROM words WHERE words MATCH ?)")
            values.append(match_expression(self.text))
        if self.order in ("highest reward", "lowest reward"):
            conditions.append("reward IS NOT NULL")
        return conditions, values

    def page(self, database: sqlite3.Connection, size: int = PAGE_SIZE) -> tuple[list[sqlite3.Row], str]:
        """Rows of this page, and the `after` of the next one ("" on the last)."""
        conditions, values = self._conditions()
        column, direction = ORDERS[self.order]
        sign = "<" if direction == "DESC" else ">"
        last = re.fullmatch(r"(?:(-?[\d.e+-]+|inf|-inf)_)?(\d{1,18})", self.after)
        if last and column == "n":
            conditions.append(f"n {sign} ?")
            values.append(int(last[2]))
        elif last and last[1] and _is_number(last[1]):
            conditions.append(f"(reward, n) {sign} (?, ?)")
            values += [float(last[1]), int(last[2])]
        ordered = f"{column} {direction}" + (f", n {direction}" if column != "n" else "")
        rows = database.execute(
            f"SELECT * FROM trajectory WHERE {' AND '.join(conditions)} ORDER BY {ordered} LIMIT ?", (*values, size + 1)
        ).fetchall()
        if len(rows) <= size:
            return rows, ""
        end = rows[size - 1]
        return rows[:size], str(end["n"]) if column == "n" else f"{end['reward']!r}_{end['n']}"

    def count(self, database: sqlite3.Connection) -> int:
        """How many trajectories there are for this filter, over all pages."""
        conditions, values = self._conditions()
        found = database.execute(f"SELECT count(*) FROM trajectory WHERE {' AND '.join(conditions)}", values)
        return int(found.fetchone()[0])


def written(value: float) -> str:
    """A bound with all its digits: one that is rounded from page to page leaves rows out."""
    return str(int(value)) if value.is_integer() else repr(value)


def match_expression(text: str) -> str:
    """A search for all words of a text, the last one as a beginning; quoted, so that no word is an operator."""
    words = [word.replace('"', '""') for word in text.replace("\0", " ").split()][:20]
    quoted = [f'"{word}"' for word in words]
    return " ".join([*quoted[:-1], f"{quoted[-1]}*"]) if quoted else '""'


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
