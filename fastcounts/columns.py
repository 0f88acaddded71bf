"""Tables for people: no cell is ever cut or folded; columns that do not fit are left out."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Column", "fits", "print_columns", "print_lines", "printable", "unbroken"]

_UNBROKEN = "\ue000"
"""Takes the place of spaces within a path or a name while lines are wrapped (private use)."""

_GAP = "   "
"""Between two columns; in front of the first and behind the last there is one space."""

_MIN_WRAP = 20
"""Lines are not wrapped in a terminal of fewer characters."""


class Column(NamedTuple):
    """One column of a table.

    Attributes
    ----------
    name : its header.
    cells : text of each row.
    rank : 0 for a column that is always shown; of the others, those of the highest rank are left
        out first, together.
    left : aligned to the left, as text is; numbers are aligned to the right.
    """

    name: str
    cells: Sequence[str]
    rank: int = 0
    left: bool = False


def printable(text: str) -> str:
    """Return text with control characters escaped: a name may come from anywhere."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def unbroken(text: str) -> str:
    """Return text that :func:`print_lines` does not break at its spaces, such as a path."""
    return printable(text).replace(" ", _UNBROKEN)


def fits(printer: Console, columns: Sequence[Column]) -> bool:
    """Return whether a table of these columns fits; anything fits where there is no terminal."""
    if not printer.file.isatty():
        return True
    return sum(max(_widths(column)) + len(_GAP) for column in columns) - 1 <= _room(printer)


def print_columns(printer: Console, columns: Sequence[Column]) -> None:
    """Print a table, without the least important columns if the terminal is too narrow.

    Columns of rank 0 are printed even if their lines are then longer than the terminal is wide:
    the terminal wraps those, and no character is lost.
    """
    shown, left_out = list(columns), list[Column]()
    while not fits(printer, shown) and (highest := max(column.rank for column in shown)):
        left_out += [column for column in shown if column.rank == highest]
        shown = [column for column in shown if column.rank < highest]
    aligned = [_aligned(column) for column in shown]
    lines = [" " + _GAP.join(row) for row in zip(*aligned, strict=True)]
    rule = " " + _rule(printer) * (
        sum(cell_len(column[0]) + len(_GAP) for column in aligned) - len(_GAP)
    )
    printer.file.write("\n".join(["", lines[0].rstrip(), rule, *lines[1:], "", ""]))
    if left_out:
        names = ", ".join(column.name for column in columns if column in left_out)
        print_lines(printer, [f"not shown for lack of width: {names}; --json prints everything"])


def print_lines(printer: Console, lines: Iterable[str]) -> None:
    """Print lines of text, wrapped between words in a terminal; no word is broken."""
    for line in lines:
        wrapped = line
        if printer.file.isatty():
            indent = " " * (len(line) - len(line.lstrip(" ")))
            wrapped = textwrap.fill(
                line,
                max(_room(printer), _MIN_WRAP),
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
        printer.file.write(wrapped.replace(_UNBROKEN, " ") + "\n")


def _rule(printer: Console) -> str:
    """Return the character of horizontal lines that the output can encode."""
    try:
        "\u2500".encode(getattr(printer.file, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return "-"
    return "\u2500"


def _room(printer: Console) -> int:
    return printer.width or 80


def _widths(column: Column) -> list[int]:
    return [cell_len(column.name), *(cell_len(printable(cell)) for cell in column.cells)]


def _aligned(column: Column) -> list[str]:
    """Return the header and the cells, padded to the same width."""
    widths = _widths(column)
    wanted = max(widths)
    cells = [column.name, *map(printable, column.cells)]
    if column.left:
        return [cell + " " * (wanted - width) for cell, width in zip(cells, widths, strict=True)]
    return [" " * (wanted - width) + cell for cell, width in zip(cells, widths, strict=True)]
