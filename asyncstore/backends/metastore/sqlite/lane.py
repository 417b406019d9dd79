"""One connection, used in place by sync code and from aiosqlite's thread by coroutines, never by two at once."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import aiosqlite
from aiosqlite.core import (
    _STOP_RUNNING_SENTINEL,  # pyright: ignore[reportPrivateUsage]  # `stop` needs the loop of the calling thread
)

from ....blocking import deliver, inline
from ....errors import StoreBusyError, StoreClosedError
from .errors import is_busy, mapped

__all__ = ["BUSY_SLICE", "Lane", "Ticket", "Waiting"]

T = TypeVar("T")

#: Seconds that SQLite waits for a lock by itself. The lane repeats such slices, so that a cancelled or closing
#: caller does not hold its thread for the whole lock timeout, nor one that comes to its turn when its time is over.
BUSY_SLICE = 0.01

_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


def _closed(place: str) -> StoreClosedError:
    return StoreClosedError(f"the store on {place} is closed")


class _Errand:
    """A call that a thread makes once. aiosqlite's thread holds on to the last one while it waits for the next."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[], object]) -> None:
        self.function = function

    def __call__(self) -> None:
        function = self.function
        del self.function
        function()


class _Connection(aiosqlite.Connection):
    """aiosqlite's connection and thread around a connection that the lane owns.

    A whole function runs in one hop, where aiosqlite has one for every statement. And the thread serves every event
    loop: aiosqlite's own way of reporting a result ends the thread where the loop is closed meanwhile.
    """

    def __init__(self, raw: sqlite3.Connection, place: str, name: str) -> None:
        super().__init__(lambda: raw, iter_chunk_size=64)
        self._place = place
        self._gate = threading.Lock()
        # A store that nobody closed must not keep the interpreter from ending; SQLite survives that.
        self._thread.daemon = True
        self._thread.name = name
        self._thread.start()

    def submit(self, function: Callable[[], object]) -> None:
        """Call a function, which must not raise, in the thread and behind those that came before.

        :raises StoreClosedError: the thread was told to end.
        """
        with self._gate:  # nothing may queue behind the end
            if not self._running:
                raise _closed(self._place)
            self._put(_Errand(function))

    def retire(self) -> None:
        """Let the thread end when it has answered everybody."""
        with self._gate:
            if self._running:
                self._running = False
                self._put(lambda: _STOP_RUNNING_SENTINEL)

    def _put(self, function: Callable[[], object]) -> None:
        self._tx.put_nowait((None, function))  # pyright: ignore[reportUnknownMemberType]

    def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread is not threading.current_thread():
            self._thread.join()


class Waiting(ABC):
    """Speak for those who wait for a piece of work."""

    @property
    @abstractmethod
    def deadline(self) -> float:
        """Return until when the first of them waits, by `time.monotonic`."""

    @abstractmethod
    def check(self) -> None:
        """Raise `CancelledError` where nobody waits any more; called before each attempt."""

    @abstractmethod
    def refuse(self, error: Exception) -> None:
        """Raise an error where the time of all of them is over; called where a lock was not free."""


class Ticket(Waiting):
    """Speak for one caller.

    :param lock_timeout: seconds that it waits at most.
    """

    __slots__ = ("_deadline", "cancelled")

    def __init__(self, lock_timeout: float) -> None:
        self.cancelled = False
        self._deadline = time.monotonic() + lock_timeout

    @property
    def deadline(self) -> float:
        """Return until when it waits."""
        return self._deadline

    def check(self) -> None:
        """Raise where the caller was cancelled."""
        if self.cancelled:
            raise asyncio.CancelledError

    def refuse(self, error: Exception) -> None:
        """Raise an error where the time is over."""
        if time.monotonic() >= self._deadline:
            raise error


