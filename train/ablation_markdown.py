"""The tables of a comparison as Markdown, written between two marks of a page so that the rest of it stays.

<!-- ablate:2hops -->
...
<!-- /ablate:2hops -->
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.report_parts import Cell, Measure, Table
from train.ablation_figures import LOSS, MEASURES
from train.ablation_page import (
    baseline_title,
    cold_start_notes,
    cost_table,
    difference_table,
    final_table,
    threshold_table,
)
from train.marked_page import write_between_marks


def as_markdown(figures: Mapping[str, Any]) -> str:
    """All tables of a setting, and the cells that may be a loss."""
    parts = [
        f"### {figures['title']}\n",
        f"{figures['budget']:,} sampled trajectories a run; {'; '.join(figures['made_with']['machines'])}; "
        f"commits {', '.join(figures['made_with']['commits'])}; made by `{figures['command']}`.\n",
        *(f"{note}\n" for note in cold_start_notes(figures)),
    ]
    for table in (
        final_table(figures),
        threshold_table(figures, "trajectories"),
        threshold_table(figures, "retriever_calls"),
        cost_table(figures),
    ):
        parts.append(table_as_markdown(table))
    if figures["baseline"]:
        parts.append(table_as_markdown(difference_table(figures)))
        parts.append(cells_below(figures))
    return "\n".join(parts)


def cells_below(figures: Mapping[str, Any]) -> str:
    """Every cell in which a method may be worse than the baseline, a line for each method."""
    head = f"Cells in which the interval of method minus {baseline_title(figures)} reaches below {_minus(LOSS)}:"
    if not figures["below"]:
        return f"{head} none.\n"
    lines: dict[str, list[str]] = {}
    for cell in figures["below"]:
        interval = f"{_signed(cell['difference'])} [{_signed(cell['low'])}, {_signed(cell['high'])}]"
        lines.setdefault(cell["method"], []).append(f"{MEASURES[cell['measure']]} {interval}")
    named = [f"- {figures['methods'][method]['title']}: {'; '.join(cells)}" for method, cells in lines.items()]
    return "\n".join([head, "", *named, ""])


def table_as_markdown(table: Table) -> str:
    """A table with its title in bold and its note after it."""
    lines = [f"**{table.title}**", "", _line(table.columns), _line(["---"] * len(table.columns))]
    lines += [_line([_text(cell) for cell in row]) for row in table.rows]
    return "\n".join([*lines, "", *([table.note, ""] if table.note else [])])


def write_markdown(path: Path, figures: Mapping[str, Any]) -> None:
    """Put the tables between the setting's marks in a file; a new file gets the marks too.

    Raises:
        ConfigError: the file has no marks of this setting.
    """
    write_between_marks(path, f"ablate:{figures['setting']}", as_markdown(figures))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(cell: Cell) -> str:
    match cell:
        case None:
            return "–"
        case Measure(value=None):
            return "–"
        case Measure(value=float(value), low=float(low), high=float(high)):
            number = _signed if cell.signed else _number
            return f"{number(value)}{cell.mark} [{number(low)}, {number(high)}]"
        case Measure(value=float(value)):
            return f"{_signed(value) if cell.signed else _number(value)}{cell.mark}"
        case str():
            return cell.replace("|", "\\|")
    return _number(cell)  # type: ignore[arg-type]


def _number(value: float) -> str:
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _signed(value: float) -> str:
    return _minus(f"{value:+.3f}")


def _minus(value: object) -> str:
    return str(value).replace("-", "−")
