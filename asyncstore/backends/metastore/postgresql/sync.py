"""Sync calls: an event loop that runs on the calling thread for as long as the call takes."""

from __future__ import annotations

import asyncio
import threading
from asyncio import _get_running_loop  # pyright: ignore[reportPrivateUsage]  # documented; avoids an exception
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakSet

from ....blocking import outside, warn_if_on_loop
from ....errors import StoreBusyError

__all__ = ["SyncCalls"]

T = TypeVar("T")

#: Seconds that what goes on beside an interrupted call gets to end.
_SECONDS = 1.0


class SyncCalls:
    """Run coroutines from threads, each on an event loop that nobody else runs meanwhile.

    A loop keeps its connections from call to call. There are as many as threads have called at the same moment.

    :param size: how many at most.
    :param patience: seconds that a call waits for one of them.
    :param place: the database, for messages.
    :param drop: called with a loop that was interrupted in the middle of a call, before it is closed.
    """

    def __init__(
        self, size: int, patience: float, place: str, drop: Callable[[asyncio.AbstractEventLoop], None]
    ) -> None:
        self._drop = drop
        self._size = size
        self._patience = patience
        self._place = place
        self._idle: list[asyncio.AbstractEventLoop] = []
        self._free = threading.Semaphore(size)
        self._all: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
        #: No loop is kept any more.
        self.closed = False

    def run(self, function: Callable[[], Awaitable[T]]) -> T:
        """Await a coroutine and block until it is done.

        :raises StoreBusyError: every loop was in use for too long.
        """
        warn_if_on_loop()
        if _get_running_loop() is not None:
            return self._elsewhere(function)
        return self._here(function)

    def run_apart(self, function: Callable[[], Awaitable[T]]) -> T:
        """Do the same for a caller who sees himself how many there are at a time, and waits for nobody here."""
        return self._on_a_loop(function)

    def _here(self, function: Callable[[], Awaitable[T]]) -> T:
        if not self._free.acquire(timeout=self._patience):
            raise StoreBusyError(
                f"{self._place}: {self._size} threads make sync calls already; raise `[database] pool_size`"
            )
        try:
            return self._on_a_loop(function)
        finally:
            self._free.release()

    def _on_a_loop(self, function: Callable[[], Awaitable[T]]) -> T:
        loop: asyncio.AbstractEventLoop | None = None
        try:
            with suppress(IndexError):
                loop = self._idle.pop()
            if loop is None:
                loop = asyncio.new_event_loop()
                self._all.add(loop)

            async def call() -> T:
                return await function()

            with outside():
                result = loop.run_until_complete(call())
        except BaseException as error:
            if loop is not None and not isinstance(error, Exception):  # an interrupt, somewhere in the middle
                self._drop(loop)
                _finish(loop)
                loop.close()
            elif loop is not None:
                self._keep(loop)
            raise
        else:
            self._keep(loop)
            return result

    def _keep(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.closed:
            loop.close()
        else:
            self._idle.append(loop)

    def _elsewhere(self, function: Callable[[], Awaitable[T]]) -> T:
        # No second loop can run on this thread.
        outcome: list[T] = []
        failure: list[BaseException] = []

        def work() -> None:
            try:
                outcome.append(self._here(function))
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=work, name="asyncstore sync call", daemon=True)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return outcome[0]

    def owns(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Tell whether a loop is one of ours, and so runs nothing but a call."""
        return loop in self._all

    def forget(self) -> None:
        """Leave the loops to the process that this one was forked from; theirs are its sockets."""
        self._idle, self._free = [], threading.Semaphore(self._size)

    def take(self) -> list[asyncio.AbstractEventLoop]:
        """Take the loops that nobody runs, to end what is on them."""
        taken, self._idle = self._idle, []
        return taken


def _finish(loop: asyncio.AbstractEventLoop) -> None:
    # A connection that is just being opened would be left without a word.
    async def end(tasks: set[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_SECONDS)
        await asyncio.sleep(0)  # the sockets of connections that were dropped are closed in the next turn

    with outside():
        loop.run_until_complete(end(asyncio.all_tasks(loop)))
