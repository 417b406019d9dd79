"""A triggerer's lease: renewing it, and noticing that it is lost."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import anyio

from asyncstore import StoreError, TriggererSettings
from asyncstore.fleet import Fleet, Member

__all__ = ["Membership"]

logger = logging.getLogger("triggers")

#: Seconds between two renewals at least, whoever doubts.
_LEAST = 0.25
#: Seconds until the next attempt at one that failed.
_RETRY = 0.5


class Membership:
    """Renew a lease for as long as it can be.

    The lease runs by the database's clock. Here it counts as lost a little before that: from the moment that the last
    successful renewal was sent.

    :param fleet: the backend's.
    :param member: what `ajoin` gave.
    :param settings: the lease and the interval.
    :param joined_at: when that was sent, by `anyio.current_time()`.
    """

    def __init__(self, fleet: Fleet, member: Member, settings: TriggererSettings, joined_at: float) -> None:
        self._fleet = fleet
        self.member = member
        self._settings = settings
        self._doubted = asyncio.Event()
        self._expires_at = joined_at + settings.lease
        self._next_at = joined_at  # soon, so that what it needs for that is there
        #: How often it was renewed.
        self.count = 0

    def doubt(self) -> None:
        """Have the lease renewed at once: there is reason to think that it is lost."""
        self._next_at = anyio.current_time()
        self._doubted.set()

    async def keep(self) -> None:
        """Renew the lease again and again; returns once it is lost."""
        await self._wait(anyio.current_time())
        while True:
            started = anyio.current_time()
            if started >= self._expires_at:
                logger.error("the lease was not renewed in time, and others may have taken the watchers over")
                return
            self._next_at = started + self._settings.heartbeat_interval
            try:
                if not await self._renew(started):
                    logger.error("the lease has run out, and others may have taken the watchers over")
                    return
            except StoreError as error:
                logger.warning("the lease could not be renewed yet: %s", error)
                self._next_at = anyio.current_time() + _RETRY
            await self._wait(started)

    async def _renew(self, started: float) -> bool:
        # A third of the lease, so that there is time for another attempt.
        within = min(self._settings.lease / 3, self._expires_at - started)
        held = True
        with anyio.move_on_at(self._expires_at):
            held = await self._fleet.abeat(self.member, timedelta(seconds=self._settings.lease), within)
            if held:
                self._expires_at = started + self._settings.lease
                self.count += 1
        return held

    async def _wait(self, started: float) -> None:
        while True:
            at = min(max(self._next_at, started + _LEAST), self._expires_at)
            with anyio.move_on_at(at):
                await self._doubted.wait()
            self._doubted.clear()
            if anyio.current_time() >= at:
                return
