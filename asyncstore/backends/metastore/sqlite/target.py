"""Which database a URL means, and how its connections are opened."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from ....errors import ConfigurationError, StoreUnavailableError
from .errors import mapped
from .lane import BUSY_SLICE

__all__ = ["Target", "connect"]

_OLDEST = (3, 35, 0)  # RETURNING
_ALLOWED = (
    "allowed: sqlite+aiosqlite:///relative/path.db, sqlite+aiosqlite:////absolute/path.db, sqlite+aiosqlite:///:memory:"
)


@dataclass(frozen=True, slots=True)
class Target:
    """Name a database file, or memory.

    :ivar path: the file; None for memory.
    """

    path: Path | None

    @classmethod
    def parse(cls, url: str) -> Target:
        """Read a URL as SQLAlchemy spells it.

        :param url: `sqlite+aiosqlite:///path`, or `sqlite:///path`.
        :raises ConfigurationError: it is no such URL.
        """
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise ConfigurationError(f"[database] url: the value is no database URL; {_ALLOWED}") from None
        if parsed.drivername not in {"sqlite", "sqlite+aiosqlite"}:
            raise ConfigurationError(f"[database] url: {parsed.drivername!r} is not supported; {_ALLOWED}")
        if parsed.query or parsed.host or parsed.username:
            shown = parsed.render_as_string(hide_password=True)
            raise ConfigurationError(f"[database] url: {shown!r} has a host or options; {_ALLOWED}")
        if parsed.database in {None, "", ":memory:"}:
            return cls(None)
        return cls(Path(parsed.database or ""))

    def __str__(self) -> str:
        return "the in-memory database" if self.path is None else f"the database file {str(self.path)!r}"


def connect(target: Target, *, durability: str, read_only: bool = False) -> sqlite3.Connection:
    """Open a connection.

    :param target: the database.
    :param durability: "full" for `synchronous=FULL`, "normal" for `NORMAL`.
    :param read_only: refuse to write on this connection.
    :raises DatabaseError: the file cannot be opened, or is no database.
    :raises ConfigurationError: Python was built with a SQLite that is too old.
    """
    if sqlite3.sqlite_version_info < _OLDEST:
        oldest = ".".join(str(part) for part in _OLDEST)
        raise ConfigurationError(f"SQLite {oldest} or later is needed; this Python has {sqlite3.sqlite_version}")
    path = target.path
    if path is not None and path.is_dir():
        raise StoreUnavailableError(f"{target} is a folder; name a file in it")
    with mapped(str(target)):
        raw = sqlite3.connect(
            ":memory:" if path is None else path,
            timeout=BUSY_SLICE,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            raw.execute("PRAGMA foreign_keys = ON")
            raw.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
            if read_only:
                raw.execute("PRAGMA query_only = ON")
        except BaseException:
            raw.close()
            raise
    return raw
