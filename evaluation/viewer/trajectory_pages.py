"""Pages about episodes: one trajectory, a group side by side, and two policies on one question."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.trajectory_segment import StoredTrajectory
from evaluation.viewer.branch_tree import branch_tree
from evaluation.viewer.catalogue import Catalogue
from evaluation.viewer.evidence_graph import evidence_graph
from evaluation.viewer.questions_compared import compared_questions, trajectories_of
from evaluation.viewer.run_pages import index_counts, troubles
from evaluation.viewer.runs import Run
from evaluation.viewer.token_spans import COLOURINGS, token_spans
from evaluation.viewer.turn_cards import TrajectoryView, trajectory_view, wording_of

MOST_SIDE_BY_SIDE = 16
_MOST_COMPARED = 500


class PageError(Exception):
    """Something asked for is not there, or cannot be read; `status` is the answer's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def located(catalogue: Catalogue, run: Run, query: Mapping[str, str]) -> sqlite3.Row:
    """The row of the trajectory that an address names, by `at=SEGMENT-OFFSET` or by `id`.

    Raises:
        PageError: there is none.
    """
    if not run.is_there:
        raise PageError(410, "The folder of this run is gone: it was deleted or moved while it was being viewed.")
    at, asked_id = query.get("at", ""), query.get("id", "")
    segment, _, offset = at.partition("-")
    with catalogue.index(run).reading() as database:
        if segment.isdecimal() and offset.isdecimal() and len(at) < 40:
            where, values = "segment = ? AND offset = ?", (min(int(segment), 2**62), min(int(offset), 2**62))
            row = database.execute(f"SELECT * FROM trajectory WHERE {where}", values).fetchone()
        else:
            row = database.execute("SELECT * FROM trajectory WHERE id = ? ORDER BY n DESC", (asked_id,)).fetchone()
    if row is None:
        raise PageError(
            404,
            f"There is no trajectory {asked_id or at!r} in {run.name}. The oldest ones are deleted when a run's "
            "trajectories reach their bound, and a resumed run samples its last steps again.",
        )
    found: sqlite3.Row = row
    return found


def read(catalogue: Catalogue, run: Run, row: sqlite3.Row) -> StoredTrajectory:
    """The record of a row.

    Raises:
        PageError: it is damaged, newer than this version, or gone.
    """
    try:
        return catalogue.index(run).read(row["segment"], row["offset"], row["length"])
    except FileNotFoundError:
        raise PageError(410, f"The trajectory {row['id']} has been deleted since this page was made.") from None
    except ValueError as error:
        raise PageError(
            422, f"The trajectory {row['id']} cannot be read: {str(error)[:300]}. It is damaged, or of a newer version."
        ) from None


def _view(catalogue: Catalogue, run: Run, row: sqlite3.Row) -> TrajectoryView:
    stored = read(catalogue, run, row)
    question = catalogue.question(run, stored.trajectory.question_id)
    return trajectory_view(stored.trajectory, question, step=stored.step, extra=stored.extra)


def trajectory_page(catalogue: Catalogue, run: Run, query: Mapping[str, str]) -> dict[str, Any]:
    """One trajectory with its cards, graph and neighbours; `tokens` in the query asks for coloured tokens."""
    row = located(catalogue, run, query)
    view = _view(catalogue, run, row)
    with catalogue.index(run).reading() as database:
        newer = database.execute("SELECT * FROM trajectory WHERE n > ? ORDER BY n LIMIT 1", (row["n"],)).fetchone()
        older = database.execute("SELECT * FROM trajectory WHERE n < ? ORDER BY n DESC LIMIT 1", (row["n"],)).fetchone()
    colouring = query.get("tokens", "")
    return {
        "run": run,
        "row": row,
        "view": view,
        "graph": evidence_graph(view),
        "newer": newer,
        "older": older,
        "colouring": colouring if colouring in COLOURINGS else "",
        "colourings": COLOURINGS,
        **(tokens_part(catalogue, run, query) if colouring in COLOURINGS else {}),
    }


