"""A SQLite database in use: one lane for writes, one for reads, opened at the first call."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from ....blocking import in_thread, inline
from ....errors import StoreClosedError, StoreUnavailableError
from .. import migrate
from .errors import MOVED, mapped
from .lane import Lane
from .target import Target, connect

__all__ = ["SqliteDatabase"]

P = ParamSpec("P")
T = TypeVar("T")

#: Called after a commit, in the thread that made it.
Then = Callable[[], None]


def _roll_back(raw: sqlite3.Connection) -> None:
    if raw.in_transaction:
        raw.execute("ROLLBACK")


def _data_version(raw: sqlite3.Connection) -> int:
    return int(raw.execute("PRAGMA data_version").fetchone()[0])


class _Opened:
    """Hold the lanes of an open database.

    :param target: the database.
    :param lock_timeout: seconds to wait at most for a lock.
    :param durability: "full" or "normal".
    :param patience: for opening.
    """

    def __init__(self, target: Target, lock_timeout: float, durability: str, patience: migrate.Patience) -> None:
        self._target = target
        self._place = str(target)
        with ExitStack() as undo, mapped(self._place):
            writer = patience(lambda: connect(target, durability=durability))
            undo.callback(writer.close)
            migrate.prepare(writer, patience)
            self._identity = target.identity()
            self.writer = Lane(writer, self._place, lock_timeout, name="asyncstore writer")
            undo.callback(self.writer.close)
            self.reader = self.writer
            if target.path is not None:
                reader = patience(lambda: connect(target, durability=durability, read_only=True, create=False))
                self.reader = Lane(reader, self._place, lock_timeout, name="asyncstore reader")
            undo.pop_all()

    def select(self, raw: sqlite3.Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        self._check_file()
        return function(raw, *args)

    def transaction(
        self, raw: sqlite3.Connection, then: Then | None, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> Any:
        self._check_file()
        _roll_back(raw)  # what an interrupt during a rollback may have left
        try:
            # IMMEDIATE: a transaction that reads first and asks for the write lock later may be refused half-way.
            raw.execute("BEGIN IMMEDIATE")
            result = function(raw, *args)
            raw.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # the first error says more
                _roll_back(raw)
            raise
        if then is not None:
            then()
        return result

    def _check_file(self) -> None:
        # SQLite would go on in a file that nobody can find any more. It looks for itself only without a WAL.
        if self._identity is not None and self._target.identity() != self._identity:
            raise StoreUnavailableError(f"{self._place} {MOVED}")

    def close(self) -> None:
        self.reader.close()
        if self.writer is not self.reader:
            self.writer.close()


class SqliteDatabase:
    """Run functions on a SQLite database.

    In WAL mode a reader never waits for a writer, so reads have a connection and a thread of their own. In memory
    there is one connection for both: another one would be another database.

    The first call opens the database. Once it was closed, only `aopen` opens it again.

    :param target: the file, or memory.
    :param lock_timeout: seconds to wait at most for a lock.
    :param durability: "full" or "normal".
    """

    def __init__(self, target: Target, *, lock_timeout: float, durability: str) -> None:
        self._target = target
        self._lock_timeout = lock_timeout
        self._durability = durability
        self._opening = threading.Lock()
        self._opened: _Opened | None = None
        self._closed = False

    def __str__(self) -> str:
        return str(self._target)

    @property
    def path(self) -> Path | None:
        """Return the file; None for memory, where no other connection can commit."""
        return self._target.path

    async def read(self, function: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: Any) -> T:
        """Run a function of SELECTs."""
        opened = self._opened or await self._open(again=False)
        result: T = await opened.reader.run(opened.select, function, args)
        return result

    async def write(
        self,
        function: Callable[Concatenate[sqlite3.Connection, P], T],
        /,
        *args: Any,
        then: Then | None = None,
    ) -> T:
        """Run a function in a transaction; nothing stays of it where it raises.

        :param function: called with the connection and the arguments.
        :param then: called after the commit, whether or not the caller still waits.
        """
        opened = self._opened or await self._open(again=False)
        result: T = await opened.writer.run(opened.transaction, then, function, args)
        return result

    async def foreign_commits(self) -> int:
        """Give a number that changes when another connection than the writing one commits."""
        opened = self._opened or await self._open(again=False)
        result: int = await opened.writer.run(opened.select, _data_version, ())
        return result

    async def aopen(self) -> None:
        """Open the connections, and create the tables in a new file.

        :raises SchemaError: the file is of another release, or somebody else's.
        :raises DatabaseError: it cannot be opened.
        """
        await self._open(again=True)

    async def _open(self, *, again: bool) -> _Opened:
        patience = self._patience()

        def work() -> _Opened:
            with patience.hold(self._opening, "another thread of this process opens it"):
                if self._closed and not again:
                    raise StoreClosedError(f"the store on {self._target} is closed")
                if self._opened is None:
                    self._opened = _Opened(self._target, self._lock_timeout, self._durability, patience)
                    self._closed = False
                return self._opened

        return work() if inline() else await in_thread(work, name="asyncstore open", cancelled=patience.cancel)

    def _patience(self) -> migrate.Patience:
        return migrate.Patience(str(self._target), self._lock_timeout)

    async def upgrade(self) -> tuple[str | None, str]:
        """Bring the schema to this release's revision; gives the one before and the one after."""
        patience = self._patience()

        def work() -> tuple[str | None, str]:
            with mapped(patience.place), closing(self._connect(patience, create=True)) as raw:
                return migrate.upgrade(raw, patience)

        return work() if inline() else await in_thread(work, name="asyncstore upgrade", cancelled=patience.cancel)

    async def revision(self) -> str | None:
        """Give the revision of the schema, None where there is none; changes nothing."""
        return self._revision() if inline() else await in_thread(self._revision, name="asyncstore revision")

    def _revision(self) -> str | None:
        if not self._target.exists():
            return None
        patience = self._patience()
        with mapped(patience.place), closing(self._connect(patience, create=False)) as raw:
            return patience(lambda: migrate.revision_of(raw))

    def _connect(self, patience: migrate.Patience, *, create: bool) -> sqlite3.Connection:
        return patience(lambda: connect(self._target, durability=self._durability, create=create))

    async def aclose(self) -> None:
        """Close the connections, once what has begun is done."""
        if inline():
            self._close()
        else:
            await in_thread(self._close, name="asyncstore close")

    def _close(self) -> None:
        with self._patience().hold(self._opening, "another thread of this process opens it"):
            opened, self._opened = self._opened, None
            self._closed = True
        if opened is not None:
            opened.close()
