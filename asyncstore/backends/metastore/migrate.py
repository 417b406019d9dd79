"""The schema's revision: what a database has, what this release needs, and the way from one to the other.

SQLite's errors come through as they are, but for a lock that is not free in time.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ...errors import SchemaError, StoreBusyError, StoreClosedError
from .sqlite.errors import is_busy

__all__ = ["HEAD", "Patience", "migrating", "prepare", "revision_of", "upgrade"]

T = TypeVar("T")

#: The latest revision in `migrations/versions`; a test holds the two together.
HEAD = "0001"
_VERSION_TABLE = "asyncstore_alembic_version"
_MIGRATIONS = Path(__file__).parent / "migrations"

# Alembic keeps what it works on in module globals: one migration at a time in a process, whatever its database.
_alembic = threading.Lock()


def _forget() -> None:
    global _alembic
    _alembic = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


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
    if not raw.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (_VERSION_TABLE,)).fetchone():
        return None
    row = raw.execute(f"SELECT version_num FROM {_VERSION_TABLE}").fetchone()  # noqa: S608 - a constant
    return None if row is None else str(row[0])


def _check(found: str | None, place: str) -> None:
    if found == HEAD:
        return
    if found is None:
        raise SchemaError(f"{place} has none of asyncstore's tables; run `asyncstore db upgrade` to add them")
    if found in _known():
        raise SchemaError(f"{place} has schema {found}, this release needs {HEAD}; run `asyncstore db upgrade`")
    raise SchemaError(
        f"{place} has schema {found}, which this release does not know (its own is {HEAD}); a newer release wrote it: "
        "upgrade asyncstore"
    )


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
    _check(found, patience.place)


def upgrade(raw: sqlite3.Connection, patience: Patience) -> tuple[str | None, str]:
    """Bring the schema to the revision that this release needs.

    :param raw: a connection that may write.
    :param patience: for locks of other processes that do the same.
    :return: the revision before and after.
    :raises SchemaError: a newer release wrote it.
    :raises StoreBusyError: the lock was not free in time.
    """
    before = patience(lambda: revision_of(raw))
    if before is not None and before not in _known():
        _check(before, patience.place)
    if before != HEAD:
        _change(raw, patience, only_if_empty=False)
    return before, HEAD


def _is_empty(raw: sqlite3.Connection) -> bool:
    return raw.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def _known() -> set[str]:
    return {path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py")}


def _change(raw: sqlite3.Connection, patience: Patience, *, only_if_empty: bool) -> None:
    # Readers and a writer side by side. The mode stays with the file; it cannot change inside a transaction.
    patience(lambda: raw.execute("PRAGMA journal_mode = WAL").fetchone())
    with migrating(raw, patience) as (command, config):
        # Another process may have done it while this one waited for the lock.
        if revision_of(raw) != HEAD and (not only_if_empty or _is_empty(raw)):
            command.upgrade(config, "head")


@contextmanager
def migrating(raw: sqlite3.Connection, patience: Patience) -> Generator[tuple[Any, Any]]:
    """Be inside the one transaction of a migration: all of it stays, or nothing.

    :param raw: a connection that may write.
    :param patience: for locks.
    :return: `alembic.command` and the configuration it takes.
    :raises StoreBusyError: the lock was not free in time.
    """
    # Alembic takes a third of a second to import, and most processes find their schema ready.
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import StaticPool

    with patience.hold(_alembic, "another thread of this process migrates a database"):
        engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
        # SQLAlchemy looks a new connection over, and rolls back when it has: so the transaction begins after that.
        connection = engine.connect()
        try:
            # A table that is dropped to be made anew must not take along what refers to it.
            raw.execute("PRAGMA foreign_keys = OFF")
            patience(lambda: raw.execute("BEGIN IMMEDIATE"))
            # Where SQLAlchemy knows of no transaction, Alembic commits after each migration.
            with connection.begin():
                config = Config()
                config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
                config.attributes["connection"] = connection
                yield command, config
                patience(lambda: raw.execute("COMMIT"))
        except DBAPIError as error:
            if isinstance(error.orig, sqlite3.Error):
                raise error.orig from error
            raise
        finally:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raw.execute("PRAGMA foreign_keys = ON")
            # The raw connection is the caller's: the pool must not reset or close it.
            connection.detach()