def tokens_part(catalogue: Catalogue, run: Run, query: Mapping[str, str]) -> dict[str, Any]:
    """The coloured tokens of a trajectory."""
    row = located(catalogue, run, query)
    stored = read(catalogue, run, row)
    trajectory = stored.trajectory
    ids = [int(i) for i in trajectory.token_ids]
    pieces = catalogue.tokens.pieces(ids, run.path, run.config)
    colouring = query.get("tokens", "mask")
    advantages = stored.extra.get("advantages")
    num_shared = sum(len(turn.action_ids) for turn in trajectory.turns[: trajectory.fork_turn or 0])
    return {
        "run": run,
        "row": row,
        "colouring": colouring if colouring in COLOURINGS else "mask",
        "spans": token_spans(
            trajectory,
            pieces or [f"{i} " for i in ids],
            colouring,
            [a if isinstance(a, int | float) else None for a in advantages] if isinstance(advantages, list) else None,
        ),
        "has_text": pieces is not None,
        "num_tokens": len(ids),
        "num_sampled": int(trajectory.loss_mask.sum()) - num_shared,
        "num_shared": num_shared,
    }


def group_page(catalogue: Catalogue, run: Run, query: Mapping[str, str]) -> dict[str, Any]:
    """The trajectories of a group or unit side by side, as a tree where some branch off others.

    Raises:
        PageError: there is none of that name.
    """
    if not run.is_there:
        raise PageError(410, "The folder of this run is gone: it was deleted or moved while it was being viewed.")
    name = query.get("id", "")
    with catalogue.index(run).reading() as database:
        rows = database.execute(
            "SELECT * FROM trajectory WHERE unit_id = ? OR group_id = ? ORDER BY view, sample, n LIMIT ?",
            (name, name, MOST_SIDE_BY_SIDE * 4 + 1),
        ).fetchall()
    if not rows:
        raise PageError(404, f"There is no group {name!r} in {run.name}, or its records have not been read yet.")
    views, unread = _readable(catalogue, run, rows[: MOST_SIDE_BY_SIDE * 4])
    branched = any(view.trajectory.parent_id is not None for view, _ in views)
    wordings = len({view.trajectory.view for view, _ in views})
    return {
        "run": run,
        "name": name,
        "columns": views[:MOST_SIDE_BY_SIDE],
        "others": views[MOST_SIDE_BY_SIDE:],
        "unread": unread,
        "kind": "branches" if branched else "paraphrases" if wordings > 1 else "samples",
        "tree": branch_tree([view for view, _ in views]) if branched else None,
        "places": {view.trajectory.id: place(row) for view, row in views},
        "question": views[0][0].question if views else None,
    }


def _readable(
    catalogue: Catalogue, run: Run, rows: Sequence[sqlite3.Row]
) -> tuple[list[tuple[TrajectoryView, sqlite3.Row]], int]:
    views, unread = [], 0
    for row in rows:
        try:
            views.append((_view(catalogue, run, row), row))
        except PageError:
            unread += 1
    return views, unread


def place(row: sqlite3.Row) -> str:
    """Where a record lies, as addresses have it."""
    return f"{row['segment']}-{row['offset']}"


def compare_page(catalogue: Catalogue, query: Mapping[str, str]) -> dict[str, Any]:
    """Two runs question by question, or both on one question.

    Raises:
        PageError: a run that is not there.
    """
    chosen = []
    for name in ("a", "b"):
        key = query.get(name, "")
        run = catalogue.runs.get(key) if key else None
        if key and (run is None or not run.is_there):
            raise PageError(404, f"There is no run {key!r} any more.")
        chosen.append(run)
    a, b = chosen
    question_id = query.get("question", "")
    page: dict[str, Any] = {"a": a, "b": b, "runs": sorted(catalogue.runs, key=lambda run: run.name)}
    page |= {"question_id": question_id, "rows": [], "sides": [], "question": None, "total": 0}
    if a is None or b is None:
        return page
    if question_id:
        page["question"] = catalogue.question(a, question_id) or catalogue.question(b, question_id)
        page["wording"] = wording_of(page["question"], 0)
        for run in (a, b):
            with catalogue.index(run).reading() as database:
                rows = trajectories_of(database, question_id)
            views, unread = _readable(catalogue, run, rows)
            counts = index_counts(catalogue, run)
            page["sides"].append((run, views, unread, troubles(catalogue, run, counts)))
        return page
    with catalogue.index(a).reading() as first, catalogue.index(b).reading() as second:
        found = compared_questions(first, second)
    page["total"] = len(found)
    page["lost"] = sum((row.change or 0) < 0 for row in found)
    page["won"] = sum((row.change or 0) > 0 for row in found)
    page["rows"] = [
        (row, catalogue.question(a, row.question_id) or catalogue.question(b, row.question_id))
        for row in found[:_MOST_COMPARED]
    ]
    return page
