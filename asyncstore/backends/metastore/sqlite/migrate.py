"""The schema of a SQLite file: its revision, and the way to another one.

SQLite's errors come through as they are, but for a lock that is not free in time.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TypeVar

from sqlalchemy import Connection

from ....errors import StoreBusyError, StoreClosedError
from ..migrate import BASE, HEAD, alembic_lock, check, check_target, known, move
from ..schema import VERSION_TABLE
from .errors import is_busy

__all__ = ["Patience", "downgrade", "migrating", "prepare", "revision_of", "upgrade"]

T = TypeVar("T")


class Patience:
    """Repeat what finds the database locked, until it is free or the time is over.

    :param place: the database, for messages.
    :param lock_timeout: seconds from now on, for everything together.
    """

    def __init__(self, place: str, lock_timeout: float) -> None:
        self.place = place
        self.cancelled = False
        self._deadline = time.monotonic() + lock_timeout

    def cancel(self) -> None:
        """Let whoever waits give up; from any thread."""
        self.cancelled = True

    def __call__(self, step: Callable[[], T]) -> T:
        """Call a function until SQLite is not busy.

        :param step: leaves nothing behind where SQLite is busy.
        :raises StoreBusyError: the time is over.
        """
        while True:
            try:
                return step()
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
                if self.cancelled:
                    raise StoreClosedError(f"opening {self.place} was cancelled") from error
                if time.monotonic() >= self._deadline:
                    raise StoreBusyError(f"{self.place} is locked by another process ({error})") from error
                time.sleep(0.01)

    @contextmanager
    def hold(self, lock: threading.Lock, what: str) -> Generator[None]:
        """Hold a lock of this process.

        :param lock: the lock.
        :param what: who holds it elsewhere, for the message.
        :raises StoreBusyError: the time is over.
        """
        if not lock.acquire(timeout=max(self._deadline - time.monotonic(), 0)):
            raise StoreBusyError(f"{self.place}: {what}")
        try:
            yield
        finally:
            lock.release()


def revision_of(raw: sqlite3.Connection) -> str | None:
    """Read the revision of a database's schema; None where it has none of our tables."""
    if not raw.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (VERSION_TABLE,)).fetchone():
        return None
    row = raw.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()  # noqa: S608 - a constant
    return None if row is None else str(row[0])


def prepare(raw: sqlite3.Connection, patience: Patience) -> None:
    """Make a database without any table ready to use; refuse one with a schema that this release does not understand.

    :param raw: a connection that may write.
    :param patience: for locks of other processes that do the same.
    :raises SchemaError: the tables are missing, or older or newer than this release.
    :raises StoreBusyError: it took too long.
    """
    found = patience(lambda: revision_of(raw))
    if found is None and patience(lambda: _is_empty(raw)):
        _change(raw, patience, only_if_empty=True)
        found = patience(lambda: revision_of(raw))
    check(found, patience.place)


def upgrade(raw: sqlite3.Connection, patience: Patience) -> tuple[str | None, str]:
    """Bring the schema to the revision that this release needs.

    :param raw: a connection that may write.
    :param patience: for locks of other processes that do the same.
    :return: the revision before and after.
    :raises SchemaError: a newer release wrote it.
    :raises StoreBusyError: the lock was not free in time.
    """
    before = patience(lambda: revision_of(raw))
    if before is not None and before not in known():
        check(before, patience.place)
    if before != HEAD:
        _change(raw, patience, only_if_empty=False)
    return before, HEAD


def downgrade(raw: sqlite3.Connection, patience: Patience, revision: str) -> tuple[str | None, str | None]:
    """Take the schema back to a revision.

    :param raw: a connection that may write.
    :param patience: for locks of other processes that do the same.
    :param revision: the revision; `base` for no tables.
    :return: the revision before and after.
    :raises SchemaError: there is no such revision, or it is a later one.
    """
    before = patience(lambda: revision_of(raw))
    check_target(before, revision, patience.place)
    if before not in {None, revision}:
        with migrating(raw, patience) as connection:
            move(connection, revision, down=True)
    return before, None if revision == BASE else revision


def _is_empty(raw: sqlite3.Connection) -> bool:
    return raw.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def _change(raw: sqlite3.Connection, patience: Patience, *, only_if_empty: bool) -> None:
    # Readers and a writer side by side. The mode stays with the file; it cannot change inside a transaction.
    patience(lambda: raw.execute("PRAGMA journal_mode = WAL").fetchone())
    with migrating(raw, patience) as connection:
        # Another process may have done it while this one waited for the lock.
        if revision_of(raw) != HEAD and (not only_if_empty or _is_empty(raw)):
            move(connection, "head")


@contextmanager
def migrating(raw: sqlite3.Connection, patience: Patience) -> Generator[Connection]:
    """Be inside the one transaction of a migration: all of it stays, or nothing.

    :param raw: a connection that may write.
    :param patience: for locks.
    :return: SQLAlchemy's connection around it.
    :raises StoreBusyError: the lock was not free in time.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import StaticPool

    with patience.hold(alembic_lock(), "another thread of this process migrates a database"):
        engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
        # SQLAlchemy looks a new connection over, and rolls back when it has: so the transaction begins after that.
        connection = engine.connect()
        try:
            # A table that is dropped to be made anew must not take along what refers to it.
            raw.execute("PRAGMA foreign_keys = OFF")
            patience(lambda: raw.execute("BEGIN IMMEDIATE"))
            # Where SQLAlchemy knows of no transaction, Alembic commits after each migration.
            with connection.begin():
                yield connection
                patience(lambda: raw.execute("COMMIT"))
        except DBAPIError as error:
            if isinstance(error.orig, sqlite3.Error):
                raise error.orig from error
            raise
        finally:
            # Where a statement was interrupted, SQLAlchemy has closed the connection.
            with suppress(sqlite3.ProgrammingError):
                if raw.in_transaction:
                    raw.execute("ROLLBACK")
                raw.execute("PRAGMA foreign_keys = ON")
            if not connection.invalidated:
                # The raw connection is the caller's: the pool must not reset or close it.
                connection.detach()
