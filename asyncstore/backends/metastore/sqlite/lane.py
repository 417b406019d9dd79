"""One connection, used in place by sync code and from aiosqlite's thread by coroutines, never by two at once."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import aiosqlite

from ....blocking import inline
from ....errors import StoreBusyError, StoreClosedError
from .errors import is_busy, mapped

__all__ = ["BUSY_SLICE", "Lane"]

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds that SQLite waits for a lock by itself. The lane repeats such slices, so that a cancelled or closing
#: caller does not hold its thread for the whole lock timeout.
BUSY_SLICE = 0.1

_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


class _Thread(aiosqlite.Connection):
    """aiosqlite's thread around a connection that the lane owns."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        super().__init__(lambda: raw, iter_chunk_size=64)
        # A store that nobody closed must not keep the interpreter from ending; SQLite survives that.
        self._thread.daemon = True

    async def run(self, function: Callable[..., T], *args: object) -> T:
        # aiosqlite offers single statements only; a whole transaction in one hop is what a lane is for.
        result: T = await self._execute(function, *args)  # type: ignore[no-untyped-call]
        return result

    def retire(self) -> None:
        # Let the thread end when its queue is empty, without closing the connection. `stop` looks for an event
        # loop of the calling thread to report to; in a new thread it finds none, and none is needed.
        self._connection = None
        stopper = threading.Thread(target=self.stop, name="asyncstore lane stopper", daemon=True)
        stopper.start()
        stopper.join()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()


class _Ticket:
    """Tell the thread whether the caller still waits."""

    __slots__ = ("cancelled",)

    def __init__(self) -> None:
        self.cancelled = False


class Lane:
    """Run functions on one connection, one at a time.

    :param raw: the connection, opened with `check_same_thread=False` and `isolation_level=None`.
    :param place: the database, for messages.
    :param lock_timeout: seconds to wait at most, for the lane and for SQLite's locks together.
    """

    def __init__(self, raw: sqlite3.Connection, place: str, lock_timeout: float) -> None:
        self._raw: sqlite3.Connection | None = raw
        self._place = place
        self._lock_timeout = lock_timeout
        self._lock = threading.Lock()
        # One thread per event loop: aiosqlite reports to the loop that asked, and a thread whose loop is gone dies.
        self._threads: dict[asyncio.AbstractEventLoop, _Thread] = {}
        self._born = _forks

    async def run(self, function: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: Any) -> T:
        """Run a function on the connection: in place inside `drive`, else in the lane's thread.

        :param function: called with the connection and the arguments; repeated while SQLite is busy, so it must
            leave nothing behind when it raises.
        :raises StoreBusyError: the lane or SQLite's lock was not free within the lock timeout.
        :raises DatabaseError: SQLite reported something else.
        """
        ticket = _Ticket()
        if inline():
            return self._work(ticket, function, args)
        thread = self._threads.get(asyncio.get_running_loop())
        if thread is None:
            thread = await self._start()
        try:
            return await thread.run(self._work, ticket, function, args)
        except asyncio.CancelledError:
            # What has not begun never will; what has begun is finished by the thread, wholly or not at all.
            ticket.cancelled = True
            raise
        except ValueError as error:
            if self._raw is None:
                raise StoreClosedError(f"the store on {self._place} is closed") from error
            raise

    async def _start(self) -> _Thread:
        if self._raw is None:
            raise StoreClosedError(f"the store on {self._place} is closed")
        loop = asyncio.get_running_loop()
        for gone in [each for each in self._threads if each.is_closed()]:
            await asyncio.to_thread(self._threads.pop(gone).retire)
        thread = _Thread(self._raw)
        await thread
        first = self._threads.setdefault(loop, thread)
        if first is not thread:  # another task was faster
            await asyncio.to_thread(thread.retire)
        return first

    def _work(self, ticket: _Ticket, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        deadline = time.monotonic() + self._lock_timeout
        if self._born != _forks:
            raise StoreClosedError(
                f"the store on {self._place} was opened before a fork; connect anew in the child process"
            )
        if not self._lock.acquire(timeout=self._lock_timeout):
            raise StoreBusyError(f"{self._place}: an operation of this process holds the connection")
        try:
            while True:
                if ticket.cancelled:
                    raise asyncio.CancelledError
                raw = self._raw
                if raw is None:
                    raise StoreClosedError(f"the store on {self._place} is closed")
                with mapped(self._place):
                    try:
                        return function(raw, *args)
                    except sqlite3.OperationalError as error:
                        if not is_busy(error) or time.monotonic() >= deadline:
                            raise
        finally:
            self._lock.release()

    def close(self) -> None:
        """Wait for what has begun, then close the connection and end the threads; blocks."""
        with self._lock:
            raw, self._raw = self._raw, None
        while self._threads:
            self._threads.popitem()[1].retire()
        if raw is not None and self._born == _forks:
            raw.close()
