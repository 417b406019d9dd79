"""The schema's revision: what a database has, what this release needs, and the way from one to the other."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ...errors import SchemaError, StoreBusyError
from .sqlite.errors import is_busy, mapped

__all__ = ["HEAD", "check", "create_if_empty", "revision_of", "upgrade"]

T = TypeVar("T")

#: The latest revision in `migrations/versions`; a test holds the two together.
HEAD = "0001"
_VERSION_TABLE = "asyncstore_alembic_version"
_MIGRATIONS = Path(__file__).parent / "migrations"


def revision_of(raw: sqlite3.Connection) -> str | None:
    """Read the revision of a database's schema; None where it has none of our tables."""
    if not raw.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (_VERSION_TABLE,)).fetchone():
        return None
    row = raw.execute(f"SELECT version_num FROM {_VERSION_TABLE}").fetchone()  # noqa: S608 - a constant
    return None if row is None else str(row[0])


def check(raw: sqlite3.Connection, place: str) -> None:
    """Refuse a schema that this release does not understand.

    :param raw: a connection.
    :param place: the database, for the message.
    :raises SchemaError: the tables are missing, or older or newer than this release.
    """
    found = revision_of(raw)
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


def create_if_empty(raw: sqlite3.Connection, place: str, lock_timeout: float) -> None:
    """Make a database without any table ready to use; leave every other as it is.

    :param raw: a connection that may write.
    :param place: the database, for messages.
    :param lock_timeout: seconds to wait at most for another process that does the same.
    :raises StoreBusyError: it took longer.
    """
    if _is_empty(raw):
        _change(raw, place, lock_timeout, only_if_empty=True)


def upgrade(raw: sqlite3.Connection, place: str, lock_timeout: float) -> tuple[str | None, str]:
    """Bring the schema to the revision that this release needs.

    :param raw: a connection that may write.
    :param place: the database, for messages.
    :param lock_timeout: seconds to wait at most for another process that does the same.
    :return: the revision before and after.
    :raises SchemaError: a newer release wrote it.
    :raises StoreBusyError: the lock was not free in time.
    """
    before = revision_of(raw)
    if before is not None and before not in _known():
        check(raw, place)
    if before != HEAD:
        _change(raw, place, lock_timeout, only_if_empty=False)
    return before, HEAD


def _is_empty(raw: sqlite3.Connection) -> bool:
    return raw.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def _known() -> set[str]:
    return {path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py")}


def _patiently(place: str, lock_timeout: float, step: Callable[[], T]) -> T:
    deadline = time.monotonic() + lock_timeout
    while True:
        try:
            return step()
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            if time.monotonic() >= deadline:
                raise StoreBusyError(f"{place} is locked by another process ({error})") from error
            time.sleep(0.01)


def _change(raw: sqlite3.Connection, place: str, lock_timeout: float, *, only_if_empty: bool) -> None:
    with mapped(place):
        # Readers and a writer side by side. The mode stays with the file; it cannot change inside a transaction.
        _patiently(place, lock_timeout, lambda: raw.execute("PRAGMA journal_mode = WAL").fetchone())
        _patiently(place, lock_timeout, lambda: raw.execute("BEGIN IMMEDIATE"))
        try:
            # Another process may have done it while this one waited for the lock.
            if revision_of(raw) != HEAD and (not only_if_empty or _is_empty(raw)):
                _run_migrations(raw)
            if raw.in_transaction:
                raw.execute("COMMIT")
        finally:
            if raw.in_transaction:
                raw.execute("ROLLBACK")


def _run_migrations(raw: sqlite3.Connection) -> None:
    # Alembic takes a third of a second to import, and most processes find their schema ready.
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
    connection = engine.connect()
    try:
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    finally:
        # The raw connection is the caller's: the pool must not reset or close it.
        connection.detach()
