"""Pages about whole runs: the list, one run's curves or figures, and its trajectories by filter."""

import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evaluation.report import METRIC_LABELS
from evaluation.trajectory_record import plain
from evaluation.viewer.catalogue import Catalogue
from evaluation.viewer.curve_svg import sparkline
from evaluation.viewer.metric_log import Points
from evaluation.viewer.run_charts import chart_sections
from evaluation.viewer.runs import Run, run_key
from evaluation.viewer.trajectory_filter import ORDERS, OUTCOMES, TrajectoryFilter

_SPARKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("EM", ("dev/em", "em")),
    ("reward", ("reward",)),
    ("entropy", ("entropy",)),
)
_MOST_FINISH_REASONS = 20
_MOST_NAMES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Spark:
    """A small line with its last value."""

    name: str
    path: str
    last: float


def list_page(catalogue: Catalogue) -> dict[str, Any]:
    """What the list of runs shows, the run that was written to last on top."""
    catalogue.runs.look(every_s=1.0)
    rows = []
    for run in sorted(catalogue.runs, key=lambda run: -run.last_written):
        run.metrics.refresh()
        counts = index_counts(catalogue, run)
        rows.append({"run": run, "counts": counts, "sparks": _sparks(run), "figures": _headline(run)})
    return {"rows": rows, "folders": catalogue.runs.folders}


def _sparks(run: Run) -> list[Spark]:
    found = []
    for name, keys in _SPARKS:
        points: Points = next((p for key in keys if (p := run.metrics.points(key))), [])
        if name == "reward":
            points = _total_reward(run)
        if points:
            found.append(Spark(name=name, path=sparkline(points), last=points[-1][1]))
    return found


def _total_reward(run: Run) -> Points:
    """The sum of the weighted means of all components, by step."""
    totals: dict[float, float] = {}
    for key in run.metrics.names():
        if key.startswith("rewards/") and key.endswith("/weighted_mean"):
            for x, y in run.metrics.points(key):
                totals[x] = totals.get(x, 0.0) + y
    return sorted(totals.items())


def _headline(run: Run) -> list[tuple[str, float, float | None, float | None]]:
    """EM, F1 and support recall of an evaluation, with intervals."""
    record = run.evaluation
    return [
        (METRIC_LABELS[key], record[key], record.get(f"{key}_low"), record.get(f"{key}_high"))
        for key in ("em", "f1", "support_recall")
        if isinstance(record.get(key), int | float)
    ]


def index_counts(catalogue: Catalogue, run: Run) -> dict[str, Any]:
    """How many trajectories there are, are read, are damaged, and what of the index could not be read."""
    empty = {"total": 0, "read": 0, "damaged": 0, "bad_lines": 0, "newer": "", "last_step": None}
    if not run.is_there:
        return empty
    try:
        with catalogue.index(run).reading() as database:
            total, waiting, damaged, last_step = database.execute(
                "SELECT (SELECT count(*) FROM trajectory), (SELECT count(*) FROM trajectory WHERE state = 0), "
                "(SELECT count(*) FROM trajectory WHERE state = 2), (SELECT max(step) FROM trajectory)"
            ).fetchone()
            lines = database.execute("SELECT bad_lines, newer FROM segment").fetchall()
    except sqlite3.OperationalError:
        return empty
    names = sorted({name for _, newer in lines for name in json.loads(newer)})
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return {
        "total": total,
        "read": total - waiting - damaged,
        "waiting": waiting,
        "damaged": damaged,
        "bad_lines": sum(bad for bad, _ in lines),
        "newer": ", ".join(names[:_MOST_NAMES]) + more,
        "last_step": last_step,
    }


def index_troubles(counts: Mapping[str, Any]) -> list[str]:
    """What of a run's trajectories could not be read, in sentences."""
    told = []
    if counts["bad_lines"]:
        lines = "1 line" if counts["bad_lines"] == 1 else f"{counts['bad_lines']} lines"
        told.append(f"{lines} of the trajectories' index could not be read: skipped.")
    if counts["damaged"]:
        records = "1 trajectory" if counts["damaged"] == 1 else f"{counts['damaged']} trajectories"
        told.append(f"{records} could not be read (damaged, or written by a newer version): skipped.")
    if counts["newer"]:
        told.append(f"Written by a newer version of Waymark: fields that this one does not know ({counts['newer']}).")
    return told


