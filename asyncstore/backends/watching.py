"""Who waits for which key, and who wakes them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

from ..changes import Clear, Commit
from ..clock import Clock, to_microseconds
from ..records import StoredEntry

__all__ = ["WatchHub"]

#: Seconds between two looks for other processes' commits and for values that expired: one look per backend and
#: event loop, however many keys are watched.
INTERVAL = 0.1


class _Waiter:
    __slots__ = ("event", "expires_at", "key", "loop")

    def __init__(self, key: str) -> None:
        self.key = key
        self.loop = asyncio.get_running_loop()
        self.event = asyncio.Event()
        self.expires_at: int | None = None

    def wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # its loop is closed, and so nobody waits
            self.loop.call_soon_threadsafe(self.event.set)


class WatchHub:
    """Let `awatch` iterators of one backend wait together.

    :param clock: tells when values expire.
    :param foreign: gives a number that changes when another process commits; None where no other process can.
    """

    def __init__(self, clock: Clock, foreign: Callable[[], Awaitable[int]] | None = None) -> None:
        self._clock = clock
        self._foreign = foreign
        self._lock = threading.Lock()
        self._waiters: set[_Waiter] = set()
        self._pollers: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}

    def committed(self, commit: Commit) -> None:
        """Wake those who watch a key of a commit; from any thread, after it is visible."""
        if not self._waiters:
            return
        keys = {change.key for change in commit.changes if not isinstance(change, Clear)}
        everything = any(isinstance(change, Clear) for change in commit.changes)
        self._wake(None if everything else keys)

    def changed(self) -> None:
        """Wake everybody; from any thread."""
        self._wake(None)

    def _wake(self, keys: set[str] | None) -> None:
        with self._lock:
            waiters = [waiter for waiter in self._waiters if keys is None or waiter.key in keys]
        for waiter in waiters:
            waiter.wake()

    async def follow(self, key: str, read: Callable[[], Awaitable[StoredEntry | None]]) -> AsyncIterator[str | None]:
        """Yield the text now, and after every change that the reader keeps up with; never miss the last one.

        :param key: the key.
        :param read: reads it.
        """
        waiter = _Waiter(key)
        self._add(waiter)
        try:
            last = -1
            while True:
                # Cleared before the read: a change after the read wakes the next round.
                waiter.event.clear()
                entry = await read()
                version = 0 if entry is None else entry.version
                if version != last:
                    last = version
                    yield None if entry is None else entry.text
                    continue
                expiry = None if entry is None else entry.expires_at
                waiter.expires_at = None if expiry is None else to_microseconds(expiry)
                await waiter.event.wait()
        finally:
            self._remove(waiter)

    def _add(self, waiter: _Waiter) -> None:
        with self._lock:
            self._waiters.add(waiter)
            poller = self._pollers.get(waiter.loop)
            if poller is None or poller.done():
                task = waiter.loop.create_task(self._poll(waiter.loop), name="asyncstore watch poller")
                self._pollers[waiter.loop] = task

    def _remove(self, waiter: _Waiter) -> None:
        with self._lock:
            self._waiters.discard(waiter)
            if not any(each.loop is waiter.loop for each in self._waiters):
                poller = self._pollers.pop(waiter.loop, None)
                if poller is not None:
                    with contextlib.suppress(RuntimeError):
                        poller.cancel()

    async def _poll(self, loop: asyncio.AbstractEventLoop) -> None:
        seen = None
        while True:
            # The poller must outlive an error: those it wakes read for themselves, and raise it to their readers.
            try:
                current = None if self._foreign is None else await self._foreign()
            except Exception:
                current, seen = None, -1
            now = self._clock.microseconds()
            with self._lock:
                waiters = [waiter for waiter in self._waiters if waiter.loop is loop]
            for waiter in waiters:
                if current != seen or (waiter.expires_at is not None and waiter.expires_at <= now):
                    waiter.event.set()
            seen = current
            await asyncio.sleep(INTERVAL)
