"""What a table is made of, as its database says, and whether it can be watched."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import NoSuchTableError, SAWarning

from .errors import WrongTableError

__all__ = ["Request", "Shape", "look_up"]

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Request:
    """Hold what is to be read.

    :ivar table: the name of the table.
    :ivar schema: its schema; None for the usual one.
    :ivar column: the column that grows; None for a key of one number.
    :ivar key: the columns that tell rows apart; empty for the primary key.
    :ivar columns: the columns of the payload; empty for all.
    :ivar where: a condition in SQL; None for all rows.
    """

    table: str
    schema: str | None
    column: str | None
    key: tuple[str, ...]
    columns: tuple[str, ...]
    where: str | None

    @property
    def name(self) -> str:
        """Return the table as people write it."""
        return f"{self.schema}.{self.table}" if self.schema else self.table


@dataclass(frozen=True, slots=True)
class Shape:
    """Hold the columns of a table.

    :ivar column: the column that grows.
    :ivar kind: how it grows; see `Scale`.
    :ivar aware: it has time zones.
    :ivar least: the least integer that may be compared with it; None where there is no such.
    :ivar key: the columns that tell rows of one value apart.
    :ivar nullable: those of the two that may be NULL.
    :ivar payload: the columns of the payload, and what `to_json` is told of each.
    """

    column: str
    kind: str
    aware: bool
    least: int | None
    key: tuple[str, ...]
    nullable: tuple[str, ...]
    payload: tuple[tuple[str, str], ...]

    @property
    def watched(self) -> tuple[str, ...]:
        """Return the column and the key: what makes the position of a row."""
        return self.column, *self.key


def look_up(connection: Connection, request: Request) -> Shape:
    """Ask the database what a table is made of.

    :param connection: to the database.
    :param request: what is to be read.
    :raises WrongTableError: it cannot be; says what there is.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # of types that SQLAlchemy does not know, which are read as they are
        inspector = sa.inspect(connection)
        _check_schema(connection, inspector, request)
        try:
            found = inspector.get_columns(request.table, schema=request.schema)
        except NoSuchTableError:
            found = []
        if not found:
            names = {*inspector.get_table_names(request.schema), *inspector.get_view_names(request.schema)}
            place = f" in schema {request.schema!r}" if request.schema else ""
            raise WrongTableError(f"there is no table {request.table!r}{place}; there is {_listed(names)}")
        key = inspector.get_pk_constraint(request.table, schema=request.schema).get("constrained_columns") or ()
    types = {str(each["name"]): each["type"] for each in found}
    nullable = {str(each["name"]) for each in found if each.get("nullable", True)}
    if is_sqlite := connection.dialect.name == "sqlite":
        nullable -= _row_ids(connection, request)
    return _shape(request, types, nullable, tuple(map(str, key)), is_sqlite=is_sqlite)


def _check_schema(connection: Connection, inspector: sa.Inspector, request: Request) -> None:
    # SQLite says the same of a database that is not attached as of one that cannot be opened now.
    if request.schema is None or connection.dialect.name != "sqlite":
        return
    there = {*inspector.get_schema_names(), "temp"}
    if request.schema.lower() not in {each.lower() for each in there}:
        raise WrongTableError(
            f"there is no schema {request.schema!r}; there is {_listed(there)}. Where the name of a table holds a dot, "
            "give its schema, too: main"
        )


def _row_ids(connection: Connection, request: Request) -> set[str]:
    """Give the column that is the row's number in SQLite: of all primary keys there, only that is never NULL."""
    place = [request.table, *([request.schema] if request.schema else [])]
    columns = sa.func.pragma_table_info(*place).table_valued("name", "type", "pk")
    rows = connection.execute(sa.select(columns).where(columns.c.pk > 0)).all()
    return {str(name) for name, kind, _ in rows if str(kind).upper() == "INTEGER"} if len(rows) == 1 else set()


def _shape(
    request: Request, types: dict[str, Any], nullable: set[str], primary: Sequence[str], *, is_sqlite: bool
) -> Shape:
    for name in (*([request.column] if request.column is not None else ()), *request.key, *request.columns):
        if name not in types:
            raise WrongTableError(
                f"table {request.name!r} has no column {name!r}; it has {_listed(types, order=False)}"
            )
    column = request.column if request.column is not None else _usual_column(request, types, primary)
    kind = _kind(types[column])
    if kind is None:
        raise WrongTableError(
            f"column {column!r} is of type {types[column]!r}, which cannot be a watermark: allowed are numbers, "
            "timestamps, dates, texts and UUIDs"
        )
    key = request.key or tuple(primary)
    if not key:
        raise WrongTableError(
            f"table {request.name!r} has no primary key; name the columns that tell its rows apart as its key"
        )
    chosen = request.columns or tuple(types)
    watched = (column, *(each for each in key if each != column))
    may_be_null = tuple(each for each in watched if each in nullable)
    payload = tuple((each, _declared(types[each])) for each in chosen)
    aware = bool(getattr(types[column], "timezone", False))
    return Shape(column, kind, aware, _least(types[column], is_sqlite), watched[1:], may_be_null, payload)


def _least(declared: Any, is_sqlite: bool) -> int | None:
    # Drivers refuse what does not fit into the type of the column.
    if is_sqlite or isinstance(declared, sa.types.BigInteger):
        return -(2**63)
    if isinstance(declared, sa.types.SmallInteger):
        return -(2**15)
    return -(2**31) if isinstance(declared, sa.types.Integer) else None


def _usual_column(request: Request, types: dict[str, Any], primary: Sequence[str]) -> str:
    if len(primary) == 1 and _kind(types[primary[0]]) == "number":
        return primary[0]
    fitting = [name for name, each in types.items() if _kind(each) is not None]
    raise WrongTableError(
        f"say which column of table {request.name!r} only grows (a number, a time, a text); it has {_listed(fitting)}"
    )


def _kind(declared: Any) -> str | None:
    types = sa.types
    if isinstance(declared, types.Boolean | types.Enum):
        return None
    if isinstance(declared, types.Integer | types.Numeric | types.Float | types.NullType):
        return "number"  # of a view SQLite says no types
    if isinstance(declared, types.DateTime):
        return "moment"
    if isinstance(declared, types.Date):
        return "day"
    return "text" if isinstance(declared, types.String | types.Uuid) else None


def _declared(declared: Any) -> str:
    types = sa.types
    if isinstance(declared, types.JSON):
        return "json"
    if isinstance(declared, types.Boolean):
        return "boolean"
    exact = isinstance(declared, types.Numeric) and not isinstance(declared, types.Float)
    return "decimal" if exact else ""


def _listed(names: Iterable[str], *, order: bool = True) -> str:
    found = sorted(names) if order else list(names)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return (", ".join(found[:_SHOWN]) + more) or "none"
