"""A report as one self-contained HTML page, and the same figures as report.json.

The page makes no request: plotly.js is inlined once, and a content security policy allows only the three scripts that
are written here, by their hashes. Everything that comes from documents, models and users is escaped by the template
engine, and data for the charts is JSON in which no tag can end. It follows the reader's light or dark setting, fits a
phone, and every chart has its figures in a table beside it.
"""

import base64
import csv
import hashlib
import importlib.metadata
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import plotly.offline
from markupsafe import Markup

from evaluation.charts import em_chart, learning_chart, legend, metric_charts, reward_charts
from evaluation.curves import arm_curve, arm_series, interval_meaning, metric_keys
from evaluation.figure_names import METRIC_LABELS
from evaluation.page_templates import page_environment
from evaluation.report_parts import Arm, Cell, Measure, Report, Table
from evaluation.trajectory_record import plain

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A spreadsheet reads a text that begins so as a formula."""

CONTROL_COLUMNS: tuple[str, ...] = ("em", "f1", "support_recall", "searches_per_question")


def write_report(out_dir: str | Path, report: Report) -> Path:
    """Write `report.html` and `report.json` into `out_dir` (created where needed); returns the path of the page.

    A report with `per_question` gets a `report.csv` too.

    Raises:
        ValueError: the report holds something that JSON cannot.
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report_record(report), ensure_ascii=False, allow_nan=False, indent=1)
    page = render_html(report)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8", errors="replace")
    (folder / "report.html").write_text(page, encoding="utf-8", errors="replace")
    if report.per_question:
        write_columns(folder / "report.csv", report.per_question)
    return folder / "report.html"


