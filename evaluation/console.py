"""What a person sees of an evaluation on a terminal: the tables of the report, and how the episodes ended."""

import rich.box
import rich.table
from rich.console import Console
from rich.text import Text

from evaluation.job import JobResult
from evaluation.report import controls_table, evaluation_table, format_number, retrieval_table
from evaluation.report_parts import Arm, Cell, Measure, Table

_LONGEST_NAME = 36
"""Characters of a row's name that stand on one line; longer ones are broken, so that the figures have room."""


def print_result(result: JobResult, console: Console) -> None:
    """Print the figures with their intervals, the controls beside them, and where the report lies."""
    summary = result.evaluation.summary
    tables = [evaluation_table([Arm(name="mean", final=summary)])]
    if result.controls:
        tables.append(controls_table({"none": summary, **result.controls}))
    for table in (*tables, retrieval_table(result.retrieval)):
        if table is not None:
            console.print(terminal_table(table))
    ended = [f"{reason} {count}" for reason, count in result.evaluation.finish_reasons.items() if count]
    console.print(f"episodes ended: {', '.join(ended)}", highlight=False)
    console.print(f"report: {result.report}", soft_wrap=True, highlight=False, markup=False)


def terminal_table(table: Table) -> rich.table.Table:
    """A table of the report for a terminal, an interval beside its number: `0.812 [0.640,0.960]`."""
    shown = rich.table.Table(title=table.title, title_justify="left", box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    names_are_short = all(len(_text(row[0])) <= _LONGEST_NAME for row in table.rows)
    for position, column in enumerate(table.columns):
        if position == 0 and not names_are_short:
            shown.add_column(Text(column), max_width=_LONGEST_NAME, overflow="fold")
        else:
            shown.add_column(Text(column), no_wrap=position == 0)
    for row in table.rows:
        shown.add_row(*map(_text, row))
    return shown


def _text(cell: Cell) -> Text:
    """A cell as it is: rich would read `[/a, /b]` in the name of a hybrid as markup."""
    if not isinstance(cell, Measure):
        return Text(format_number(cell))
    if cell.value is None or cell.low is None:
        return Text(format_number(cell.value))
    # No space inside the interval: a narrow terminal breaks the cell before it.
    return Text(f"{format_number(cell.value)} [{format_number(cell.low)},{format_number(cell.high)}]")
