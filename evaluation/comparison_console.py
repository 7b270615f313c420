"""What a person sees of a comparison on a terminal: the verdict, the tests, and what differs."""

from pathlib import Path

from rich.console import Console

from evaluation.comparison import POINTS, Comparison
from evaluation.comparison_tables import fields_table, figures_table, needed_table, ranking_table, short_table
from evaluation.comparison_verdict import verdict_lines
from evaluation.report_parts import Table
from evaluation.terminal_table import terminal_table, terminal_tables


def print_comparison(comparison: Comparison, console: Console, page: Path | None = None) -> None:
    """Print the tables and the verdict, last what stands in its way; where the page lies, if one was written."""
    for part in terminal_tables(figures_table(comparison), console.width):
        console.print(part)
    if len(comparison.runs) > 1:
        tables: list[Table | None] = [short_table(comparison)]
        if len(comparison.runs) > 2 or comparison.is_suite:
            tables.insert(0, ranking_table(comparison))
        if comparison.points != POINTS:
            tables.append(needed_table(comparison))
        for table in (*tables, fields_table(comparison)):
            if table is not None:
                console.print(terminal_table(table))
    for line in verdict_lines(comparison):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if page is not None:
        console.print(f"report: {page}", soft_wrap=True, highlight=False, markup=False)
