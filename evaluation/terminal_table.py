"""The tables of a report on a terminal, or in a pipe, of any width: what does not fit is folded, never cut."""

import rich.box
import rich.table
from rich.text import Text

from evaluation.report import format_difference, format_number
from evaluation.report_parts import Cell, Measure, Table

_LONGEST_NAME = 36
"""Characters of a row's name that stand on one line; longer ones are broken, so that the figures have room."""


def terminal_table(table: Table) -> rich.table.Table:
    """A table of the report for a terminal, an interval beside its number: `0.812 [0.640,0.960]`."""
    shown = _empty(table.title)
    names_are_short = all(len(_text(row[0])) <= _LONGEST_NAME for row in table.rows)
    for position, column in enumerate(table.columns):
        if position == 0 and not names_are_short:
            shown.add_column(Text(column), max_width=_LONGEST_NAME, overflow="fold")
        else:
            shown.add_column(Text(column), no_wrap=position == 0, overflow="fold")
    for row in table.rows:
        shown.add_row(*map(_text, row))
    return shown


def terminal_tables(table: Table, width: int) -> list[rich.table.Table]:
    """A table of figures by system (`columns[1:]`), as so many tables that each fits into `width` characters.

    Every one of them has all rows, and as many of the systems as fit: an interval then stands below its number where
    there is no room beside it, and a system's name is broken over lines. The title is left to the caller.
    """
    rows = [list(map(_text, row)) for row in table.rows]
    first = max(len(text) for text in (Text(table.columns[0]), *(row[0] for row in rows)))
    cells = [text.plain for row in rows for text in row[1:]]
    whole = max(map(len, cells), default=1)
    narrow = max((len(piece) for cell in cells for piece in cell.split()), default=1)
    first = max(1, min(first, width - 5 - narrow))
    systems = range(1, len(table.columns))
    # Two characters at the table's edges, two between columns.
    room = {count: (width - 3 - first) // count - 2 for count in range(1, len(systems) + 1)}
    fitting = max((count for count in room if room[count] >= narrow), default=1)
    num_tables = -(-len(systems) // fitting)
    count = -(-len(systems) // num_tables) if num_tables else 1
    found = []
    for start in range(0, len(systems), count):
        shown = _empty("")
        shown.add_column(Text(table.columns[0]), width=first, overflow="fold")
        group = systems[start : start + count]
        for system in group:
            name = table.columns[system]
            shown.add_column(
                Text(name), width=min(max(whole, len(name)), max(room[len(group)], narrow)), overflow="fold"
            )
        for row in rows:
            shown.add_row(row[0], *(row[system] for system in group))
        found.append(shown)
    return found


def _empty(title: str) -> rich.table.Table:
    return rich.table.Table(
        title=Text(title) if title else None, title_justify="left", box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )


def _text(cell: Cell) -> Text:
    """A cell as it is: rich would read `[/a, /b]` in the name of a hybrid as markup."""
    if not isinstance(cell, Measure):
        return Text(format_number(cell))
    number = format_difference if cell.signed else format_number
    value = f"{number(cell.value)}{cell.mark}"
    if cell.value is None or cell.low is None:
        return Text(value)
    # No space inside the interval: a narrow terminal breaks the cell before it.
    return Text(f"{value} [{number(cell.low)},{number(cell.high)}]")
