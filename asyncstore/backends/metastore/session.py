"""Taking part in a transaction of the caller's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from ...errors import DatabaseError, OutcomeUnknownError, StoreBusyError, StoreError, StoreUnavailableError
from .database import Database
from .steps import Answer, Procedure

__all__ = ["close", "committed", "run_in_session"]

T = TypeVar("T")

#: Seconds that a session gets to close where its user was cancelled.
_CLOSE_SECONDS = 10.0


async def run_in_session(database: Database, session: object, procedure: Procedure[T]) -> T:
    """Run a procedure inside a session or connection of the caller's, which commits or rolls back.

    :param database: the database that the session is on, too.
    :param session: an `AsyncSession` or `AsyncConnection`.
    :param procedure: what to do.
    :raises TypeError: it is neither.
    :raises StoreBusyError: the call is a sync one: the session belongs to an event loop.
    """
    if database.is_sync_call():
        procedure.close()
        raise StoreBusyError(
            "a sync call cannot take part in a session: the session belongs to its event loop, which this call would "
            "block. Await the async twin"
        )
    try:
        connection = await _connection(database, session)
        try:
            step = next(procedure)
            while True:
                text, parameters = database.spell(step)
                try:
                    result = await connection.exec_driver_sql(text, parameters)
                    rows = [tuple(row) for row in result.fetchall()] if result.returns_rows else []
                except DBAPIError as error:
                    step = procedure.throw(_explained(database, error))  # it may have something to undo
                else:
                    step = procedure.send(Answer(rows, result.rowcount))
        except StopIteration as stop:
            done: T = stop.value
            return done
    except DBAPIError as error:
        raise _explained(database, error) from error
    except OSError as error:  # SQLAlchemy lets it through where it cannot connect
        raise database.explain(error) or DatabaseError(f"{database}, in the session: {error}") from error
    except SQLAlchemyError as error:
        raise StoreError(f"the session cannot be used: {error}") from error
    finally:
        procedure.close()


async def close(session: AsyncSession) -> None:
    """Close a session of ours to the end, whoever is cancelled meanwhile: what stays open would keep its locks.

    :param session: the session; what it did not commit is undone.
    """
    closing = asyncio.create_task(session.close(), name="asyncstore session close")
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            await asyncio.wait([closing])
        raise


@asynccontextmanager
async def committed(database: Database, session: AsyncSession) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
    """Keep whoever uses a session of ours from committing it; gives what does.

    :param database: the database that the session is on.
    :param session: the session.
    """
    allowed = False

    def refuse(_: object) -> None:
        if not allowed:
            raise StoreError(
                "the transaction of an event is committed once, with the event, when its block ends: leave "
                "session.commit() and session.begin() out"
            )

    def check(inner: object) -> None:
        if not session.sync_session.in_nested_transaction():
            refuse(inner)

    def check_connection(connection: Connection) -> None:
        if not allowed:
            connection.invalidate()  # SQLAlchemy takes its transaction for ended now, and would not undo it
        refuse(connection)

    def begun(_session: object, _transaction: object, connection: Connection) -> None:
        event.listen(connection, "commit", check_connection)  # by its connection it could be committed as well

    async def commit() -> None:
        nonlocal allowed
        allowed = True
        try:
            await session.commit()
        except (DBAPIError, OSError) as error:
            found = _explained(database, error) if isinstance(error, DBAPIError) else database.explain(error)
            if found is None or isinstance(found, StoreUnavailableError):
                raise OutcomeUnknownError(
                    f"{database}: the connection was lost before the commit was answered ({error}); it happened wholly "
                    "or not at all, and the event is delivered again unless it did"
                ) from error
            raise found from error

    event.listen(session.sync_session, "before_commit", check)
    event.listen(session.sync_session, "after_begin", begun)
    try:
        yield commit
    finally:
        event.remove(session.sync_session, "before_commit", check)
        event.remove(session.sync_session, "after_begin", begun)


def _explained(database: Database, error: DBAPIError) -> Exception:
    found = None if error.orig is None else database.explain(error.orig)
    found = found or DatabaseError(f"{database}, in the session: {error.orig}")
    found.__cause__ = error
    return found


async def _connection(database: Database, session: object) -> AsyncConnection:
    if isinstance(session, AsyncSession):
        connection = await session.connection()
    elif isinstance(session, AsyncConnection):
        connection = session
    else:
        raise TypeError(
            f"session is an AsyncSession or AsyncConnection of SQLAlchemy, not {type(session).__name__}: {session!r}"
        )
    if connection.dialect.name != database.dialect:
        raise TypeError(f"the session is on {connection.dialect.name}, the store on {database}")
    if connection.dialect.driver != database.driver:
        raise TypeError(
            f"the session goes through {connection.dialect.driver}; make its engine with "
            f"{database.dialect}+{database.driver}://"
        )
    return connection
