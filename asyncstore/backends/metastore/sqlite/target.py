"""Which database a URL means, and how its connections are opened."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from ....errors import ConfigurationError, StoreUnavailableError
from ....settings.showing import show
from .lane import BUSY_SLICE

__all__ = ["Target", "connect"]

_OLDEST = (3, 35, 0)  # RETURNING
_ALLOWED = (
    "allowed: sqlite+aiosqlite:///relative/path.db, sqlite+aiosqlite:////absolute/path.db, sqlite+aiosqlite:///:memory:"
)


@dataclass(frozen=True, slots=True)
class Target:
    """Name a database file, or memory.

    :ivar path: the absolute path of the file; None for memory.
    """

    path: Path | None

    @classmethod
    def parse(cls, url: str) -> Target:
        """Read a URL as SQLAlchemy spells it.

        A relative path is taken from the working directory of this moment.

        :param url: `sqlite+aiosqlite:///path`, or `sqlite:///path`, percent-encoded where need be.
        :raises ConfigurationError: it is no such URL.
        """
        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError):
            raise ConfigurationError(f"[database] url: the value is no database URL; {_ALLOWED}") from None
        if parsed.drivername not in {"sqlite", "sqlite+aiosqlite"}:
            raise ConfigurationError(f"[database] url: {parsed.drivername!r} is not supported; {_ALLOWED}")
        if parsed.query or parsed.host or parsed.username or parsed.password or parsed.port:
            raise ConfigurationError(f"[database] url: {show(url)} has a host or options; {_ALLOWED}")
        # Whether `parsed.database` is percent-decoded depends on SQLAlchemy's version; where a file is must not.
        database = unquote(url.partition("://")[2].partition("?")[0].removeprefix("/"))
        if database in {"", ":memory:"}:
            return cls(None)
        try:
            path = Path(database).absolute()
            if b"\0" in os.fsencode(path):
                raise ValueError("it holds a NUL character")
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"[database] url: {show(database)} is no path of a file ({error}); {_ALLOWED}"
            ) from (error)
        return cls(path)

    def __str__(self) -> str:
        return "the in-memory database" if self.path is None else f"the database file {str(self.path)!r}"

    def exists(self) -> bool:
        """Tell whether there is a file, or something that hides one."""
        try:
            return self.path is not None and bool(self.path.stat())
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True

    def identity(self) -> tuple[int, int] | None:
        """Tell which file is there now; None for memory, and where there is none."""
        if self.path is None:
            return None
        try:
            found = os.stat(self.path)  # noqa: PTH116 - called for every write, and this is the fast way
        except OSError:
            return None
        return found.st_dev, found.st_ino


def connect(target: Target, *, durability: str, read_only: bool = False, create: bool = True) -> sqlite3.Connection:
    """Open a connection; to be called with patience, for even the settings read the file.

    :param target: the database.
    :param durability: "full" for `synchronous=FULL`, "normal" for `NORMAL`.
    :param read_only: refuse to write on this connection.
    :param create: make a file that is missing.
    :raises StoreUnavailableError: the file is a folder.
    :raises ConfigurationError: Python was built with a SQLite that is too old.
    """
    if sqlite3.sqlite_version_info < _OLDEST:
        oldest = ".".join(str(part) for part in _OLDEST)
        raise ConfigurationError(f"SQLite {oldest} or later is needed; this Python has {sqlite3.sqlite_version}")
    path = target.path
    # os.path never raises: a folder that may not be searched, or a name that is too long, is SQLite's to report.
    if path is not None and os.path.isdir(path):  # noqa: PTH112
        raise StoreUnavailableError(f"{target} is a folder; name a file in it")
    uri = path is not None and not create
    raw = sqlite3.connect(
        ":memory:" if path is None else f"{path.as_uri()}?mode=rw" if uri else path,
        timeout=BUSY_SLICE,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        uri=uri,
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