def troubles(catalogue: Catalogue, run: Run, counts: Mapping[str, Any]) -> list[str]:
    """Everything that a reader of the run should know, in sentences."""
    told = [*run.troubles(), *index_troubles(counts)]
    if run.is_there:
        told += catalogue.questions.troubles(run.path, run.config)
        if run.key in catalogue.faults:
            told.append(f"Its trajectories could not all be listed: {catalogue.faults[run.key]}")
    return told


def run_page(catalogue: Catalogue, run: Run) -> dict[str, Any]:
    """Curves of a training run, or the figures of an evaluation."""
    run.metrics.refresh()
    counts = index_counts(catalogue, run)
    record = run.evaluation
    controls = found if isinstance(found := record.get("controls"), Mapping) else {}
    return {
        "run": run,
        "counts": counts,
        "troubles": troubles(catalogue, run, counts),
        "sections": chart_sections(run.metrics, _from_records(catalogue, run)),
        "last": run.metrics.last,
        "alarms": [(alarm, _batch_key(catalogue, run, alarm)) for alarm in run.alarms],
        "figures": _figures(record),
        "controls": {k: v for k, v in controls.items() if isinstance(v, Mapping)},
        "control_keys": ("em", "f1", "support_recall", "searches_per_question"),
        "comparability": _flat(plain(record.get("comparability") or {})),
        "config": _flat(run.config),
    }


def _batch_key(catalogue: Catalogue, run: Run, alarm: Mapping[str, Any]) -> str | None:
    """The key of the batch that an alarm kept, where it is there."""
    batch = alarm.get("batch")
    key = run_key(run.path / batch) if isinstance(batch, str) else ""
    return key if catalogue.runs.get(key) else None


def _from_records(catalogue: Catalogue, run: Run) -> dict[str, Points]:
    """Thinking length and duplicate queries by step, where the metrics do not have them."""
    wanted = {
        "thoughts/words": ("Thinking length (words of a trajectory)", "avg(thought_words)"),
        "duplicate_query_rate": (
            "Duplicate queries (share of searches)",
            "sum(duplicate_queries) * 1.0 / nullif(sum(num_searches), 0)",
        ),
    }
    found: dict[str, Points] = {}
    if run.kind != "training" or not run.is_there:
        return found
    for key, (title, value) in wanted.items():
        if not run.metrics.points(key):
            with catalogue.index(run).reading() as database:
                rows = database.execute(
                    f"SELECT step, {value} FROM trajectory WHERE state = 1 GROUP BY step ORDER BY step"
                )
                found[title] = [(float(step), float(y)) for step, y in rows if y is not None]
    return found


def _figures(record: Mapping[str, Any]) -> list[tuple[str, Any, Any, Any]]:
    """Rows of an evaluation's table: every figure that has an interval, then plain numbers."""
    rows = []
    for key, value in record.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and not key.endswith(("_low", "_high")):
            rows.append((METRIC_LABELS.get(key, key.replace("_", " ")), value, *_interval(record, key)))
    return rows


def _interval(record: Mapping[str, Any], key: str) -> tuple[Any, Any]:
    return record.get(f"{key}_low"), record.get(f"{key}_high")


def trajectories_page(catalogue: Catalogue, run: Run, query: Mapping[str, str]) -> dict[str, Any]:
    """One page of trajectories."""
    asked = TrajectoryFilter.from_query(query)
    started = time.perf_counter()
    with catalogue.index(run).reading() as database:
        rows, after = asked.page(database)
        total = asked.count(database)
        reasons = database.execute(
            "SELECT finish_reason, count(*) FROM trajectory GROUP BY finish_reason ORDER BY 2 DESC LIMIT ?",
            (_MOST_FINISH_REASONS,),
        ).fetchall()
    counts = index_counts(catalogue, run)
    texts = {row["question_id"]: catalogue.question(run, row["question_id"]) for row in rows}
    return {
        "run": run,
        "counts": counts,
        "troubles": troubles(catalogue, run, counts),
        "asked": asked,
        "rows": rows,
        "total": total,
        "next": asked.address(after=after) if after else "",
        "first": asked.address() if asked.after else "",
        "reasons": reasons,
        "orders": tuple(ORDERS),
        "outcomes": OUTCOMES,
        "texts": texts,
        "milliseconds": (time.perf_counter() - started) * 1000,
    }


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as (dotted name, text) rows."""
    if isinstance(value, Mapping):
        return [row for key, item in value.items() for row in _flat(item, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return [row for i, item in enumerate(value) for row in _flat(item, f"{prefix}.{i}")]
    if isinstance(value, list):
        return [(prefix, ", ".join(map(str, value)) or "none")]
    return [(prefix, "none" if value is None else str(value))]
