"""Facts on stdout: a table on a terminal, plain rows in a pipe, JSON where it is asked for.

What a command shows is a `Shape`: a dataclass whose fields are the keys of its JSON, each with what it says; those with
a title are the columns of the table. So the shape is written down once, for the program and for its documentation.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from typing import Any, ClassVar, TypeVar, cast

import click

from . import output
from .tables import Align, Table, escape

__all__ = [
    "RowWriter",
    "Shape",
    "age",
    "ago",
    "cell",
    "columns_of_terminal",
    "is_terminal",
    "json_of",
    "shape_of",
    "show_one",
    "show_pages",
    "show_rows",
    "shows",
    "styled",
    "told",
    "until",
]

_TYPES = {
    **{"str": "string", "int": "integer", "float": "number", "bool": "boolean", "None": "null", "datetime": "time"},
    **{"timedelta": "seconds", "JsonValue": "any JSON", "dict[str, JsonValue]": "object", "list[str]": "array"},
}

F = TypeVar("F", bound=Callable[..., Any])


def told(
    text: str,
    head: str | None = None,
    *,
    right: bool = False,
    cut: bool = False,
    show: Callable[[Any], str] | None = None,
    brief: Callable[[Any], str] | None = None,
) -> Any:
    """Describe a field of a `Shape`.

    :param text: what it says.
    :param head: the title of its column; None where the table has none.
    :param right: as for `Align`, and so for `cut`.
    :param show: gives its text; default: `cell`.
    :param brief: gives its text in a table on a terminal, where it may be vaguer; default: as `show`.
    """
    column = None if head is None else Align(head, right, cut)
    show = show or cell
    return dataclasses.field(metadata={"told": text, "column": column, "show": show, "brief": brief or show})


@dataclass(frozen=True)
class Shape:
    """Be what a command shows."""

    #: Fields of a list's table that make a value stand out, by its text.
    colours: ClassVar[dict[str, str]] = {}

    @classmethod
    def describe(cls) -> list[tuple[str, str, str]]:
        """List the keys of the JSON: name, type and what it says."""
        return [(each.name, _type(str(each.type)), each.metadata["told"]) for each in dataclasses.fields(cls)]

    @classmethod
    def columns(cls) -> list[Align]:
        """List the columns of the table."""
        return [each.metadata["column"] for each in dataclasses.fields(cls) if each.metadata["column"]]

    def cells(self, *, brief: bool = False) -> list[str]:
        """Give the texts of the columns.

        :param brief: for a table on a terminal.
        """
        how = "brief" if brief else "show"
        return [each.metadata[how](getattr(self, each.name)) for each in _fields(type(self)) if each.metadata["column"]]

    def facts(self) -> list[tuple[str, str]]:
        """Give the name and the text of every field."""
        return [
            (each.name.replace("_", " "), each.metadata["show"](getattr(self, each.name)))
            for each in dataclasses.fields(self)
        ]

    def json(self) -> dict[str, Any]:
        """Give the JSON."""
        return {each.name: json_of(getattr(self, each.name)) for each in _fields(type(self))}


# `fields` looks through the class each time.
_fields = cast("Callable[[type[Shape]], tuple[dataclasses.Field[Any], ...]]", cache(dataclasses.fields))


def _type(annotation: str) -> str:
    return " or ".join(_TYPES.get(each, "string") for each in annotation.split(" | "))


def json_of(value: Any) -> Any:
    """Give a value as the JSON of every command spells it: times in UTC with microseconds, spans in seconds."""
    match value:
        case str() | int() | None if not isinstance(value, Enum):  # nearly all, first
            return value
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
        case timedelta():
            return value.total_seconds()
        case Enum():
            return value.value
        case _:
            return value


def cell(value: Any) -> str:
    """Give a value as tables spell it: times in UTC to the second."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        case timedelta():
            return age(value)
        case dict() | list():
            return output.json_line(cast("object", value))
        case _:
            return str(value)


def age(span: timedelta | None) -> str:
    """Give a span roughly, in its largest unit."""
    if span is None:
        return "-"
    seconds = span.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"


def ago(moment: datetime | None) -> str:
    """Give how long ago a moment was, roughly; by this machine's clock."""
    return "-" if moment is None else f"{age(max(datetime.now(UTC) - moment, timedelta(0)))} ago"


