"""A SQLite database in use: one lane for writes, one for reads, opened at the first call."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, closing
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from ....blocking import drive, in_thread, inline
from ....changes import Commit, CommitResult
from ....clock import Clock
from ....doctor.records import Finding
from ....errors import StoreClosedError, StoreError
from ....records import ExpiredRow
from ....scopes import AssetScope, Scope, TaskScope
from ...watching import WatchHub
from ..database import Database, Then
from ..dialect import sqlite_parameters, sqlite_sql
from ..migrate import check_target
from ..procedures.commit import commit_beside
from ..steps import Procedure, Step, words_of
from . import cleanup, examining, migrate
from .applying import read_value, run
from .desk import Work
from .errors import mapped
from .opened import Opened
from .sessions import open_session
from .target import Target, connect

__all__ = ["SqliteDatabase"]

P = ParamSpec("P")
T = TypeVar("T")

#: Rows in a page of expired ones.
_PAGE = 1000


def _run(raw: sqlite3.Connection, work: Callable[[], Procedure[T]]) -> T:
    with closing(raw.cursor()) as cursor:
        result: T = run(cursor, work())
        return result


def _read_value(raw: sqlite3.Connection, scope: Scope, key: str, now: int) -> str | None:
    with closing(raw.cursor()) as cursor:
        return read_value(cursor, scope, key, now)


def _data_version(raw: sqlite3.Connection) -> int:
    return int(raw.execute("PRAGMA data_version").fetchone()[0])


class SqliteDatabase(Database):
    """Run functions on a SQLite database.

    :param target: the file, or memory.
    :param lock_timeout: seconds to wait at most for a lock.
    :param durability: "full" or "normal".
    :param clock: tells when values expire.
    """

    dialect = "sqlite"
    driver = "aiosqlite"

    def __init__(self, target: Target, *, lock_timeout: float, durability: str, clock: Clock) -> None:
        self._target = target
        self._lock_timeout = lock_timeout
        self._durability = durability
        self._clock = clock
        self._opening = threading.Lock()
        self._opened: Opened | None = None
        self._closed = False
        self.hub = WatchHub(clock, None if target.path is None else self._foreign_commits)

    def __str__(self) -> str:
        return str(self._target)

    @property
    def path(self) -> Path | None:
        """Return the file; None for memory, where no other connection can commit."""
        return self._target.path

    def run_blocking(self, function: Callable[[], Awaitable[T]]) -> T:
        """Do the work on the calling thread: no loop, no hop, no other thread to wait for."""

        async def call() -> T:
            return await function()

        return drive(call())

    # The everyday operations.

    def get(self, scope: Scope, key: str) -> Awaitable[str | None]:
        """Read the text of one key; those that are asked for meanwhile share one hop to a thread."""
        opened = self._opened
        if opened is None or inline():
            return self._get(scope, key)
        return opened.desks.get().get(scope, key, self.now)

    async def _get(self, scope: Scope, key: str) -> str | None:
        opened = self._opened or await self._open(again=False)
        if not inline():
            return await opened.desks.get().get(scope, key, self.now)
        return await opened.reader.run(opened.select, _read_value, scope, key, self.now())

    def commit(self, commit: Commit) -> Awaitable[CommitResult]:
        """Make a commit; those that come meanwhile share one hop to a thread and one transaction."""
        opened = self._opened
        if opened is None or inline():
            return self._commit(commit)
        return opened.desks.get().write(commit)

    async def _commit(self, commit: Commit) -> CommitResult:
        opened = self._opened or await self._open(again=False)
        if not inline():
            result: CommitResult = await opened.desks.get().write(commit)
            return result
        return await opened.writer.run(opened.commit, commit)

    # Everything else is a procedure.

    def now(self) -> int:
        """Tell the time."""
        return self._clock.microseconds()

    def committing(self, commit: Commit) -> Procedure[CommitResult]:
        """Give the procedure that makes a commit."""
        return commit_beside(commit, self.now)

    def is_sync_call(self) -> bool:
        """Tell whether the running code is a sync call."""
        return inline()

    async def read(self, procedure: Callable[P, Procedure[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a procedure of SELECTs."""
        opened = self._opened or await self._open(again=False)
        work: Callable[[], Procedure[T]] = partial(procedure, *args, **kwargs)
        if not inline() and args and isinstance(args[0], TaskScope | AssetScope):
            found: T = await opened.desks.get().read(args[0], Work(work))
            return found
        result: T = await opened.reader.run(opened.select, _run, work)
        return result

    async def write(self, procedure: Callable[P, Procedure[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a procedure in a transaction."""
        opened = self._opened or await self._open(again=False)
        work: Callable[[], Procedure[T]] = partial(procedure, *args, **kwargs)
        words = words_of(procedure)
        if inline():
            return await self._write(_run, work, then=partial(self.hub.tell, words))
        result: T = await opened.desks.get().write(Work(work, writes=True, words=words))
        return result

    async def _read(self, function: Callable[..., T], /, *args: Any) -> T:
        opened = self._opened or await self._open(again=False)
        result: T = await opened.reader.run(opened.select, function, *args)
        return result

    async def _write(self, function: Callable[..., T], /, *args: Any, then: Then | None = None) -> T:
        opened = self._opened or await self._open(again=False)
        result: T = await opened.writer.run(opened.change, then, function, *args)
        return result

    async def _foreign_commits(self) -> int:
        # A number that changes when another connection than the writing one commits.
        opened = self._opened or await self._open(again=False)
        result: int = await opened.writer.run(opened.select, _data_version)
        return result

    # Looking at itself.

    async def examine(self) -> AsyncIterator[Finding]:
        """Look at the file."""
        if self._target.path is not None:
            for finding in examining.examine_file(self._target.path, await self._read(examining.journal_mode)):
                yield finding

    # Garbage.

    async def count_expired(self) -> tuple[int, int]:
        """Give the time, and how many rows have expired by then."""
        now = self._clock.microseconds()
        return now, await self._read(cleanup.count_expired, now)

    async def list_expired(self, now: int) -> AsyncIterator[Sequence[ExpiredRow]]:
        """Give the rows that had expired at a time, page by page."""
        rows, after = await self._read(cleanup.list_expired, now, cleanup.START, _PAGE)
        while rows:
            yield rows
            rows, after = await self._read(cleanup.list_expired, now, after, _PAGE)

    async def delete_expired(self, now: int, batch_size: int) -> AsyncIterator[int]:
        """Delete the rows that had expired at a time, a batch for each step."""
        if not batch_size:
            yield await self._write(cleanup.delete_all, now)
            return
        deleted = batch_size
        while deleted == batch_size:
            deleted = await self._write(cleanup.delete_batch, now, batch_size)
            yield deleted

    # Sessions of the caller's, and of ours.

    def open_session(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Give a session on a connection of its own; a database in memory has only one."""
        return open_session(self._target, lock_timeout=self._lock_timeout, durability=self._durability)

    def spell(self, step: Step) -> tuple[str, Any]:
        """Give a step as the driver takes it."""
        return sqlite_sql(step.build, *step.arguments), dict(sqlite_parameters(step.parameters))

    def explain(self, error: BaseException) -> Exception | None:
        """Give the store's error for one of SQLite's."""
        if not isinstance(error, sqlite3.Error):
            return None
        try:
            with mapped(str(self)):
                raise error
        except StoreError as found:
            return found

    # Life.

    async def aopen(self) -> None:
        """Open the connections, and create the tables in a new file.

        :raises SchemaError: the file is of another release, or somebody else's.
        :raises DatabaseError: it cannot be opened.
        """
        await self._open(again=True)

    async def _open(self, *, again: bool) -> Opened:
        patience = self._patience()

        def work() -> Opened:
            with patience.hold(self._opening, "another thread of this process opens it"):
                if self._closed and not again:
                    raise StoreClosedError(f"the store on {self._target} is closed")
                if self._opened is None:
                    self._opened = Opened(
                        self._target,
                        lock_timeout=self._lock_timeout,
                        durability=self._durability,
                        clock=self._clock,
                        hub=self.hub,
                        patience=patience,
                    )
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

    async def downgrade(self, revision: str) -> tuple[str | None, str | None]:
        """Take the schema back to a revision."""
        patience = self._patience()

        def work() -> tuple[str | None, str | None]:
            if not self._target.exists():
                check_target(None, revision, patience.place)
                return None, None
            with mapped(patience.place), closing(self._connect(patience, create=False)) as raw:
                return migrate.downgrade(raw, patience, revision)

        return work() if inline() else await in_thread(work, name="asyncstore downgrade", cancelled=patience.cancel)

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