class Lane:
    """Run functions on one connection, one at a time.

    :param raw: the connection, opened with `check_same_thread=False` and `isolation_level=None`.
    :param place: the database, for messages.
    :param lock_timeout: seconds to wait at most, for the lane and for SQLite's locks together.
    :param name: of the thread.
    """

    def __init__(self, raw: sqlite3.Connection, place: str, lock_timeout: float, *, name: str) -> None:
        self._raw: sqlite3.Connection | None = raw
        self._place = place
        self.lock_timeout = lock_timeout
        self._name = name
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._closing = False
        self._connection: _Connection | None = None
        self._born = _forks
        self._abandoned = weakref.finalize(self, _abandon, raw, self._lock, _forks)

    async def run(self, function: Callable[..., T], /, *args: Any) -> T:
        """Run a function on the connection: in place inside `drive`, else in the lane's thread.

        Where the caller is cancelled, what has not begun never will; what has begun is finished by the thread,
        wholly or not at all.

        :param function: called with the connection and the arguments; repeated while SQLite is busy, so it must
            leave nothing behind when it raises.
        :raises StoreBusyError: the lane or SQLite's lock was not free within the lock timeout.
        :raises StoreClosedError: the lane is closed, or belongs to the process that this one was forked from.
        :raises DatabaseError: SQLite reported something else.
        """
        ticket = Ticket(self.lock_timeout)
        if inline():
            return self.work(ticket, function, *args)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.send(partial(deliver, future, partial(self.work, ticket, function, *args)))
        try:
            return await future
        except asyncio.CancelledError:
            ticket.cancelled = True
            raise
        finally:
            del future  # its error refers to this frame

    def send(self, function: Callable[[], object]) -> None:
        """Have the lane's thread call a function, which must not raise, behind those that came before.

        :raises StoreClosedError: the lane is closed, or belongs to the process that this one was forked from.
        """
        connection = self._connection if self._born == _forks else None
        (connection or self._start()).submit(function)

    @property
    def is_foreign(self) -> bool:
        """Tell whether this process was forked from the lane's."""
        return self._born != _forks

    def _start(self) -> _Connection:
        self._check_fork()
        with self._starting:
            if self._raw is None or self._closing:
                raise _closed(self._place)
            if self._connection is None:
                try:
                    self._connection = _Connection(self._raw, self._place, self._name)
                except RuntimeError as error:
                    raise StoreBusyError(f"{self._place}: no thread can be started for it ({error})") from error
                weakref.finalize(self, _retire, self._connection, self._born)
            return self._connection

    def _check_fork(self) -> None:
        if self._born != _forks:
            raise StoreClosedError(
                f"the store on {self._place} was opened before a fork; connect anew in the child process"
            )

    def work(self, waiting: Waiting, function: Callable[..., T], /, *args: Any) -> T:
        """Run a function on the connection, in the calling thread.

        :param waiting: who waits for it.
        :param function: as with `run`.
        :raises CancelledError: nobody waits any more; nothing was done.
        """
        self._check_fork()
        held = False
        try:
            # Who waited for the whole time in the queue still gets one slice: the queue is no lock.
            while not (held := self._lock.acquire(timeout=max(waiting.deadline - time.monotonic(), BUSY_SLICE))):
                waiting.refuse(StoreBusyError(f"{self._place}: an operation of this process holds the connection"))
            with mapped(self._place):
                return self._patiently(waiting, function, args)
        finally:
            if held:
                self._lock.release()

    def _patiently(self, waiting: Waiting, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        while True:
            waiting.check()
            if self._raw is None or self._closing:
                raise _closed(self._place)
            try:
                return function(self._raw, *args)
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
                waiting.refuse(error)

    def close(self) -> None:
        """Wait for the function that runs, refuse those that wait, end the thread and close the connection; blocks."""
        self._abandoned.detach()
        if self._born != _forks:
            # The connection is the parent's. To close it here could take the parent's locks away.
            _left_behind.append(self._raw)
            self._raw = None
            return
        self._closing = True
        with self._starting:
            connection, self._connection = self._connection, None
        with self._lock:
            raw, self._raw = self._raw, None
        if connection is not None:
            connection.retire()
            connection.join()
        if raw is not None:
            raw.close()


_left_behind: list[sqlite3.Connection | None] = []


def _retire(connection: _Connection, born: int) -> None:
    if born == _forks:
        connection.retire()


def _abandon(raw: sqlite3.Connection, lock: threading.Lock, born: int) -> None:
    # Nobody closed the lane, and it is garbage, or the interpreter ends. Who holds the lock is inside SQLite, in a
    # thread that ends with the interpreter; the lock is never given back, so that nobody gets in.
    if born == _forks and lock.acquire(timeout=0.1):
        raw.close()
