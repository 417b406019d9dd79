"""The one module that knows how databases differ: what SQL they are given, and how it is spelled."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, cast

from sqlalchemy import BigInteger, Column, ColumnElement, Executable, Table, Text, bindparam, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import Insert, asyncpg
from sqlalchemy.dialects.postgresql import (
    insert as upserting,  # SQLite's compiler takes it too; not the other way round
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeEngine

__all__ = [
    "NOW",
    "NOW_ON_POSTGRESQL",
    "CodePoints",
    "before",
    "byte_length",
    "claim",
    "in_list",
    "insert_new",
    "limit",
    "postgresql_sql",
    "sqlite_parameters",
    "sqlite_sql",
    "upsert",
    "upserting",
]

#: Text that compares by code point: SQLite does so by itself, PostgreSQL has a collation for it.
CodePoints = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")

#: PostgreSQL's clock in microseconds, as of the moment, not of the transaction's beginning.
NOW_ON_POSTGRESQL = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


class _Now(FunctionElement[int]):
    type: TypeEngine[int] = BigInteger()
    inherit_cache = True


class _Limit(FunctionElement[int]):
    type: TypeEngine[int] = BigInteger()
    inherit_cache = True


class _ByteLength(FunctionElement[int]):
    type: TypeEngine[int] = BigInteger()
    inherit_cache = True


class _InList(FunctionElement[bool]):
    inherit_cache = True


#: The clock, in microseconds: the parameter `now`; on PostgreSQL its own clock where that is null.
NOW: ColumnElement[int] = cast("ColumnElement[int]", _Now(bindparam("now", type_=BigInteger)))


def limit(parameter: str) -> ColumnElement[int]:
    """Give a limit that is a parameter; null for none."""
    return cast("ColumnElement[int]", _Limit(bindparam(parameter, type_=BigInteger)))


def byte_length(column: ColumnElement[Any]) -> ColumnElement[int]:
    """Give how many bytes of UTF-8 a text has."""
    return cast("ColumnElement[int]", _ByteLength(column))


def in_list(column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Hold where a column is in a list: one parameter, however many items."""
    return cast("ColumnElement[bool]", _InList(column, bindparam(parameter, type_=postgresql.ARRAY(column.type))))


def _only(element: FunctionElement[Any], compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)  # type: ignore[no-any-return, unused-ignore]


@compiles(_Now, "sqlite")
def _now_on_sqlite(element: _Now, compiler: SQLCompiler, **options: Any) -> str:
    return _only(element, compiler, **options)


@compiles(_Now, "postgresql")
def _now_on_postgresql(element: _Now, compiler: SQLCompiler, **options: Any) -> str:
    return f"coalesce({_only(element, compiler, **options)}, {NOW_ON_POSTGRESQL})"


@compiles(_Limit, "sqlite")
def _limit_on_sqlite(element: _Limit, compiler: SQLCompiler, **options: Any) -> str:
    return f"coalesce({_only(element, compiler, **options)}, -1)"


@compiles(_Limit, "postgresql")
def _limit_on_postgresql(element: _Limit, compiler: SQLCompiler, **options: Any) -> str:
    return _only(element, compiler, **options)


@compiles(_ByteLength, "sqlite")
def _byte_length_on_sqlite(element: _ByteLength, compiler: SQLCompiler, **options: Any) -> str:
    return f"length(CAST({_only(element, compiler, **options)} AS BLOB))"


@compiles(_ByteLength, "postgresql")
def _byte_length_on_postgresql(element: _ByteLength, compiler: SQLCompiler, **options: Any) -> str:
    return f"octet_length({_only(element, compiler, **options)})"


@compiles(_InList, "sqlite")
def _in_list_on_sqlite(element: _InList, compiler: SQLCompiler, **options: Any) -> str:
    column, items = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({items}))"  # noqa: S608 - of compiled parts


@compiles(_InList, "postgresql")
def _in_list_on_postgresql(element: _InList, compiler: SQLCompiler, **options: Any) -> str:
    column, items = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} = ANY ({items})"


def before(column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Hold where a column is less than a parameter, or the parameter is null."""
    bound: ColumnElement[Any] = bindparam(parameter, type_=column.type)
    return or_(bound.is_(None), column < bound)


def upsert(table: Table, columns: Sequence[Column[Any]], rows: Any, *, keys: int) -> Executable:
    """Insert the rows of a select, or overwrite.

    :param table: where to.
    :param columns: the columns that the select gives, the primary key first.
    :param rows: gives the rows.
    :param keys: how many columns the primary key has.
    """
    statement = upserting(table).from_select([column.name for column in columns], rows)
    return statement.on_conflict_do_update(
        index_elements=list(columns[:keys]),
        set_={column.name: statement.excluded[column.name] for column in columns[keys:]},
    )


def insert_new(table: Table, values: Mapping[str, Any]) -> Insert:
    """Insert a row, unless there is one with its key.

    :param table: where to.
    :param values: of the columns.
    """
    return upserting(table).values(values).on_conflict_do_nothing()


def claim(table: Table, columns: Sequence[Column[Any]], values: Mapping[str, Any]) -> Insert:
    """Insert a watcher, or raise its fencing number and take the rest anew.

    :param table: the watchers.
    :param columns: those that are written.
    :param values: for columns that are no parameter of their own name.
    """
    given = {column.name: values.get(column.name, bindparam(column.name, type_=column.type)) for column in columns}
    statement = upserting(table).values(given)
    fresh = {column.name: statement.excluded[column.name] for column in columns if column.name != "fence"}
    return statement.on_conflict_do_update(
        index_elements=[table.c.asset_id, table.c.name], set_={**fresh, "fence": table.c.fence + 1}
    )


_SQLITE = sqlite.dialect(paramstyle="named")
_POSTGRESQL: Any = asyncpg.dialect()  # type: ignore[no-untyped-call]


def _compile(dialect: Any, build: Callable[..., Executable], arguments: tuple[Any, ...]) -> SQLCompiler:
    statement: Any = build(*arguments)
    compiled: SQLCompiler = statement.compile(dialect=dialect)
    return compiled


@cache
def sqlite_sql(build: Callable[..., Executable], *arguments: Any) -> str:
    """Give the text of a statement for SQLite's driver, with named parameters.

    :param build: a function of `statements`.
    :param arguments: its arguments.
    """
    compiled = _compile(_SQLITE, build, arguments)
    text = str(compiled)
    for name, value in compiled.params.items():
        if value is not None:  # a constant of the statement, such as OFFSET 0
            spelled = "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(int(value))
            text = re.sub(rf":{name}\b", spelled, text)
    return " ".join(text.split())


def sqlite_parameters(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give parameters as SQLite takes them: a list as a JSON array."""
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
        for name, value in parameters.items()
    }


@cache
def postgresql_sql(build: Callable[..., Executable], *arguments: Any) -> tuple[str, tuple[tuple[str, Any], ...]]:
    """Give the text of a statement for asyncpg, and for each of its parameters the name and the constant, if any.

    :param build: a function of `statements`.
    :param arguments: its arguments.
    """
    compiled = _compile(_POSTGRESQL, build, arguments)
    names = compiled.positiontup or []
    return " ".join(str(compiled).split()), tuple((name, compiled.params[name]) for name in names)
