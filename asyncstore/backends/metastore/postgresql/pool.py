"""The connections of one event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import uniform
from time import monotonic
from typing import TypeVar

import asyncpg

from ....errors import OutcomeUnknownError, StoreBusyError, StoreClosedError, StoreError
from .errors import Fate, NotConnected, explain, fate, is_driver_error, is_spoilt
from .link import Link
from .target import Target

__all__ = ["Pool"]

T = TypeVar("T")

_LOG = logging.getLogger(__name__)

#: Seconds before the first new attempt; doubled each time, up to the second.
_PAUSE = 0.02
_LONGEST_PAUSE = 0.5
#: Seconds for which the server may be away without a word in the log, and from one word to the next.
_SILENT = 2.0
_SELDOM = 30.0


class Pool:
    """Hold connections that nobody uses, and open more.

    asyncpg's own pool resets each connection with a round trip when it comes back. Nothing here leaves anything behind
    on a connection, so there is nothing to reset.

    :param target: the database.
    :param size: connections at most that `run` uses at a time.
    :param lock_timeout: seconds that a statement waits for a lock.
    :param operation_timeout: seconds that an operation may take, every attempt included.
    """

    def __init__(self, target: Target, *, size: int, lock_timeout: float, operation_timeout: float) -> None:
        self.target = target
        self.operation_timeout = operation_timeout
        self.size = size
        self.lock_timeout = lock_timeout
        self._idle: list[Link] = []
        self._all: set[Link] = set()
        self._free = asyncio.Semaphore(size)
        #: Operations that wait for a connection or have one.
        self.users = 0
        self._opening: set[asyncio.Future[Link]] = set()
        self._closed = False
        self._told = float("-inf")

    async def open(self, deadline: float, *, lock_timeout: float | None = None, draws: bool = False) -> Link:
        """Open a connection that the caller keeps; one attempt.

        :param deadline: until when, by `time.monotonic()`.
        :param lock_timeout: seconds that its statements wait for a lock; None for the pool's.
        :param draws: find out which versions were drawn, too.
        """
        self._check()
        opening = asyncio.ensure_future(
            Link.open(
                self.target,
                lock_timeout=self.lock_timeout if lock_timeout is None else lock_timeout,
                # The server may fall silent just now: so that there is time for another attempt.
                timeout=max((deadline - monotonic()) / 2, 0.01),
                draws=draws,
            )
        )
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)
        slow = asyncio.get_running_loop().call_later(_SILENT, self._tell, "does not answer", deadline)
        try:
            # Not cut short: asyncpg would leave the error of a handshake that nobody waits for any more.
            link = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_kill)
            raise
        except Exception as error:
            if is_driver_error(error):
                raise NotConnected(error) from error
            raise
        finally:
            slow.cancel()
        if self._closed:
            link.kill()
            self._check()
        self._all.add(link)
        return link

    def _check(self) -> None:
        if self._closed:
            raise StoreClosedError(f"the store on {self.target.place} is closed")

    def _tell(self, what: str, deadline: float) -> None:
        now = monotonic()
        if now - self._told > _SELDOM:
            self._told = now
            _LOG.warning("%s %s; trying for %.0f s more", self.target.place, what, max(deadline - now, 0.0))

    def drop(self, link: Link) -> None:
        """Forget a connection that is broken."""
        self._all.discard(link)
        link.kill()

    async def run(
        self,
        operation: Callable[[Link], Awaitable[T]],
        *,
        repeatable: bool,
        since: float | None = None,
        until: float | None = None,
    ) -> T:
        """Run an operation on a connection, again and again while it surely did not run, until the time is over.

        :param operation: what to do; it may raise errors of the driver's.
        :param repeatable: it may be done again even where nobody knows whether it was done.
        :param since: when it was asked for, by `time.monotonic()`; None for now.
        :param until: when it is given up, where that is sooner than by the operation timeout.
        :raises DatabaseError: it could not be done in time, or never can be.
        """
        deadline = (monotonic() if since is None else since) + self.operation_timeout
        if until is not None:
            deadline = min(deadline, until)
        self.users += 1
        try:
            return await self._run(operation, deadline, repeatable=repeatable)
        finally:
            self.users -= 1

    async def _run(self, operation: Callable[[Link], Awaitable[T]], deadline: float, *, repeatable: bool) -> T:
        try:
            async with asyncio.timeout(max(deadline - monotonic(), 0.0)):
                await self._free.acquire()
        except TimeoutError:
            raise StoreBusyError(
                f"{self.target.place}: every connection was in use for {self.operation_timeout:g} s; raise "
                "`[database] pool_size`"
            ) from None
        try:
            # A connection may be dead without a word: so that there is time for another one.
            patience = self.operation_timeout / 2 if repeatable else self.operation_timeout
            return await self.patiently(
                lambda: self._once(operation, min(monotonic() + patience, deadline)), deadline, repeatable=repeatable
            )
        finally:
            self._free.release()

    async def lend(self) -> Link:
        """Give a connection that the caller keeps for as long as it needs, and then drops.

        :raises DatabaseError: none could be opened in time.
        """
        deadline = monotonic() + self.operation_timeout
        return await self.patiently(lambda: self.open(deadline), deadline, repeatable=True)

    async def _once(self, operation: Callable[[Link], Awaitable[T]], deadline: float) -> T:
        link: Link | None = None
        while self._idle and (link is None or link.closed):
            link = self._idle.pop()
        if link is None or link.closed:
            link = await self.open(deadline)
        whole = False
        # asyncpg answers a timeout of its own by asking the server to cancel, and waits for that.
        alarm = asyncio.get_running_loop().call_later(max(deadline - monotonic(), 0.01), self._silent, link)
        try:
            result = await operation(link)
            whole = True
            return result
        except (asyncpg.PostgresError, StoreError) as error:
            whole = not is_spoilt(error) and not link.closed and not link.raw.is_in_transaction()
            if link.silent:
                raise link.why(error) from error
            raise
        finally:
            alarm.cancel()
            if whole and not link.closed and not self._closed:
                self._idle.append(link)
            else:
                self.drop(link)

    def _silent(self, link: Link) -> None:
        # Nothing came in time. The other connections are to the same server, and the next attempt needs a new one.
        link.give_up()
        idle, self._idle = self._idle, []
        for each in idle:
            self.drop(each)

    async def patiently(self, attempt: Callable[[], Awaitable[T]], deadline: float, *, repeatable: bool) -> T:
        """Make attempts until one succeeds, fails for good, or the time is over.

        :param attempt: may raise errors of the driver's.
        :param deadline: until when, by `time.monotonic()`.
        :param repeatable: an attempt may be repeated even where nobody knows what became of it.
        """
        pause = _PAUSE
        began = monotonic()
        while True:
            try:
                return await attempt()
            except Exception as error:
                if not is_driver_error(error):
                    raise
                found = fate(error)
                again = found in {Fate.NOT_RUN, Fate.COLLIDED, Fate.CANCELLED} or (found is Fate.LOST and repeatable)
                if not again and found is Fate.LOST:
                    raise OutcomeUnknownError(
                        f"{self.target.place}: the connection was lost before the answer came ({error}); the write "
                        "happened wholly or not at all. Read again and decide anew"
                    ) from error
                if not again or monotonic() + pause >= deadline:
                    raise explain(error, self.target.place) from error
                if found in {Fate.NOT_RUN, Fate.LOST} and monotonic() - began > _SILENT:
                    self._tell(f"cannot be used now ({str(error) or type(error).__name__})", deadline)
            self._check()
            await asyncio.sleep(uniform(pause / 2, pause))  # noqa: S311 - jitter
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def close(self) -> None:
        """Close every connection; those in use are dropped."""
        self._closed = True
        if self._opening:
            await asyncio.wait(self._opening, timeout=1.0)
        idle, self._idle = self._idle, []
        for link in self._all.difference(idle):
            link.kill()
        await asyncio.gather(*(link.close(1.0) for link in idle))
        self._all.clear()

    def kill(self) -> None:
        """Drop every connection, those too that are about to be there."""
        self._closed = True
        for opening in self._opening:
            opening.add_done_callback(_kill)
        for link in self._all:
            link.kill()
        self._all.clear()


def _kill(opened: asyncio.Future[Link]) -> None:
    if not opened.cancelled() and opened.exception() is None:
        opened.result().kill()
