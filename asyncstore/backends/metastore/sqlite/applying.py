"""Operations on one connection, in the thread that has it: procedures, and the everyday ones without their overhead."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import Executable

from ....changes import Commit, CommitResult, Put
from ....clock import to_microseconds
from ....registration.deciding import inactive, never_expires, not_found
from ....scopes import AssetScope, Scope, TaskScope
from .. import statements
from ..dialect import sqlite_parameters, sqlite_sql
from ..owners import ASSET_BY, TASK, Owner
from ..procedures import state
from ..procedures.commit import Revisions
from ..procedures.commit import commit as commit_procedure
from ..steps import Answer, Procedure

__all__ = ["apply", "plain_put", "read_value", "roll_back", "run", "spoils", "write_alone", "write_put"]

_NAME = re.compile(r":(\w+)")


def run(cursor: sqlite3.Cursor, procedure: Procedure[Any]) -> Any:
    """Run a procedure to its end."""
    try:
        step = next(procedure)
        while True:
            cursor.execute(sqlite_sql(step.build, *step.arguments), sqlite_parameters(step.parameters))
            step = procedure.send(Answer(cursor.fetchall(), cursor.rowcount))
    except StopIteration as stop:
        return stop.value


def roll_back(raw: sqlite3.Connection) -> None:
    """Undo the transaction, if there is one."""
    if raw.in_transaction:
        raw.execute("ROLLBACK")


def spoils(raw: sqlite3.Connection, error: Exception) -> bool:
    """Tell whether an error of one statement is one of the whole transaction, for nobody knows what is left of it.

    SQLite may end a transaction by itself, as where the disk is full.
    """
    if isinstance(error, sqlite3.OperationalError | sqlite3.InternalError | MemoryError):
        return True
    return type(error) is sqlite3.DatabaseError or not raw.in_transaction


def _positional(build: Callable[[Owner], Executable], owner: Owner, *names: str) -> str:
    # Half a microsecond less than by name, each time. The names say in which order the parameters must come.
    text = sqlite_sql(build, owner)
    if tuple(_NAME.findall(text)) != names:
        raise AssertionError(f"the statement has other parameters: {text}")
    return _NAME.sub("?", text)


class _Texts:
    """Hold the texts of the everyday statements."""

    __slots__ = (
        "add_instance",
        "read_asset",
        "read_task",
        "write_asset",
        "write_asset_alone",
        "write_task",
        "write_task_alone",
    )

    def __init__(self) -> None:
        task = ("dag_id", "run_id", "task_id", "map_index")
        asset = ASSET_BY["id"]
        row: Final = ("key", "value", "version", "now", "updated_by")
        self.read_task = _positional(statements.state.read_value, TASK, "now", "key", *task)
        self.read_asset = _positional(statements.state.read_value, asset, "key", "asset_id")
        self.write_task = _positional(statements.state.write_value, TASK, *row, "expires_at", *task)
        self.write_asset = _positional(statements.state.write_value, asset, *row, "asset_id")
        alone = statements.state.write_value_unless_taken
        self.write_task_alone = _positional(alone, TASK, *row, "expires_at", *task, "last")
        self.write_asset_alone = _positional(alone, asset, *row, "asset_id", "last")
        self.add_instance = _positional(lambda _: statements.state.add_task_instance(), TASK, *task)


@cache
def _texts() -> _Texts:
    return _Texts()


def read_value(cursor: sqlite3.Cursor, scope: Scope, key: str, now: int) -> str | None:
    """Read the text of one key."""
    if isinstance(scope, TaskScope):
        place = (now, key, scope.dag_id, scope.run_id, scope.task_id, scope.map_index)
        row = cursor.execute(_texts().read_task, place).fetchone()
        return None if row is None else row[2]
    if scope.asset_id is None:
        found: str | None = run(cursor, state.get(scope, key, lambda: now))
        return found
    row = cursor.execute(_texts().read_asset, (key, scope.asset_id)).fetchone()
    if row is None:
        raise not_found(scope)
    if row[0] is not None:
        raise inactive(scope)
    text: str | None = row[2]
    return text


def plain_put(commit: Commit) -> Put | None:
    """Give the one put of a commit that nothing but its scope can refuse, None for another commit."""
    changes = commit.changes
    if len(changes) != 1 or commit.lease is not None:
        return None
    put = changes[0]
    if not isinstance(put, Put) or put.if_version is not None:
        return None
    scope = put.scope
    return put if isinstance(scope, TaskScope) or scope.asset_id is not None else None


def write_put(cursor: sqlite3.Cursor, put: Put, version: int, now: int, updated_by: str | None) -> None:
    """Write the one key of a plain put."""
    scope = put.scope
    row = _row(put, version, now, updated_by)
    if isinstance(scope, AssetScope):
        if cursor.execute(_texts().write_asset, row).rowcount != 1:
            run(cursor, state.require_asset(scope))  # says what is wrong
    elif cursor.execute(_texts().write_task, row).rowcount != 1:
        cursor.execute(_texts().add_instance, row[-4:])
        cursor.execute(_texts().write_task, row)


def _row(put: Put, version: int, now: int, updated_by: str | None) -> tuple[Any, ...]:
    scope, expires_at = put.scope, put.expires_at
    if isinstance(scope, TaskScope):
        expiry = None if expires_at is None else to_microseconds(expires_at)
        place = (scope.dag_id, scope.run_id, scope.task_id, scope.map_index)
        return (put.key, put.value, version, now, updated_by, expiry, *place)
    if expires_at is not None:
        raise never_expires()
    return put.key, put.value, version, now, updated_by, scope.asset_id


def write_alone(cursor: sqlite3.Cursor, commit: Commit, now: int, revisions: Revisions) -> int | None:
    """Make a commit in one statement outside of a transaction, where that can be.

    :return: the version; None where nothing was done.
    """
    last = revisions.last
    if last is None or (put := plain_put(commit)) is None:
        return None
    version = revisions.next()  # gone, even if what follows is interrupted
    row = (*_row(put, version, now, commit.updated_by), last)
    text = _texts().write_task_alone if isinstance(put.scope, TaskScope) else _texts().write_asset_alone
    return version if cursor.execute(text, row).rowcount == 1 else None


def apply(cursor: sqlite3.Cursor, commit: Commit, now: int, at: datetime, revisions: Revisions) -> CommitResult:
    """Apply a commit; where it raises, what it did must be undone, unless it is one change.

    :param cursor: inside a transaction.
    :param commit: the commit.
    :param now: the time in microseconds, read under the write lock.
    :param at: the same as a datetime.
    :param revisions: of the transaction.
    """
    put = plain_put(commit)
    if put is None:
        result: CommitResult = run(cursor, commit_procedure(commit, now, revisions))
        return result
    if not revisions.reserved:
        run(cursor, revisions.reserve())
    version = revisions.next()
    write_put(cursor, put, version, now, commit.updated_by)
    return CommitResult(at, (version,))
