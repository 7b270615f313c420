"""Plotly figures of a report, as plain dicts of data and layout.

Colours of lines are fixed and readable on light and dark; everything that belongs to the page (text, grid, background)
is left out here and set by the page from its own colours. Names of arms and metrics are escaped, because plotly reads
pseudo-HTML in texts.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.curves import Series, arm_curve, arm_series, metric_keys
from evaluation.report_parts import Arm, Chart, CurvePoint, Report

COLOURS: tuple[str, ...] = ("#2f80d0", "#e07b12", "#2e9e6b", "#a05fd0", "#d6455d", "#1aa3a8", "#8a7a1f", "#7b8794")
DASHES: tuple[str, ...] = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

_DASH_LENGTHS: dict[str, str] = {
    "solid": "",
    "dash": "8 5",
    "dot": "2 4",
    "dashdot": "8 4 2 4",
    "longdash": "14 5",
    "longdashdot": "14 4 2 4",
}

Figure = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LegendEntry:
    """How an arm is drawn in every chart: colour, and SVG dash lengths ("" is solid)."""

    name: str
    colour: str
    dash: str


def legend(arms: Sequence[Arm]) -> list[LegendEntry]:
    """One entry for each arm, in order."""
    return [
        LegendEntry(
            name=arm.name,
            colour=COLOURS[position % len(COLOURS)],
            dash=_DASH_LENGTHS[DASHES[position % len(DASHES)]],
        )
        for position, arm in enumerate(arms)
    ]


def learning_chart(report: Report) -> Chart | None:
    """Every arm's figure over sampled trajectories, with interval bands; None where no arm has a curve."""
    data: list[dict[str, Any]] = []
    rows: list[list[Any]] = []
    for position, arm in enumerate(report.arms):
        curve = arm_curve(arm)
        if not curve:
            continue
        colour, name = COLOURS[position % len(COLOURS)], html.escape(arm.name)
        data.extend(_band(curve, colour, name))
        if len(arm.seeds) > 1 and not arm.curve:
            data.extend(
                _line([(p.trajectories, p.value) for p in run.curve], position, name, thin=f"seed {run.seed}")
                for run in arm.seeds
            )
        data.append(_line([(p.trajectories, p.value) for p in curve], position, name, markers=True))
        rows.extend([arm.name, p.trajectories, p.step, p.value, p.low, p.high] for p in curve)
    if not data:
        return None
    layout = _layout("sampled trajectories")
    layout["yaxis"]["range"] = [-0.02, 1.02]
    if report.threshold is not None:
        layout["shapes"] = [
            {
                "type": "line",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "y0": report.threshold,
                "y1": report.threshold,
                "line": {"width": 1, "dash": "dot", "color": "#888888"},
            }
        ]
    columns = ("arm", "trajectories", "step", "value", "low", "high")
    return Chart(
        key="learning",
        title=report.curve_title,
        figure={"data": data, "layout": layout},
        columns=columns,
        rows=rows,
    )


def metric_charts(report: Report) -> list[Chart]:
    """The training metrics that the report asks for, those that were logged."""
    logged = set(metric_keys(report.arms))
    wanted = [(chart.key, chart.title) for chart in report.metric_charts if chart.key in logged]
    return _charts_of(report.arms, wanted, "metric")


def reward_charts(report: Report) -> list[Chart]:
    """One small chart for each reward component, `rewards/NAME/mean`."""
    wanted = [
        (key, key.removeprefix("rewards/").removesuffix("/mean"))
        for key in metric_keys(report.arms)
        if key.startswith("rewards/") and key.endswith("/mean")
    ]
    return _charts_of(report.arms, wanted, "reward")


