"""The one module that knows how databases differ: what SQL they are given, and how it is spelled."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Column, ColumnElement, Executable, Table, bindparam, func, null, or_, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.sql.compiler import SQLCompiler

__all__ = ["before", "claim", "in_json_array", "sql", "upsert"]


def in_json_array(column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Hold where a column is in a JSON array: one parameter, however many items."""
    items = func.json_each(bindparam(parameter)).table_valued("value")
    return column.in_(select(items.c.value))


def before(column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Hold where a column is less than a parameter, or the parameter is null."""
    bound: ColumnElement[Any] = bindparam(parameter)
    return or_(bound.is_(null()), column < bound)


def upsert(table: Table, columns: Sequence[Column[Any]], rows: Any, *, keys: int) -> Executable:
    """Insert the rows of a select, or overwrite.

    :param table: where to.
    :param columns: the columns that the select gives, the primary key first.
    :param rows: gives the rows.
    :param keys: how many columns the primary key has.
    """
    statement = sqlite_insert(table).from_select([column.name for column in columns], rows)
    return statement.on_conflict_do_update(
        index_elements=list(columns[:keys]),
        set_={column.name: statement.excluded[column.name] for column in columns[keys:]},
    )


def claim(table: Table, columns: Sequence[Column[Any]]) -> Insert:
    """Insert a watcher, or raise its fencing number and take the rest anew."""
    statement = sqlite_insert(table).values({column.name: bindparam(column.name) for column in columns})
    fresh = {column.name: statement.excluded[column.name] for column in columns if column.name != "fence"}
    return statement.on_conflict_do_update(
        index_elements=[table.c.asset_id, table.c.name], set_={**fresh, "fence": table.c.fence + 1}
    )


_SQLITE = sqlite.dialect(paramstyle="named")


@cache
def sql(build: Callable[..., Executable], *arguments: Any, **options: Any) -> str:
    """Give the text of a statement for SQLite's driver, with named parameters.

    :param build: a function of `statements`.
    :param arguments: its arguments.
    :param options: its keyword arguments.
    """
    statement: Any = build(*arguments, **options)
    compiled: SQLCompiler = statement.compile(dialect=_SQLITE)
    text = str(compiled)
    for name, value in compiled.params.items():
        if value is not None:  # a constant of the statement, such as OFFSET 0
            text = re.sub(rf":{name}\b", str(int(value)), text)
    return " ".join(text.split())
