"""Looking at the database itself."""

from __future__ import annotations

from typing import Any

from .. import statements
from ..schema import metadata
from ..steps import Now, Procedure, ask

__all__ = ["UndoneError", "lacking_rights", "last_event_time", "server_facts", "tell_time", "try_writing"]


class UndoneError(Exception):
    """End a transaction of which nothing is to stay."""


def tell_time(now: Now) -> Procedure[int]:
    """Tell the database's time in microseconds."""
    rows, _ = yield ask(statements.garbage.tell_time, now=now())
    return int(rows[0][0])


def last_event_time() -> Procedure[int | None]:
    """Tell when the latest event was recorded, in microseconds."""
    rows, _ = yield ask(statements.examining.last_event_time)
    return rows[0][0] if rows else None


def try_writing() -> Procedure[None]:
    """Write, and undo it.

    :raises UndoneError: always, where it could be written.
    """
    yield ask(statements.examining.touch_revision)
    raise UndoneError


def server_facts() -> Procedure[tuple[Any, ...]]:
    """Tell what PostgreSQL says of itself."""
    rows, _ = yield ask(statements.examining.server_facts)
    return tuple(rows[0])


def lacking_rights() -> Procedure[list[str]]:
    """List the tables that the role may not read and write."""
    rows, _ = yield ask(statements.examining.lacking_rights, names=sorted(metadata.tables))
    return [row[0] for row in rows]
