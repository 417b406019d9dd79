"""What PostgreSQL's and asyncpg's errors mean: in the store's words, and for the question whether to try again."""

from __future__ import annotations

import asyncio
import ssl
from enum import Enum, auto

import asyncpg

from ....errors import (
    ConfigurationError,
    DatabaseError,
    SchemaError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
    VersionConflictError,
)

__all__ = ["EVENTS_HELD_UP", "Fate", "NotConnected", "explain", "fate", "is_driver_error", "is_held_up", "is_spoilt"]


class NotConnected(Exception):
    """Say that no connection could be opened, and so nothing was sent; the driver's error is the cause."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


_DRIVER = (
    NotConnected,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    asyncio.TimeoutError,
)


#: Our own: the line of events, which is one for all, did not move in time.
EVENTS_HELD_UP = "AS002"


class Fate(Enum):
    """Say what became of an operation that ended in an error."""

    #: It surely did not run, and another attempt may succeed.
    NOT_RUN = auto()
    #: It did not run, since a row or table is locked.
    LOCKED = auto()
    #: It did not run, since it took longer than a statement may, or an administrator ended it.
    CANCELLED = auto()
    #: It did not run because of another operation in its batch, or of one that was made at the same moment.
    COLLIDED = auto()
    #: The connection was lost: nobody knows.
    LOST = auto()
    #: It did not run, and never will.
    REFUSED = auto()


# https://www.postgresql.org/docs/current/errcodes-appendix.html
_NOT_RUN = {
    "57P01",  # admin_shutdown: whoever gets this was told so before the commit
    "57P02",  # crash_shutdown
    "57P03",  # cannot_connect_now
    "53300",  # too_many_connections
    "25006",  # read_only_sql_transaction: a standby, or a primary that was demoted
    "0A000",  # a cached plan of before a change to the schema
    "26000",  # a prepared statement that a pooler lost
}
_COLLIDED = {
    "40001",  # serialization_failure
    "40P01",  # deadlock_detected
    "23503",  # a task instance or asset that somebody dropped meanwhile
    "23505",  # unique_violation
    "AS001",  # our own: a version that changed between its check and the write
}


def is_driver_error(error: BaseException) -> bool:
    """Tell whether an error is one of the driver's or of the network's."""
    return isinstance(error, _DRIVER)


def fate(error: BaseException) -> Fate:
    """Tell what became of an operation that ended in an error."""
    if isinstance(error, NotConnected):
        # Whatever the server has against us may pass, but for a login or a name that is wrong.
        return Fate.REFUSED if _is_wrong(error.error) else Fate.NOT_RUN
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if is_held_up(error):
            return Fate.LOCKED
        if state == "57014":
            return Fate.CANCELLED
        if state in _COLLIDED:
            return Fate.COLLIDED
        # The driver's word for a connection that ended in the middle.
        if state[:2] == "08":
            return Fate.LOST
        return Fate.NOT_RUN if state in _NOT_RUN else Fate.REFUSED
    if isinstance(error, asyncpg.InterfaceError):
        # Said before anything is sent.
        return Fate.NOT_RUN if "closed" in str(error) or "released" in str(error) else Fate.REFUSED
    return (
        Fate.LOST if isinstance(error, OSError | asyncio.TimeoutError | asyncpg.InternalClientError) else Fate.REFUSED
    )


def is_held_up(error: BaseException | None) -> bool:
    """Tell whether a lock was not free, be it of a row or of the line of events."""
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in {"55P03", EVENTS_HELD_UP}


def is_spoilt(error: BaseException) -> bool:
    """Tell whether the connection is of no use any more: another one may be to a writable server, or know our plans."""
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in {"25006", "0A000", "26000"}


def _is_wrong(error: BaseException) -> bool:
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state[:2] in {"28", "3D", "42"} or state == "08P01"
    # Other errors of TLS come with every connection that ends in the middle.
    if isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error):
        return True
    return isinstance(error, asyncpg.ClientConfigurationError | ssl.SSLCertVerificationError | ValueError)


_MEANING: dict[str, tuple[type[StoreError], str]] = {
    "28": (StoreUnavailableError, "refused the login; check the user and the password in `[database] url`"),
    "3D000": (StoreUnavailableError, "does not exist on that server; create it first"),
    "42P01": (SchemaError, "has none of asyncstore's tables, or not all; run `asyncstore db upgrade`"),
    "42883": (SchemaError, "lacks functions of this release; run `asyncstore db upgrade`"),
    "42501": (DatabaseError, "does not let this user do that; grant the rights that the page on databases lists"),
    "3F000": (DatabaseError, "has none of the schemas of the search_path; create one first"),
    "42P07": (SchemaError, "has a table of somebody else's under one of our names; use another schema or database"),
    "42723": (SchemaError, "has a function of somebody else's under one of our names; use another schema or database"),
    "42703": (SchemaError, "has a table of somebody else's under one of our names; use another schema or database"),
    "42704": (ConfigurationError, "does not know an option of `[database] url`"),
    "08P01": (
        ConfigurationError,
        "refused how the connection begins; where a pooler stands between, name its mode in `[database] pooler`",
    ),
    "25006": (StoreReadOnlyError, "can only be read: it is a standby, or set to read-only transactions"),
    "53100": (StoreFullError, "has no space left; nothing was written"),
    "53200": (StoreBusyError, "is out of memory; nothing was written"),
    "53300": (
        StoreUnavailableError,
        "has no connection left for us; raise max_connections or lower `[database] pool_size`",
    ),
    "55P03": (StoreBusyError, "holds a lock that another transaction has; nothing was written"),
    EVENTS_HELD_UP: (StoreBusyError, "has another transaction recording events, which come one after the other"),
    "57014": (
        StoreBusyError,
        "cancelled the statement (a statement timeout, or an administrator); nothing was written",
    ),
    "57P": (StoreUnavailableError, "is shutting down or starting up"),
    "40": (StoreBusyError, "had another transaction go first, again and again; nothing was written"),
    "XX001": (StoreCorruptError, "is damaged; restore it from a backup"),
    "XX002": (StoreCorruptError, "has a damaged index; REINDEX it"),
}


def explain(error: BaseException, place: str) -> StoreError:
    """Give the store's error for one of the driver's.

    :param error: as it was caught; the caller raises the result `from` it.
    :param place: the database, for the message.
    """
    if isinstance(error, NotConnected):
        return explain(error.error, place)
    if isinstance(error, StoreError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state == "AS001":
            return VersionConflictError(
                error.column_name or "", int(error.constraint_name or 0), int(error.detail or 0)
            )
        for length in (5, 3, 2):
            if state[:length] in _MEANING:
                kind, meaning = _MEANING[state[:length]]
                return kind(f"{place} {meaning} ({error})")
        if state[:2] != "08":
            return DatabaseError(f"{place} reported an error ({error})")
    if isinstance(error, asyncpg.ClientConfigurationError):
        return ConfigurationError(f"[database] url: {place}: {error}")
    if isinstance(error, ssl.SSLError) or "rejected SSL upgrade" in str(error):
        return StoreUnavailableError(
            f"{place}: TLS failed ({error}); check sslmode and sslrootcert in `[database] url`"
        )
    why = str(error) or type(error).__name__
    return StoreUnavailableError(
        f"{place} cannot be reached ({why}); check that the server runs and the address is right"
    )
