"""The page of the documentation that shows the rows."""

from __future__ import annotations

from collections.abc import Sequence

from behaviour.row import Group, Refused, Row, Warns

PAGE = """\
# Edge cases

Unusual data give the same result as plain data, or a result with a warning that says what was assumed, or an error
before anything is computed. The error names the argument, what was found, and how to fix it; your objects and files
stay bit by bit as they were. The tables list {n} cases, each of which is run by the tests: `tests/behaviour` holds the
rows, and `python scripts/write_edge_cases.py` writes this page.

Warnings are messages of the logger `scanpy_sct`; what they say about the data also stands in the report of
{{func}}`scanpy_sct.pp.check`.

{tables}
"""


def make_page(groups: Sequence[Group]) -> str:
    """Return the text of the page."""
    n_rows = sum(len(group.rows) for group in groups)
    return PAGE.format(n=n_rows, tables="\n\n".join(map(_table, groups)))


def _table(group: Group) -> str:
    lines = [f"## {group.title}", "", "| what you have or do | result | what happens |", "|---|---|---|"]
    for row in group.rows:
        # A bar would end the cell of the table.
        cells = [cell.replace("|", r"\|") for cell in (row.case, _result(row), _outcome(row))]
        lines.append(f"| {' | '.join(cells)} |")
    notes = ["", *(f"- {note}" for note in group.notes)] if group.notes else []
    return "\n".join([*lines, *notes])


def _outcome(row: Row) -> str:
    """Return what happens, or else the remedy that the message must name."""
    if row.outcome or not isinstance(row.expected, Refused):
        return row.outcome
    return row.expected.remedy.replace("\\", "")


def _result(row: Row) -> str:
    if isinstance(row.expected, Refused):
        return f"`{row.expected.error.__name__}`"
    return "warning" if isinstance(row.expected, Warns) else "same"
