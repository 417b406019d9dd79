"""A PostgreSQL database in use.

Each event loop has a connection for batches of reads, one for batches of commits, and a pool for everything else.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any, Generic, ParamSpec, TypeVar, cast
from weakref import WeakSet

from sqlalchemy.ext.asyncio import AsyncSession

from ....blocking import in_thread
from ....changes import Commit, CommitResult, Put
from ....clock import Clock, SystemClock
from ....doctor.records import Finding
from ....errors import StoreClosedError
from ....records import ExpiredRow, StoredEntry
from ....registration.deciding import never_expires
from ....scopes import AssetScope, Scope, TaskScope
from ....settings import DatabaseSettings
from ...watching import WatchHub
from ..batching import PerLoop
from ..database import Database
from ..procedures import examining, state
from ..steps import Procedure, Step, words_of
from . import cleanup, migrate
from .errors import explain, is_driver_error
from .examining import examine_server
from .link import Link
from .listening import Listener, tokens_of
from .pool import Pool
from .procedure import committing, is_repeatable, is_single, read, spell, write
from .reading import Get, Reads
from .sessions import Sessions
from .sync import SyncCalls
from .target import Target
from .turns import Reading
from .write_lane import WriteLane
from .writing import Write

__all__ = ["PostgresqlDatabase"]

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds between two looks at what is watched: where changes are told of, and where they are not.
_LOOK_BESIDE = 5.0
_LOOK = 0.5


#: Seconds that what is urgent takes at most; half of that on one connection.
_URGENT = 5.0
#: Seconds that a close waits for what is on its way.
_PATIENCE = 2.0


class _Here:
    """What one event loop has."""

    def __init__(self, target: Target, settings: DatabaseSettings, now: Callable[[], int | None]) -> None:
        self.pool = Pool(
            target,
            size=settings.pool_size,
            lock_timeout=settings.lock_timeout,
            operation_timeout=settings.operation_timeout,
        )
        self._settings = settings
        self._urgent: Pool | None = None
        self.reads = Reads(self.pool, now)
        self.writes = WriteLane(self.pool, now)
        self.sessions = Sessions(target, settings)
        #: One for each transaction that goes on in a thread.
        self.threads = asyncio.Semaphore(settings.pool_size)
        self.listener: Listener | None = None
        self.listening: asyncio.Task[None] | None = None

    @property
    def urgent(self) -> Pool:
        """Return a pool of its own, for what must not wait behind anything."""
        if self._urgent is None:
            lock_timeout, timeout = self._settings.lock_timeout, self._settings.operation_timeout
            self._urgent = Pool(
                self.pool.target,
                size=2,
                lock_timeout=min(lock_timeout, _URGENT / 2),
                operation_timeout=min(timeout, _URGENT),
            )
        return self._urgent

    def get(self, scope: Scope, key: str, *, entry: bool) -> asyncio.Future[Any]:
        """Read one key, behind the writes of it."""
        if self.writes.comes_before(scope, key):
            read = partial(self._read, scope, key, entry, monotonic())
            return self.writes.read(Reading(scope, key, read, plain=not entry))
        return self._read(scope, key, entry, monotonic())

    def _read(self, scope: Scope, key: str, entry: bool, since: float) -> asyncio.Future[Any]:
        return self.reads.batcher.submit(Get(scope, key, entry, since))

    async def close(self) -> None:
        """Close every connection; what is on its way is answered first, if that is soon."""
        deadline = monotonic() + _PATIENCE
        try:
            while not self._idle and monotonic() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            self.stop()
            await self.sessions.close()
            await self.pool.close()
            if self._urgent is not None:
                await self._urgent.close()
        except BaseException:
            self.kill()
            raise

    @property
    def _idle(self) -> bool:
        return self.reads.batcher.idle and self.writes.idle and not self.pool.users

    def kill(self) -> None:
        """Drop every connection."""
        with suppress(RuntimeError):  # the loop may be closed, and then nothing goes on there
            self.stop()
        self.sessions.kill()
        self.pool.kill()
        if self._urgent is not None:
            self._urgent.kill()

    def stop(self) -> None:
        """Cancel what goes on beside the callers."""
        if self.listening is not None:
            self.listening.cancel()
        self.reads.close()
        self.writes.close()


_all: WeakSet[PostgresqlDatabase] = WeakSet()
#: Of the process that this one was forked from: to let go of its loops and sockets would disturb it.
_left_behind: list[object] = []


def _leave() -> None:
    _left_behind.extend(each.leave() for each in _all)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave)


class PostgresqlDatabase(Database):
    """Run the metastore's operations on PostgreSQL.

    :param settings: the section `[database]`.
    :param clock: tells when values expire; None for the server's.
    """

    dialect = "postgresql"
    driver = "asyncpg"

    def __init__(self, settings: DatabaseSettings, clock: Clock | None) -> None:
        self._target = Target.parse(settings)
        self._settings = settings
        self._clock = clock
        self._closed = False
        self._here: PerLoop[_Here] = PerLoop(self._make, _Here.kill)
        self._sync = SyncCalls(settings.pool_size, settings.operation_timeout, self._target.place, self._drop)
        self.hub = WatchHub(clock or SystemClock(), self._look, tokens_of)
        _all.add(self)

    def __str__(self) -> str:
        return self._target.place

    # Life.

    def _make(self) -> _Here:
        if self._closed:
            raise StoreClosedError(f"the store on {self} is closed")
        return _Here(self._target, self._settings, self.now)

    async def aopen(self) -> None:
        """Connect and check the schema."""
        self._closed = self._sync.closed = False
        await self._here.get().pool.run(_nothing, repeatable=True)

    async def aclose(self) -> None:
        """Close every connection, once what is on its way is answered."""
        self._closed = self._sync.closed = True
        everywhere = dict(self._here.clear())
        here = everywhere.pop(asyncio.get_running_loop(), None)
        # Loops of threads that make no call now, and loops of the user's in other threads.
        idle = [(loop, everywhere.pop(loop, None)) for loop in self._sync.take()]
        for loop, other in everywhere.items():
            if not loop.is_closed():
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(other.kill)
        try:
            if here is not None:
                await here.close()
        finally:
            if idle:
                await in_thread(partial(_end, idle), name="asyncstore close")

    def leave(self) -> object:
        """Begin anew after a fork; gives what is to be kept as it is."""
        left = self._here, self._sync.take()
        self._here = PerLoop(self._make, _Here.kill)
        self._sync.forget()
        return left

    def _drop(self, loop: asyncio.AbstractEventLoop) -> None:
        here = self._here.pop(loop)
        if here is not None:
            here.kill()

    def run_blocking(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run on an event loop of our own, on the calling thread where it runs none."""
        return self._sync.run(function)

    def is_sync_call(self) -> bool:
        """Tell whether the running code is a sync call."""
        return self._sync.owns(asyncio.get_running_loop())

    async def _migrating(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except Exception as error:
            if is_driver_error(error):
                raise explain(error, str(self)) from error
            raise

    async def upgrade(self) -> tuple[str | None, str]:
        """Bring the schema to this release's revision."""
        return await self._migrating(migrate.upgrade(self._target, self._settings.operation_timeout))

    async def downgrade(self, revision: str) -> tuple[str | None, str | None]:
        """Take the schema back to a revision."""
        return await self._migrating(migrate.downgrade(self._target, revision, self._settings.operation_timeout))

    async def revision(self) -> str | None:
        """Give the revision of the schema."""
        return await self._migrating(migrate.read_revision(self._target, self._settings.operation_timeout))

    # The everyday operations.

    def now(self) -> int | None:
        """Tell the time; None for the server's."""
        return None if self._clock is None else self._clock.microseconds()

    def get(self, scope: Scope, key: str) -> Awaitable[str | None]:
        """Read the text of one key."""
        if isinstance(scope, AssetScope) and scope.asset_id is None:
            return self.read(state.get, scope, key, self.now)
        return cast("Awaitable[str | None]", self._here.get().get(scope, key, entry=False))

    def get_entry(self, scope: Scope, key: str) -> Awaitable[StoredEntry | None]:
        """Read one key with its version and times."""
        if isinstance(scope, AssetScope) and scope.asset_id is None:
            return self.read(state.get_entry, scope, key, self.now)
        return cast("Awaitable[StoredEntry | None]", self._here.get().get(scope, key, entry=True))

    def commit(self, commit: Commit) -> Awaitable[CommitResult]:
        """Make a commit."""
        for change in commit.changes:
            if isinstance(change.scope, AssetScope):
                if change.scope.asset_id is None:
                    return self._commit_located(commit)
                if isinstance(change, Put) and change.expires_at is not None:
                    raise never_expires()
        future = self._here.get().writes.submit(Write(commit, self._settings.operation_timeout))
        if self.hub.is_watched:  # sooner than the notification
            future.add_done_callback(partial(self._tell, commit))
        return future

    def _tell(self, commit: Commit, made: asyncio.Future[CommitResult]) -> None:
        if not made.cancelled() and made.exception() is None:
            self.hub.committed(commit)

    async def _commit_located(self, commit: Commit) -> CommitResult:
        changes = [
            replace(change, scope=AssetScope(await self.read(state.require_asset, change.scope)))
            if isinstance(change.scope, AssetScope) and change.scope.asset_id is None
            else change
            for change in commit.changes
        ]
        return await self.commit(replace(commit, changes=tuple(changes)))

    # Everything else is a procedure.

    def committing(self, commit: Commit) -> Procedure[CommitResult]:
        """Give the procedure that makes a commit."""
        return committing(commit, self.now)

    async def read(self, procedure: Callable[P, Procedure[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a procedure that only reads."""

        async def work(link: Link) -> T:
            return await read(link, procedure(*args, **kwargs))

        here = self._here.get()
        scope = args[0] if args else None
        if isinstance(scope, TaskScope | AssetScope) and here.writes.comes_before(scope, None):
            start = partial(here.pool.run, work, repeatable=True, since=monotonic())
            found: T = await here.writes.read(Reading(scope, None, start, work))
            return found
        return await here.pool.run(work, repeatable=True)

    async def write(self, procedure: Callable[P, Procedure[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a procedure in a transaction."""
        make = partial(procedure, *args, **kwargs)

        async def work() -> T:
            return await self._here.get().pool.run(
                lambda link: write(link, procedure, make), repeatable=is_repeatable(procedure)
            )

        if is_single(procedure) or self.is_sync_call():
            done = await work()
        else:
            # Locks are held from one statement to the next, and the caller's loop may be blocked in between.
            async with self._here.get().threads:
                call = _Call(work)
                done = await in_thread(
                    partial(self._sync.run_apart, call.run), name="asyncstore transaction", cancelled=call.cancel
                )
        self.hub.tell(words_of(procedure))
        return done

    async def write_within(
        self, seconds: float, procedure: Callable[P, Procedure[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a procedure of one statement that nothing else may hold up."""
        make = partial(procedure, *args, **kwargs)
        return await self._here.get().urgent.run(
            lambda link: write(link, procedure, make), repeatable=True, until=monotonic() + seconds
        )

    # Watching.

    async def _look(self) -> int:
        here = self._here.get()
        loop = asyncio.get_running_loop()
        if self._target.pooled:
            return int(monotonic() / _LOOK)
        if here.listening is None or here.listening.done():
            here.listener = Listener(here.pool, self._heard, partial(self.hub.watched_on, loop))
            here.listening = loop.create_task(here.listener.run(), name="asyncstore listener")
        if here.listener is not None:
            here.listener.reconsider()
        hears = here.listener is not None and here.listener.hears
        return int(monotonic() / (_LOOK_BESIDE if hears else _LOOK))

    def _heard(self, words: frozenset[str] | None) -> None:
        if words is None:
            self.hub.changed()
        else:
            self.hub.told(words)

    # Looking at itself.

    async def examine(self) -> AsyncIterator[Finding]:
        """Look at the server."""
        facts = await self.read(examining.server_facts)
        for finding in examine_server(facts, await self.read(examining.lacking_rights)):
            yield finding

    # Garbage.

    async def count_expired(self) -> tuple[int, int]:
        """Give the time, and how many rows have expired by then."""
        return await cleanup.count_expired(self._here.get().pool, self.now())

    def list_expired(self, now: int) -> AsyncIterator[Sequence[ExpiredRow]]:
        """Give the rows that had expired at a time."""
        return cleanup.list_expired(self._here.get().pool, now)

    def delete_expired(self, now: int, batch_size: int) -> AsyncIterator[int]:
        """Delete the rows that had expired at a time."""
        return cleanup.delete_expired(self._here.get().pool, now, batch_size)

    # Sessions of the caller's, and of ours.

    def open_session(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Give a session on a connection of its own."""
        return self._here.get().sessions.open()

    def spell(self, step: Step) -> tuple[str, Any]:
        """Give a step as the driver takes it."""
        text, arguments = spell(step)
        return text, tuple(arguments)

    def explain(self, error: BaseException) -> Exception | None:
        """Give the store's error for one of the driver's, which SQLAlchemy has wrapped."""
        cause = error.__cause__ or error
        return explain(cause, f"{self}, in the session") if is_driver_error(cause) else None


class _Call(Generic[T]):
    """A coroutine on the loop of a thread, which may be cancelled from another one."""

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._cancelled = False
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None] | None = None

    async def run(self) -> T:
        """Do it, unless it was cancelled before."""
        self._running = asyncio.get_running_loop(), asyncio.current_task()
        if self._cancelled:
            raise asyncio.CancelledError
        return await self._work()

    def cancel(self) -> None:
        """Have it end; from the caller's thread."""
        self._cancelled = True
        if self._running is not None:
            loop, task = self._running
            if task is not None:
                with suppress(RuntimeError):  # it has ended meanwhile
                    loop.call_soon_threadsafe(task.cancel)


async def _nothing(_: Link) -> None:
    # A connection that could be opened has been checked.
    return None


def _end(idle: list[tuple[asyncio.AbstractEventLoop, _Here | None]]) -> None:
    for loop, here in idle:
        if here is not None:
            loop.run_until_complete(here.close())
        loop.close()