def write_columns(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Columns as CSV (UTF-8, a header, what does not apply is empty).

    A text, a column's name too, that a spreadsheet would take for a formula gets an apostrophe before it: it may come
    from a model.
    """
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(map(_csv_cell, columns))
        writer.writerows([_csv_cell(value) for value in row] for row in zip(*columns.values(), strict=True))


def report_record(report: Report) -> dict[str, Any]:
    """What report.json holds: `arms` and `controls` by name, each with its final figures; curves; the rest as it is."""
    charted = {chart.key for chart in report.metric_charts}
    record = {
        "title": report.title,
        "summary": list(report.summary_lines),
        "arms": {arm.name: _arm_record(arm, charted) for arm in report.arms},
        "controls": {name: dict(summary) for name, summary in report.controls.items()},
        "tables": [_table_record(table) for table in report.tables],
        "sections": {s.title: [_table_record(table) for table in s.tables] for s in report.sections if s.tables},
        "examples": [example.id for example in report.examples],
        "intervals": interval_meaning(report.arms),
        "notes": list(report.notes),
        "comparability": dict(report.comparability),
    }
    repeated = sorted(set(record) & set(report.figures))
    if repeated:
        raise ValueError(f"figures repeat {', '.join(repeated)} of report.json; give them other names")
    result: dict[str, Any] = plain({**record, **report.figures})
    return result


def render_html(report: Report) -> str:
    """The whole page."""
    learning = learning_chart(report)
    groups = [
        ("Training", metric_charts(report)),
        ("Reward components", reward_charts(report)),
    ]
    em = em_chart(report)
    sections = [chart for section in report.sections for chart in section.charts]
    charts = [chart for chart in (*sections, learning, em, *groups[0][1], *groups[1][1]) if chart is not None]
    environment = page_environment("evaluation")
    environment.filters |= {
        "number": format_number,
        "signed": format_signed,
        "difference": format_difference,
        "cell": _cell_text,
    }
    plotly_js = plotly.offline.get_plotlyjs()
    page_js = _template_text(environment, "report.js")
    figures = {chart.key: chart.figure for chart in charts}
    scripts = (plotly_js, page_js) if charts else ()
    return environment.get_template("report.html.j2").render(
        report=report,
        learning=learning,
        em=em,
        legend=legend(report.arms),
        groups=[(title, found) for title, found in groups if found],
        evaluation=evaluation_table(report.arms),
        finish=finish_table(report.arms),
        controls=controls_table(report.controls),
        interval_meaning=interval_meaning(report.arms),
        comparability=_flat(plain(dict(report.comparability))),
        has_charts=bool(charts),
        figures=Markup(script_json(figures)),
        css=Markup(_template_text(environment, "report.css")),
        plotly_js=Markup(plotly_js),
        page_js=Markup(page_js),
        policy=_content_policy(scripts),
        plotly_megabytes=f"{len(plotly_js.encode()) / 1e6:.1f}",
        plotly_version=importlib.metadata.version("plotly"),
    )


def evaluation_table(arms: Sequence[Arm]) -> Table | None:
    """Metrics by arm, with intervals; None where no arm has any."""
    measured = [arm for arm in arms if any(arm.final.get(key) is not None for key in METRIC_LABELS)]
    if not measured:
        return None
    rows: list[list[Cell]] = [["Questions", *(arm.final.get("n") for arm in measured)]]
    outages = any(arm.final.get("num_outages") for arm in measured)
    for key, label in METRIC_LABELS.items():
        if key == "em_without_outages" and not outages:
            continue
        if any(arm.final.get(key) is not None for arm in measured):
            rows.append([label, *(_measure(arm.final, key) for arm in measured)])
    return Table(title="Evaluation", columns=["", *(arm.name for arm in measured)], rows=rows)


def finish_table(arms: Sequence[Arm]) -> Table | None:
    """Episodes by finish reason and arm; None where no arm counted them."""
    counted = [arm for arm in arms if arm.final.get("finish_reasons")]
    if not counted:
        return None
    reasons = dict.fromkeys(reason for arm in counted for reason, count in arm.final["finish_reasons"].items() if count)
    rows: list[list[Cell]] = [[r, *(arm.final["finish_reasons"].get(r, 0) for arm in counted)] for r in reasons]
    return Table(title="How episodes ended", columns=["", *(arm.name for arm in counted)], rows=rows)


def controls_table(controls: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """Figures of each control; None without controls."""
    if not controls:
        return None
    keys = [key for key in CONTROL_COLUMNS if any(summary.get(key) is not None for summary in controls.values())]
    rows: list[list[Cell]] = [[name, *(_measure(summary, key) for key in keys)] for name, summary in controls.items()]
    return Table(title="Controls", columns=["control", *(METRIC_LABELS[key] for key in keys)], rows=rows)


def retrieval_table(retrieval: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """What a search can find at best, from summaries of `evaluation.retrieval_quality`; None without any."""
    rows: list[list[Cell]] = []
    depths: list[str] = []
    for search, summary in retrieval.items():
        figure = "hop_recall" if summary["stepwise"] else "recall_mean"
        depths = [key.partition("@")[2] for key in summary if key.startswith("recall_mean@") and key[-1].isdigit()]
        found = [_measure(summary, f"{figure}@{depth}") for depth in depths]
        rows.append([search.replace("_", " "), summary["num_searches"], *found])
    if not rows:
        return None
    return Table(
        title="What searching can find",
        columns=["search", "searches", *(f"supports found @{depth}" for depth in depths)],
        rows=rows,
        note="Without any policy: the question as the only query, and every gold sub-question with earlier gold "
        "answers filled in. The gap is what searching step by step can win.",
    )


def format_number(value: Any) -> str:
    """A number as a reader wants it: integers as they are, shares to three places, larger ones to fewer."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or (abs(value) >= 1000 and value == int(value)):
        return f"{int(value):,}"
    return f"{round(value, 3) + 0.0:.3f}" if abs(value) < 10 else f"{value:,.1f}"  # + 0.0: no minus before a zero


def format_signed(value: Any) -> str:
    """A number with its sign, two places."""
    return f"{value:+.2f}".replace("-", "−")


def format_difference(value: Any) -> str:
    """A difference with its sign, as many places as `format_number` gives."""
    text = format_number(value)
    if text == "–" or text.lstrip("-").strip("0.") == "":
        return text
    return f"−{text[1:]}" if text.startswith("-") else f"+{text}"


def script_json(data: Any) -> str:
    """JSON that may stand inside a script element: no tag, comment or line separator can appear in it."""
    text = json.dumps(plain(data), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _template_text(environment: jinja2.Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _content_policy(scripts: Sequence[str]) -> str:
    """No request to anywhere, and only these scripts."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _measure(summary: Mapping[str, Any], key: str) -> Measure:
    return Measure(value=summary.get(key), low=summary.get(f"{key}_low"), high=summary.get(f"{key}_high"))


def _cell_text(cell: Any) -> str:
    if isinstance(cell, Measure):
        return format_number(cell.value)
    return format_number(cell)


def _cell_record(cell: Cell) -> Any:
    return {"value": cell.value, "low": cell.low, "high": cell.high} if isinstance(cell, Measure) else cell


def _table_record(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "columns": list(table.columns),
        "rows": [[_cell_record(cell) for cell in row] for row in table.rows],
        "note": table.note,
    }


def _csv_cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _arm_record(arm: Arm, charted: set[str]) -> dict[str, Any]:
    record: dict[str, Any] = dict(arm.final)
    record["curve"] = [_point_record(point) for point in arm_curve(arm)]
    keys = [k for k in metric_keys([arm]) if k in charted or (k.startswith("rewards/") and k.endswith("/mean"))]
    if keys:
        record["metrics"] = {key: arm_series(arm, key)[0] for key in keys}
    if arm.seeds:
        record["seeds"] = {str(run.seed): [_point_record(point) for point in run.curve] for run in arm.seeds}
    return record


def _point_record(point: Any) -> dict[str, Any]:
    return {name: getattr(point, name) for name in ("trajectories", "step", "value", "low", "high")}


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as (dotted name, text) rows."""
    if isinstance(value, Mapping):
        return [row for key, item in value.items() for row in _flat(item, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list):
        return [(prefix, ", ".join(str(item) for item in value) or "none")]
    return [(prefix, "none" if value is None else str(value))]
