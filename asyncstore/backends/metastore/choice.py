"""Which database a URL means."""

from __future__ import annotations

from ...clock import Clock, SystemClock
from ...errors import ConfigurationError
from ...settings import DatabaseSettings
from .database import Database

__all__ = ["open_database"]


def open_database(settings: DatabaseSettings, clock: Clock | None) -> Database:
    """Give the database of a URL; connects to nothing yet.

    :param settings: the section `[database]`.
    :param clock: tells when values expire; None for the system's on SQLite, the server's on PostgreSQL.
    :raises ConfigurationError: the URL is of another kind.
    """
    kind = settings.url.partition(":")[0]
    if kind in {"sqlite", "sqlite+aiosqlite"}:
        from .sqlite.database import SqliteDatabase
        from .sqlite.target import Target

        return SqliteDatabase(
            Target.parse(settings.url),
            lock_timeout=settings.lock_timeout,
            durability=settings.durability,
            clock=clock or SystemClock(),
        )
    if kind in {"postgresql", "postgres", "postgresql+asyncpg"}:
        try:
            from .postgresql.database import PostgresqlDatabase
        except ImportError as error:
            raise ConfigurationError(
                f"[database] url: {kind} needs the extra `postgresql` ({error}): pip install 'asyncstore[postgresql]'"
            ) from error
        return PostgresqlDatabase(settings, clock)
    raise ConfigurationError(
        f"[database] url: {kind!r} is not supported; allowed: sqlite+aiosqlite:///path.db, "
        "postgresql+asyncpg://user:password@host:5432/database"
    )
