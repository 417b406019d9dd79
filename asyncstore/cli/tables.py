"""Tables for people: columns that fit the terminal, whatever the texts hold.

Widths are counted in cells of the terminal: East Asian wide characters take two, combining ones none. What a terminal
would take for a command is escaped before anything is counted.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

__all__ = ["Align", "Table", "crop", "escape", "fold", "width", "wrap"]

_GAP = "  "
#: What a column that gives way is never narrower than.
_LEAST = 8


def escape(text: str, *, ascii_only: bool = False) -> str:
    r"""Escape what does not print, as `\x1b` or `\u202e`; line ends and tabs too.

    :param text: any text.
    :param ascii_only: escape everything else than ASCII as well.
    """
    if text.isprintable() and (text.isascii() or not ascii_only):
        return text
    return "".join(
        each
        if each.isprintable() and (each.isascii() or not ascii_only)
        else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def width(text: str) -> int:
    """Count the cells that a printable text takes on a terminal."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def crop(text: str, cells: int, mark: str) -> str:
    """Cut a text to so many cells; a mark at its end says that it was cut."""
    if width(text) <= cells:
        return text
    return next(_pieces(text, cells - len(mark)), "") + mark


def wrap(text: str, cells: int) -> list[str]:
    """Break a text into lines of so many cells, between words where that is possible."""
    lines: list[str] = []
    while width(text) > cells:
        piece = next(_pieces(text, cells))
        cut = piece.rfind(" ") if text[len(piece)] != " " else len(piece)
        piece = piece[: cut if cut > 0 else len(piece)]
        lines.append(piece)
        text = text[len(piece) :].lstrip(" ")
    return [*lines, text]


def fold(text: str, cells: int) -> list[str]:
    """Break a text into lines of so many cells."""
    return list(_pieces(text, cells)) or [""]


def _pieces(text: str, cells: int) -> Iterator[str]:
    piece, used = "", 0
    for each in text:
        size = _cells(each)
        if used + size > cells and piece:
            yield piece
            piece, used = "", 0
        piece, used = piece + each, used + size
    if piece:
        yield piece


@final
@dataclass(frozen=True, slots=True)
class Align:
    """Say how a column is laid out.

    :param head: its title.
    :param right: numbers: to the right, and never made narrower.
    :param cut: gives way first, and is cut with a mark; else it is broken into lines.
    """

    head: str
    right: bool = False
    cut: bool = False


@final
class Table:
    """Lay out rows in columns, page by page; later pages keep the widths of the first, or have wider ones.

    :param columns: the columns.
    :param cells: how wide the terminal is.
    :param mark: ends what was cut.
    """

    def __init__(self, columns: Sequence[Align], cells: int, mark: str = "…") -> None:
        self._columns = columns
        self._cells = cells
        self._mark = mark
        self._natural = [width(each.head) for each in columns]

    def head(self) -> str:
        """Give the line of titles; to be asked for once the first page was laid out."""
        return self._line([each.head for each in self._columns], self._fitted())

    def lines(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """Lay out a page of rows.

        :param rows: of escaped texts, one for each column.
        """
        for row in rows:
            self._natural = [max(most, width(cell)) for most, cell in zip(self._natural, row, strict=True)]
        widths = self._fitted()
        return [line for row in rows for line in self._row(row, widths)]

    def _fitted(self) -> list[int]:
        widths = list(self._natural)
        over = sum(widths) + len(_GAP) * (len(widths) - 1) - self._cells
        for group in (True, False):  # what is cut gives way before what is broken
            flexible = [place for place, each in enumerate(self._columns) if not each.right and each.cut is group]
            while over > 0 and flexible:
                widest = max(flexible, key=lambda place: widths[place])
                if widths[widest] <= max(_LEAST, width(self._columns[widest].head)):
                    break
                widths[widest] -= 1
                over -= 1
        return widths

    def _row(self, row: Sequence[str], widths: Sequence[int]) -> list[str]:
        parts = [
            [crop(cell, cells, self._mark)] if column.cut else [cell] if column.right else fold(cell, cells)
            for cell, column, cells in zip(row, self._columns, widths, strict=True)
        ]
        height = max(map(len, parts))
        return [
            self._line([part[line] if line < len(part) else "" for part in parts], widths) for line in range(height)
        ]

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        padded: list[str] = []
        for cell, column, wide in zip(cells, self._columns, widths, strict=True):
            space = " " * (wide - width(cell))
            padded.append(space + cell if column.right else cell + space)
        return _GAP.join(padded).rstrip()
