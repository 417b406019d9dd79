"""What SQLite's errors mean in the store's words."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from ....errors import (
    DatabaseError,
    StoreBusyError,
    StoreClosedError,
    StoreCorruptError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)

__all__ = ["MOVED", "is_busy", "mapped"]

MOVED = "was deleted or replaced while it was open; close the store and open it anew. Nothing was written"

# Result codes: https://www.sqlite.org/rescode.html; the name of an extended code begins with its primary one.
_MEANING: dict[str, tuple[type[DatabaseError], str]] = {
    "SQLITE_BUSY": (StoreBusyError, "is locked by another process; it may be in a long transaction"),
    "SQLITE_LOCKED": (StoreBusyError, "is locked by another connection of this process"),
    "SQLITE_READONLY": (StoreReadOnlyError, "cannot be written; check the permissions of the file and its folder"),
    "SQLITE_READONLY_DBMOVED": (StoreUnavailableError, MOVED),
    "SQLITE_FULL": (StoreFullError, "has no space left to grow; free some and try again. Nothing was written"),
    "SQLITE_CORRUPT": (
        StoreCorruptError,
        "is damaged; restore it from a backup, or see https://sqlite.org/recovery.html",
    ),
    "SQLITE_NOTADB": (StoreCorruptError, "is no SQLite database; choose another file"),
    "SQLITE_CANTOPEN": (StoreUnavailableError, "cannot be opened; check that its folder exists and can be written"),
    "SQLITE_IOERR": (StoreUnavailableError, "cannot be read or written (an I/O error)"),
    "SQLITE_PERM": (StoreUnavailableError, "cannot be opened; check the permissions of the file and its folder"),
    "SQLITE_AUTH": (StoreUnavailableError, "cannot be opened; check the permissions of the file and its folder"),
}


def _names(error: sqlite3.Error) -> tuple[str, str]:
    name = getattr(error, "sqlite_errorname", None) or ""
    return name, "_".join(name.split("_")[:2])


def is_busy(error: sqlite3.Error) -> bool:
    """Tell whether another attempt may find the lock free."""
    return _names(error)[1] in {"SQLITE_BUSY", "SQLITE_LOCKED"}


@contextmanager
def mapped(place: str) -> Generator[None]:
    """Turn SQLite's errors into the store's.

    :param place: the database, for the message.
    """
    try:
        yield
    except sqlite3.ProgrammingError as error:
        if "closed database" in str(error):
            raise StoreClosedError(f"the store on {place} is closed") from error
        raise DatabaseError(f"{place}: {error}") from error
    except sqlite3.Error as error:
        whole, primary = _names(error)
        kind, meaning = _MEANING.get(whole) or _MEANING.get(primary) or (DatabaseError, "reported an error")
        raise kind(f"{place} {meaning} ({error})") from error
