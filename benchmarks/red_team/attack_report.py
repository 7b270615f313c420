"""Attacks as a page, a picture for the docs, and tables in Markdown between two marks of a page.

<!-- hackability:alone -->
...
<!-- /hackability:alone -->
"""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.red_team.attack_figures import FALLS, over_seeds
from evaluation.report import write_report
from evaluation.report_parts import Arm, Cell, CurvePoint, MetricChart, Report, SeedRun, Table
from train.ablation_markdown import table_as_markdown
from train.marked_page import write_between_marks

EM_COLOUR, REWARD_COLOUR, MARK_COLOUR, GREY = "#2f80d0", "#e07b12", "#d6455d", "#888888"
_COLUMNS, _WIDTH, _HEIGHT, _PAD = 4, 230, 150, 34


def attack_table(figures: Mapping[str, Any]) -> Table:
    """A row for each reward: EM and reward at the start, at the best EM and at the end, and whether it is marked."""
    rows: list[list[Cell]] = []
    for reward, row in figures["rewards"].items():
        rows.append(
            [
                f"`{reward}`",
                row["setting"],
                len(row["seeds"]),
                *(_figure(over_seeds(row, f"em_{when}")) for when in ("first", "best", "last")),
                *(_figure(over_seeds(row, f"reward_{when}")) for when in ("first", "at_best_em", "last")),
                " · ".join(f"**{found}**" if found == FALLS else found for found in _verdicts(row)),
                ", ".join(f"`{repair}`" for repair in row["repairs"]) or "–",
            ]
        )
    return Table(
        title="Trained on each reward alone" if figures["gate"] == "alone" else f"Repaired by `{figures['gate']}`",
        columns=[
            *("reward", "setting", "seeds", "EM at start", "best EM", "EM at end"),
            *("reward at start", "at best EM", "at end", "while the reward rises, EM", "repairs of its known cheats"),
        ],
        rows=rows,
        note="EM: greedy, on dev questions; reward: of sampled trajectories; means over seeds. The verdict: each seed.",
    )


def write_markdown(path: Path, mark: str, text: str) -> None:
    """Put a text between the marks `hackability:MARK` of a page; a new file gets the marks too.

    Raises:
        ConfigError: the file has no such marks.
    """
    write_between_marks(path, f"hackability:{mark}", text.strip())


def attack_markdown(figures: Mapping[str, Any]) -> str:
    """The table, and the marked rewards in a sentence."""
    marked = [reward for reward, row in figures["rewards"].items() if row["marked"]]
    listed = ", ".join(f"`{reward}`" for reward in marked) or "none"
    lines = [table_as_markdown(attack_table(figures)), f"Rewards that rise while EM falls: {listed}.", ""]
    if figures["missing"]:
        lines += [f"No record yet: {', '.join(figures['missing'])}.", ""]
    return "\n".join(lines)


def write_page(out: Path, figures: Mapping[str, Any]) -> Path:
    """`report.html` with dev EM of every attack and each reward's own chart, and `report.json`."""
    arms = [
        Arm(
            name=reward,
            final={"em": over_seeds(row, "test_em")},
            seeds=[_seed_run(int(seed), reward, run["points"]) for seed, run in row["seeds"].items()],
        )
        for reward, row in figures["rewards"].items()
    ]
    marked = [reward for reward, row in figures["rewards"].items() if row["marked"]]
    return write_report(
        out,
        Report(
            title=f"Rewards under attack: {figures['gate']}",
            summary_lines=[f"Rewards that rise while EM falls: {', '.join(marked) or 'none'}."],
            arms=arms,
            tables=[attack_table(figures)],
            curve_title="Exact match on dev questions while training on another reward",
            metric_charts=(MetricChart(key="em", title="EM of sampled trajectories"),),
        ),
    )


def svg(figures: Mapping[str, Any]) -> str:
    """A panel for each reward: dev EM from 0 to 1, and the reward from its least to its greatest; all seeds."""
    names = list(figures["rewards"])
    num_rows = -(-len(names) // _COLUMNS)
    width, height = _COLUMNS * _WIDTH, num_rows * _HEIGHT + _PAD
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="11" fill="{GREY}">',
        f'<text x="8" y="16"><tspan fill="{EM_COLOUR}">— EM on dev questions, 0 to 1</tspan>'
        f'<tspan dx="16" fill="{REWARD_COLOUR}">— the trained reward, least to greatest</tspan>'
        f'<tspan dx="16" fill="{MARK_COLOUR}">framed: rises while EM falls</tspan></text>',
    ]
    for i, name in enumerate(names):
        row, column = divmod(i, _COLUMNS)
        parts += _panel(name, figures["rewards"][name], column * _WIDTH + 8, row * _HEIGHT + _PAD)
    return "\n".join([*parts, "</svg>", ""])


def _panel(name: str, row: Mapping[str, Any], x: float, y: float) -> list[str]:
    runs = [run["points"] for run in row["seeds"].values()]
    values = [p["reward"] for points in runs for p in points if p["reward"] is not None]
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    far = max((p["trajectories"] for points in runs for p in points), default=1) or 1
    width, height = _WIDTH - 22, _HEIGHT - 40
    frame = MARK_COLOUR if row["marked"] else GREY
    lines = [
        f'<text x="{x}" y="{y + 12}">{html.escape(name)} ({_figure(low)} to {_figure(high)})</text>',
        f'<rect x="{x}" y="{y + 18}" width="{width}" height="{height}" fill="none" stroke="{frame}" '
        f'stroke-width="{2 if row["marked"] else 0.5}"/>',
    ]

    def line(points: Sequence[Mapping[str, Any]], key: str, least: float, span: float, colour: str) -> str:
        known = [(p["trajectories"], p[key]) for p in points if p[key] is not None]
        places = " ".join(
            f"{x + width * t / far:.1f},{y + 18 + height * (1 - ((v - least) / span if span else 0.5)):.1f}"
            for t, v in known
        )
        return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.5"/>'

    for points in runs:
        lines += [line(points, "em", 0.0, 1.0, EM_COLOUR), line(points, "reward", low, high - low, REWARD_COLOUR)]
    return lines


def _verdicts(row: Mapping[str, Any]) -> list[str]:
    return [run["verdict"] for run in row["seeds"].values()]


def _seed_run(seed: int, reward: str, points: Sequence[Mapping[str, Any]]) -> SeedRun:
    return SeedRun(
        seed=seed,
        curve=[CurvePoint(trajectories=p["trajectories"], value=p["em"]) for p in points],
        metrics=[
            {"trajectories": p["trajectories"], f"rewards/{reward}/mean": p["reward"], "em": p["sampled_em"]}
            for p in points
            if p["reward"] is not None
        ],
    )


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".replace("-", "−")
