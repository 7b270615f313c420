"""Charts of a comparison: differences with their intervals, a figure by group, and how episodes ended."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.breakdown import Group
from evaluation.charts import COLOURS
from evaluation.figure_names import direction, figure_label, is_cost
from evaluation.report_parts import Chart
from evaluation.run_difference import RunDifference

BETTER, WORSE, UNDECIDED = "#2e9e6b", "#d6455d", "#7b8794"

REASON_COLOURS: dict[str, str] = {
    "answered": "#2e9e6b",
    "no_answer": "#e07b12",
    "turn_limit": "#a05fd0",
    "token_limit": "#2f80d0",
    "malformed": "#d6455d",
    "retrieval_outage": "#8a7a1f",
    "engine_failure": "#7b8794",
    "cut": "#1aa3a8",
}


def difference_chart(
    differences: Sequence[RunDifference], title: str, *, several_pairs: bool, ranked: bool
) -> Chart | None:
    """A line for each difference with its 95 % interval and a mark at zero; coloured where it is significant and
    the runs are ranked."""
    if not differences:
        return None
    several_sets = len({one.question_set for one in differences}) > 1
    names = [
        " · ".join(
            [f"{one.second} − {one.first}"] * several_pairs
            + [one.question_set] * several_sets
            + [figure_label(one.measure)]
        )
        for one in differences
    ]
    rows = [[name, one.difference, one.low, one.high, one.p_holm] for name, one in zip(names, differences, strict=True)]
    data = []
    for (name, *_), one in zip(rows, differences, strict=True):
        is_marked = ranked and one.is_significant
        better = direction(one.measure) * one.difference > 0
        colour = UNDECIDED if not is_marked or is_cost(one.measure) else BETTER if better else WORSE
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [one.difference],
                "y": [html.escape(str(name))],
                "marker": {"color": colour, "size": 11, "symbol": "diamond" if is_marked else "circle-open"},
                "error_x": _error(one.difference, one.low, one.high, colour),
                "hovertemplate": "%{y}: %{x:+.3f}<extra></extra>",
                "showlegend": False,
            }
        )
    layout = _flat_layout("difference", len(differences))
    layout["xaxis"]["zeroline"] = True
    layout["shapes"] = [
        {
            "type": "line",
            "yref": "paper",
            "x0": 0,
            "x1": 0,
            "y0": 0,
            "y1": 1,
            "line": {"width": 1.5, "color": "#888888"},
        }
    ]
    return Chart(
        key="differences",
        title=title,
        figure={"data": data, "layout": layout},
        columns=("difference", "value", "low", "high", "p (Holm)"),
        rows=rows,
    )


def group_chart(key: str, title: str, groups: Sequence[Group], names: Sequence[str], label: str) -> Chart | None:
    """A figure by group, one colour a run, with intervals; None with fewer than two groups."""
    if len(groups) < 2:
        return None
    data, rows = [], []
    for position, name in enumerate(names):
        cells = [group.measures[position] for group in groups]
        known = [(g.name, m) for g, m in zip(groups, cells, strict=True) if m.value is not None]
        colour = COLOURS[position % len(COLOURS)]
        values = [float(m.value or 0.0) for _, m in known]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [html.escape(group) for group, _ in known],
                "y": values,
                "name": html.escape(name),
                "marker": {
                    "color": colour,
                    "size": 10,
                    "symbol": ("circle", "square", "diamond", "cross")[position % 4],
                },
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [
                        (m.high if m.high is not None else v) - v for v, (_, m) in zip(values, known, strict=True)
                    ],
                    "arrayminus": [
                        v - (m.low if m.low is not None else v) for v, (_, m) in zip(values, known, strict=True)
                    ],
                    "color": colour,
                    "thickness": 2,
                    "width": 4,
                },
                "hovertemplate": "%{x}: %{y:.3f}",
            }
        )
        rows += [[f"{name} · {group}", m.value, m.low, m.high] for group, m in known]
    layout: dict[str, Any] = {
        "xaxis": {"type": "category", "automargin": True},
        "yaxis": {"title": {"text": html.escape(label)}, "rangemode": "tozero", "automargin": True},
        "scattermode": "group",
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "margin": {"l": 44, "r": 12, "t": 8, "b": 44},
        "hovermode": "x unified",
        "dragmode": False,
    }
    return Chart(
        key=key,
        title=title,
        figure={"data": data, "layout": layout},
        columns=("run and group", "value", "low", "high"),
        rows=rows,
        small=True,
    )


def finish_chart(reasons: Mapping[str, Mapping[str, int]]) -> Chart | None:
    """Shares of episodes by finish reason, one bar a run; None where no run counted them."""
    counted = {name: counts for name, counts in reasons.items() if sum(counts.values())}
    if not counted:
        return None
    seen = [r for r in REASON_COLOURS if any(counts.get(r) for counts in counted.values())]
    seen += [r for r in dict.fromkeys(r for counts in counted.values() for r in counts) if r not in REASON_COLOURS]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "y": [html.escape(name) for name in counted],
            "x": [counts.get(reason, 0) / sum(counts.values()) for counts in counted.values()],
            "name": html.escape(reason.replace("_", " ")),
            "marker": {"color": REASON_COLOURS.get(reason, "#7b8794")},
            "hovertemplate": "%{y}: %{x:.1%}",
        }
        for reason in seen
    ]
    layout = _flat_layout("share of episodes", len(counted))
    layout |= {"barmode": "stack", "height": 130 + 42 * len(counted)}
    layout["xaxis"] |= {"range": [0, 1], "tickformat": ".0%"}
    layout["legend"] = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"}
    return Chart(
        key="finish",
        title="How episodes ended",
        figure={"data": data, "layout": layout},
        columns=("run", *seen),
        rows=[[name, *(counts.get(reason, 0) for reason in seen)] for name, counts in counted.items()],
    )


def _flat_layout(x_title: str, num_rows: int) -> dict[str, Any]:
    return {
        "xaxis": {"title": {"text": x_title}, "automargin": True},
        "yaxis": {"autorange": "reversed", "automargin": True, "type": "category"},
        "margin": {"l": 44, "r": 16, "t": 8, "b": 44},
        "height": 90 + 38 * num_rows,
        "hovermode": "closest",
        "dragmode": False,
    }


def _error(value: float, low: float, high: float, colour: str) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - value],
        "arrayminus": [value - low],
        "color": colour,
        "thickness": 2,
        "width": 5,
    }
