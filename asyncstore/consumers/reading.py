"""One reader of a consumer: what it has in hand, what it took ahead, and the lease on both."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from contextlib import suppress
from datetime import timedelta

import anyio

from ..core import Core
from ..errors import LeaseLostError, StoreError
from ..scopes import AssetScope
from ..settings import ConsumerSettings
from .deciding import start_text
from .delivered import DeliveredEvent, Hand
from .records import Delivery, Member, Start, Taking

__all__ = ["Reader"]

logger = logging.getLogger("asyncstore")

#: Seconds within which what was taken should be handled: more is taken while it is less, and less once it is more.
_QUICK = 0.2
#: Seconds that giving back may take where the reader was cancelled.
_CLOSE_SECONDS = 5.0


class Reader:
    """Take events and hand them out one by one, each settled before the next; on one event loop.

    :param core: the store's core.
    :param asset: the canonical scope of the asset.
    :param name: the consumer's name.
    :param start: where a new consumer begins; None for the first event in the log.
    :param settings: leases, limits and intervals.
    """

    def __init__(
        self, core: Core, asset: AssetScope, name: str, start: Start | None, settings: ConsumerSettings
    ) -> None:
        self._core = core
        self._deliveries = core.backend.deliveries
        self._asset = asset
        self._name = name
        self._start: Start | None = start
        self._said = False
        self._settings = settings
        self._lease = timedelta(seconds=settings.lease)
        self._loop = asyncio.get_running_loop()
        self._member: Member | None = None
        self._beating: asyncio.Task[None] | None = None
        self._ahead: deque[Delivery] = deque()
        #: The event that the loop is at.
        self.hand: Hand | None = None
        self._limit = 1
        self._taken_at = 0.0
        self._handed_at = 0.0
        #: Held while events are taken or given back: what was just taken must not be given back.
        self._taking = asyncio.Lock()
        #: Something may have been taken of which nobody heard.
        self._unsure = False
        self._closed = False
        core.readers.add(self)

    def __str__(self) -> str:
        return f"consumer {self._name!r} of {self._asset}"

    async def next(self) -> DeliveredEvent:
        """Settle the event in hand, and give the next one; waits where there is none.

        :raises StoreError: the store failed; what was in hand is delivered again.
        """
        if self._closed:
            raise self._over()
        # Let go of first: what goes wrong now is the store's fault, and no failure of the event.
        hand, self.hand = self.hand, None
        if hand is not None:
            await hand.end()
            if hand.lost:  # and so may be what was taken with it: it is given back, and taken anew
                self._ahead.clear()
                self._unsure = True
        if not self._ahead:
            self._pace()
            self._ahead.extend(await self._wait())
            self._taken_at = self._loop.time()
        delivery = self._ahead.popleft()
        self.hand = Hand(self._core, delivery, self._settings)
        self._handed_at = self._loop.time()
        event = delivery.event
        return DeliveredEvent(
            id=event.id,
            asset=event.asset,
            watcher=event.watcher,
            payload=event.payload,
            key=event.key,
            created_at=event.created_at,
            attempt=delivery.attempt,
            _hand=self.hand,
        )

    def _over(self) -> StoreError:
        return StoreError(f"{self}: this reader was closed")

    def _pace(self) -> None:
        took = self._loop.time() - self._taken_at if self._taken_at else _QUICK
        if took < _QUICK / 2:
            self._limit = min(self._limit * 2, self._settings.prefetch)
        elif took > _QUICK:
            self._limit = max(self._limit // 4, 1)

    async def _wait(self) -> list[Delivery]:
        # Until there is something.
        taken = await self._take()
        if taken:
            return taken
        with self._deliveries.bell(self._asset) as bell:
            while True:
                bell.clear()  # before the look: what comes after it ends the wait
                if taken := await self._take():
                    return taken
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.poll_interval):
                        await bell.wait()

    async def _take(self) -> list[Delivery]:
        async with self._taking:
            return await self._take_now()

    async def _take_now(self) -> list[Delivery]:
        if self._closed:  # while this waited
            raise self._over()
        member = self._member
        if member is None:
            member = await self._join()
        if self._unsure:
            await self._core.call(lambda: self._deliveries.agive_back(member))
            self._unsure = False
        if not await self._deliveries.ahas_work(member):
            return []
        taking = Taking(
            self._lease, self._limit, self._settings.max_attempts, skip=self._settings.on_exhausted == "skip"
        )
        self._unsure = True
        try:
            taken = await self._deliveries.atake(member, taking)
        except LeaseLostError as error:
            logger.warning("%s joins anew: %s", self, error)
            self._leave()
            taken = []
        self._unsure = False
        return taken

    async def _join(self) -> Member:
        owner = f"{socket.gethostname()}:{os.getpid()}"
        member = await self._deliveries.ajoin(
            self._asset, self._name, start=self._begins, owner=owner, lease=self._lease
        )
        if self._closed:  # meanwhile, when there was nothing to leave yet
            await self._give_back(member)
            raise self._over()
        self._say_start(member)
        self._member = member
        self._beating = asyncio.create_task(self._beat(member), name=f"asyncstore {self}: heartbeat")
        return member

    @property
    def _begins(self) -> Start:
        return "beginning" if self._start is None else self._start

    def _say_start(self, member: Member) -> None:
        # Not where nobody said anything, nor where a program says the same each time it is run.
        asked, said, self._said = self._start, self._said, True
        if asked is not None and not said and member.start not in {None, start_text(asked)}:
            logger.warning(
                "%s goes on where it is, and not at start=%s: it began at start=%s; areplay() has it read again, and "
                "another name begins anew", self, start_text(asked), member.start,
            )  # fmt: skip

    def _leave(self) -> Member | None:
        member, self._member = self._member, None
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None
        return member

    async def _beat(self, member: Member) -> None:
        # Outlives every error of the store: the next beat may be in time.
        while True:
            await asyncio.sleep(self._settings.heartbeat)
            try:
                if not await self._deliveries.arenew(member, lease=self._lease):
                    break
                if self._ahead and self._loop.time() - self._handed_at > self._settings.heartbeat:
                    await self._share(member)
            except StoreError as error:
                logger.warning("%s: the lease was not renewed: %s", self, error)
        if self._member is member:
            logger.warning("%s: the lease ran out; what was in hand is delivered to others", self)
            self._ahead.clear()
            self._member = self._beating = None

    async def _share(self, member: Member) -> None:
        # What was taken ahead must not wait for an event that turned out slow, while other readers are idle.
        async with self._taking:
            hand = self.hand
            if hand is None or not self._ahead:
                return
            self._ahead.clear()
            self._limit = 1
            self._unsure = True
            await self._deliveries.agive_back(member, keep=[hand.event_id])
            self._unsure = False

    async def aclose(self) -> None:
        """Give back what is in hand or was taken ahead; harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        self._core.readers.discard(self)
        self._ahead.clear()
        if self._loop is not asyncio.get_running_loop():
            return  # it belongs to another loop; the lease runs out
        member = self._leave()
        if member is None:
            return
        leaving = asyncio.create_task(self._give_back(member), name=f"asyncstore {self}: leave")
        try:
            await asyncio.shield(leaving)
        except asyncio.CancelledError:
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                await asyncio.wait([leaving])
            raise

    async def _give_back(self, member: Member) -> None:
        try:
            await self._deliveries.aleave(member)
        except StoreError as error:
            logger.warning("%s: what was in hand could not be given back, and is delivered later: %s", self, error)
