"""Reading a table: the statements."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, ProgrammingError

from asyncstore import JsonValue

from .access import open_access
from .address import Address
from .columns import Request, Shape, look_up
from .errors import UnreadableError, WrongTableError
from .values import to_json

__all__ = ["Newest", "Reader", "Row"]

T = TypeVar("T")

_RAW = sa.types.NullType()
_ONE: sa.ColumnElement[Any] = sa.literal_column("1")
_ZERO: sa.ColumnElement[Any] = sa.literal_column("0")


@dataclass(frozen=True, slots=True)
class Row:
    """Hold a row.

    :ivar position: the value of its column, then its key.
    :ivar within: it will be read again: it is not below the floor.
    :ivar values: what the payload is made of.
    """

    position: tuple[Any, ...]
    within: bool
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Newest:
    """Hold the largest value of the column.

    :ivar value: the value.
    :ivar grown: it is larger than the one before.
    :ivar reached: it is at least that.
    """

    value: Any
    grown: bool
    reached: bool


class Reader:
    """Read one table. Each operation is one statement, and no transaction stays open behind it.

    Values come as the driver has them, and are compared by the database alone: SQLite keeps moments as texts in
    whatever form, which must be found again as they are.

    :param address: where the database is.
    :param request: what is to be read.
    :param timeout: seconds that an operation may take.
    :param batch: rows of a page.
    :ivar shape: what the table is made of, once `look_up` was called.
    """

    def __init__(self, address: Address, request: Request, *, timeout: float, batch: int) -> None:
        self._address = address
        self._request = request
        self._timeout = timeout
        self.batch = batch
        self._access = open_access(address)
        self._table = sa.table(request.table, schema=request.schema)
        self.shape = Shape("", "", False, None, (), (), ())

    async def look_up(self) -> Shape:
        """Ask what the table is made of; later reads go by that.

        :raises WrongTableError: it cannot be watched.
        :raises UnreadableError: it cannot be read now.
        """

        def ask(connection: Connection) -> Shape:
            self.shape = shape = look_up(connection, self._request)
            names = dict.fromkeys((shape.column, *shape.key, *(name for name, _ in shape.payload)))
            columns: list[sa.ColumnClause[Any]] = [sa.column(name, _RAW) for name in names]
            self._table = sa.table(self._request.table, *columns, schema=self._request.schema)
            try:
                connection.execute(self._select(_ONE).limit(0)).close()
            except DBAPIError as error:
                if _is_wrong(error):
                    raise WrongTableError(_text(error)) from None
                raise
            return shape

        return await self._perform(ask)

    async def newest(self, floor: Any, top: Any) -> Newest | None:
        """Give the largest value of the column; None where no row is there at or above the floor.

        :param floor: where the window begins; None for the beginning.
        :param top: the largest value before; None for none.
        """
        column = self._column(self.shape.column)
        flags = [_flag(column > _bind(top)), _flag(column >= _bind(top))] if top is not None else [_ONE] * 2
        query = self._select(column, *flags).order_by(column.desc())
        if floor is not None:
            query = query.where(column >= _bind(floor))
        rows = await self._fetch(query)
        return Newest(rows[0][0], bool(rows[0][1]), bool(rows[0][2])) if rows else None

    async def page(self, after: Sequence[Any] | None, start: Any, floor: Any) -> list[Row]:
        """Give the next rows in the order of column and key; fewer than a batch at the end.

        :param after: the position of the last row; None at the beginning.
        :param start: the least value at the beginning; None for any.
        :param floor: from which value on rows will be read again; None for all.
        """
        watched = [self._column(name) for name in (self.shape.column, *self.shape.key)]
        within = _ONE if floor is None else _flag(watched[0] >= _bind(floor))
        query = self._select(within, *watched, *(self._column(name) for name, _ in self.shape.payload))
        query = query.order_by(*watched)
        if after is not None:
            # Two questions: no database finds its way in an index by "larger, or equal and ...", where many are equal.
            queries = [query.where(_greater(watched[0], after[0]))]
            if len(watched) > 1:
                queries.insert(0, query.where(_equal(watched[0], after[0]), _behind(watched[1:], after[1:])))
        else:
            queries = [query if start is None else query.where(watched[0] >= _bind(start))]
        rows = await self._fetch(*queries, limit=self.batch)
        width = 1 + len(watched)
        return [Row(tuple(row[1:width]), bool(row[0]), tuple(row[width:])) for row in rows]

    async def has_nulls(self) -> bool:
        """Tell whether rows are there whose column or key is NULL."""
        if not self.shape.nullable:
            return False
        missing = [self._column(name).is_(None) for name in self.shape.nullable]
        return bool(await self._fetch(self._select(_ONE, nulls=True).where(sa.or_(*missing))))

    def payload(self, row: Row) -> dict[str, JsonValue]:
        """Give a row as JSON.

        :param row: the row.
        """
        pairs = zip(self.shape.payload, row.values, strict=True)
        return {name: to_json(value, declared) for (name, declared), value in pairs}

    async def aclose(self) -> None:
        """Let go of the connection."""
        await self._access.aclose()

    # -- statements

    def _column(self, name: str) -> sa.ColumnElement[Any]:
        return self._table.c[name]

    def _select(self, *columns: Any, nulls: bool = False) -> sa.Select[Any]:
        # No two columns of one name: what is selected twice is found by its place.
        labelled = [each.label(f"c{number}") for number, each in enumerate(columns)]
        query: sa.Select[Any] = cast("Any", sa.select)(*labelled).select_from(self._table)
        if not nulls:
            query = query.where(*(self._column(name).is_not(None) for name in self.shape.nullable))
        if self._request.where is not None:
            query = query.where(sa.literal_column(f"({self._request.where}\n)"))
        return query

    async def _fetch(self, *queries: sa.Select[Any], limit: int = 1) -> list[Any]:
        def ask(connection: Connection) -> list[Any]:
            rows: list[Any] = []
            for query in queries:
                if len(rows) < limit:
                    rows += connection.execute(query.limit(limit - len(rows))).all()
            return rows

        return await self._perform(ask)

    # -- errors

    async def _perform(self, function: Callable[[Connection], T]) -> T:
        try:
            return await self._access.perform(function, self._timeout)
        except TimeoutError:
            raise UnreadableError(f"no answer within {self._timeout:g} s") from None
        except WrongTableError as error:
            raise WrongTableError(self._address.hide(str(error))) from None
        except Exception as error:
            raise UnreadableError(self._address.hide(_text(error))) from None


def _end(value: Any) -> str:
    """Tell whether a moment is the `first` or the `last` of the calendar.

    asyncpg gives these for `-infinity` and `infinity` as well, and means those where it is given these.
    """
    if not isinstance(value, date):
        return ""
    plain = value.replace(tzinfo=None) if isinstance(value, datetime) else value
    return {type(plain).min: "first", type(plain).max: "last"}.get(plain, "")


def _bind(value: Any) -> sa.ColumnElement[Any]:
    if _end(value):
        return sa.literal_column(f"'{value.isoformat()}'")
    # Without a type: the database takes that of the column.
    return sa.bindparam(None, value, type_=_RAW)


def _equal(column: sa.ColumnElement[Any], value: Any) -> sa.ColumnElement[bool]:
    end = _end(value)
    return column <= _bind(value) if end == "first" else column >= _bind(value) if end else column == _bind(value)


def _greater(column: sa.ColumnElement[Any], value: Any) -> sa.ColumnElement[bool]:
    return sa.false() if _end(value) == "last" else column > _bind(value)


def _flag(condition: Any) -> sa.ColumnElement[Any]:
    return sa.case((condition, _ONE), else_=_ZERO)


def _behind(columns: Sequence[Any], position: Sequence[Any]) -> sa.ColumnElement[bool]:
    """Give the condition of rows behind a position; its first part alone is one that every index serves."""
    *outer, (column, value) = zip(columns, position, strict=True)
    condition = _greater(column, value)
    for column, value in reversed(outer):
        condition = sa.or_(_greater(column, value), sa.and_(_equal(column, value), condition))
    return sa.and_(columns[0] >= _bind(position[0]), condition)


def _text(error: BaseException) -> str:
    shown = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    shown = re.sub(r"^<class '[^']+'>: ", "", shown).partition("\n")[0]
    return shown or type(error).__name__


def _is_wrong(error: DBAPIError) -> bool:
    """Tell whether a statement is refused for what it says, and not for how the database is."""
    if error.connection_invalidated:
        return False
    code = getattr(error.orig, "sqlite_errorname", None)
    return code == "SQLITE_ERROR" if code else isinstance(error, ProgrammingError)