def em_chart(report: Report) -> Chart | None:
    """Exact match of every arm and control side by side, with intervals; None where fewer than two have one."""
    named: list[tuple[str, Mapping[str, Any], str]] = [
        (arm.name, arm.final, COLOURS[i % len(COLOURS)]) for i, arm in enumerate(report.arms)
    ]
    named += [(name, summary, "#7b8794") for name, summary in report.controls.items()]
    measured = [(name, summary, colour) for name, summary, colour in named if summary.get("em") is not None]
    if len(measured) < 2:
        return None
    rows = [[name, summary["em"], summary.get("em_low"), summary.get("em_high")] for name, summary, _ in measured]
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [em],
            "y": [html.escape(name)],
            "marker": {"color": colour, "size": 11},
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [(high if high is not None else em) - em],
                "arrayminus": [em - (low if low is not None else em)],
                "color": colour,
                "thickness": 2,
                "width": 5,
            },
            "hovertemplate": "%{y}: %{x:.3f}<extra></extra>",
            "showlegend": False,
        }
        for (name, em, low, high), (_, _, colour) in zip(rows, measured, strict=True)
    ]
    layout = _layout("exact match")
    layout["xaxis"]["range"] = [-0.02, 1.02]
    layout["yaxis"] = {"autorange": "reversed", "automargin": True, "type": "category"}
    layout["height"] = 90 + 38 * len(measured)
    layout["hovermode"] = "closest"
    return Chart(
        key="em",
        title="Exact match beside its controls" if report.controls else "Exact match side by side",
        figure={"data": data, "layout": layout},
        columns=("policy", "EM", "low", "high"),
        rows=rows,
    )


def _charts_of(arms: Sequence[Arm], wanted: Sequence[tuple[str, str]], kind: str) -> list[Chart]:
    """Small charts without legends of their own: the page draws one legend for all of them."""
    charts = []
    for number, (key, title) in enumerate(wanted):
        data: list[dict[str, Any]] = []
        rows: list[list[Any]] = []
        for position, arm in enumerate(arms):
            bold, thin = arm_series(arm, key)
            if not bold:
                continue
            name = html.escape(arm.name)
            data.extend(_line(series, position, name, thin=f"seed {i}") for i, series in enumerate(thin))
            data.append(_line(bold, position, name))
            rows.extend([arm.name, x, y] for x, y in bold)
        if data:
            charts.append(
                Chart(
                    key=f"{kind}-{number}",
                    title=title,
                    figure={"data": data, "layout": {**_layout("sampled trajectories"), "showlegend": False}},
                    columns=("arm", "trajectories", "value"),
                    rows=rows,
                    small=True,
                )
            )
    return charts


def _line(
    series: Series, position: int, name: str, *, markers: bool = False, thin: str | None = None
) -> dict[str, Any]:
    colour = COLOURS[position % len(COLOURS)]
    line = {"color": colour, "width": 1 if thin else 2.5, "dash": "solid" if thin else DASHES[position % len(DASHES)]}
    has_markers = markers or len(series) == 1  # a line through one point is not seen
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines+markers" if has_markers else "lines",
        "x": [x for x, _ in series],
        "y": [y for _, y in series],
        "name": name if thin is None else f"{name}, {thin}",
        "legendgroup": name,
        "showlegend": thin is None,
        "line": line,
    }
    if has_markers:
        trace["marker"] = {"size": 6}
    if thin:
        trace |= {"opacity": 0.45, "hoverinfo": "skip"}
    return trace


def _band(curve: Sequence[CurvePoint], colour: str, name: str) -> list[dict[str, Any]]:
    ends = [(p.trajectories, p.low, p.high) for p in curve if p.low is not None and p.high is not None]
    if len(ends) < 2:
        return []
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [x for x, _, _ in ends] + [x for x, _, _ in reversed(ends)],
            "y": [high for _, _, high in ends] + [low for _, low, _ in reversed(ends)],
            "fill": "toself",
            "fillcolor": f"rgba({int(colour[1:3], 16)},{int(colour[3:5], 16)},{int(colour[5:7], 16)},0.14)",
            "line": {"width": 0},
            "hoverinfo": "skip",
            "legendgroup": name,
            "name": name,
            "showlegend": False,
        }
    ]


def _layout(x_title: str) -> dict[str, Any]:
    return {
        "xaxis": {"title": {"text": x_title}, "rangemode": "tozero", "automargin": True},
        "yaxis": {"rangemode": "tozero", "automargin": True},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "margin": {"l": 44, "r": 12, "t": 8, "b": 44},
        "hovermode": "x unified",
        "dragmode": False,
    }