def until(moment: datetime | None) -> str:
    """Give how long it is to a moment, roughly; by this machine's clock."""
    return "never" if moment is None else f"in {age(max(moment - datetime.now(UTC), timedelta(0)))}"


def shows(shape: type[Shape]) -> Callable[[F], F]:
    """Give a command `--json` (as `as_json`), and say which shape that has; for its documentation.

    :param shape: of the only object, or of each line.
    """

    def mark(function: F) -> F:
        function.__dict__["shape"] = shape
        return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)

    return mark


def shape_of(command: click.Command) -> type[Shape] | None:
    """Give the shape of what a command shows; None for one that shows no facts."""
    return getattr(command.callback, "shape", None)


def is_terminal() -> bool:
    """Tell whether stdout is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()  # pyright: ignore[reportUnnecessaryComparison]


def styled(text: str, **style: Any) -> str:
    """Colour a text for stdout, where it is a terminal that wants colours."""
    if not is_terminal() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return click.style(text, **style)


def columns_of_terminal() -> int:
    """Tell how wide the terminal is; 80 where it does not say."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _escaped(texts: Sequence[str]) -> list[str]:
    ascii_only = not output.is_utf8()
    return [escape(text, ascii_only=ascii_only) for text in texts]


class RowWriter:
    """Write pages of one shape.

    :param kind: the class of the rows.
    :param as_json: one object a line.
    """

    def __init__(self, kind: type[Shape], *, as_json: bool) -> None:
        self._kind = kind
        self._as_json = as_json
        self._table: Table | None = None

    def write(self, rows: Sequence[Shape]) -> None:
        """Write a page.

        :param rows: of the shape.
        """
        if self._as_json:
            output.emit(output.json_line(row.json()) for row in rows)
        elif not is_terminal():
            output.emit("\t".join(_escaped(row.cells())) for row in rows)
        elif rows:
            output.emit(self._lay_out(rows))

    def _lay_out(self, rows: Sequence[Shape]) -> list[str]:
        first, table = self._table is None, self._table
        if table is None:
            mark = "…" if output.is_utf8() else "~"
            table = self._table = Table(self._kind.columns(), columns_of_terminal(), mark)
        lines = table.lines([_escaped(row.cells(brief=True)) for row in rows])
        if self._kind.colours:
            lines = [self._coloured(line) for line in lines]
        return [styled(table.head(), bold=True), *lines] if first else lines

    def _coloured(self, line: str) -> str:
        word = line.partition("  ")[0]
        colour = self._kind.colours.get(word)
        return line if colour is None else styled(word, fg=colour, bold=True) + line[len(word) :]


def show_rows(kind: type[Shape], rows: Iterable[Shape], *, as_json: bool) -> None:
    """Show a list.

    :param kind: the class of the rows.
    :param rows: the rows.
    :param as_json: one object a line.
    """
    RowWriter(kind, as_json=as_json).write(list(rows))


async def show_pages(kind: type[Shape], pages: AsyncIterable[Sequence[Shape]], *, as_json: bool) -> int:
    """Show a list page by page, without holding more than one.

    :return: how many rows there were.
    """
    writer, count = RowWriter(kind, as_json=as_json), 0
    async for page in pages:
        writer.write(page)
        count += len(page)
    return count


def show_one(thing: Shape, *, as_json: bool) -> None:
    """Show one thing: a fact a line, or one object of JSON.

    :param thing: the thing.
    :param as_json: as JSON.
    """
    if as_json:
        output.emit([output.json_line(thing.json())])
        return
    facts = thing.facts()
    if not is_terminal():
        output.emit("\t".join(_escaped(fact)) for fact in facts)
        return
    wide = max(len(name) for name, _ in facts) + 1
    output.emit(_paragraph(name, text, wide) for name, text in facts)


def _paragraph(name: str, text: str, wide: int) -> str:
    # What has lines, a traceback, stands below its name.
    lines = _escaped(text.rstrip("\n").split("\n"))
    head = styled(f"{name + ':':{wide}}", bold=True)
    return f"{head} {lines[0]}" if len(lines) == 1 else "\n".join([head, *(f"  {line}" for line in lines)])
