"""An event in the hand of a consumer."""

from __future__ import annotations

import logging
import random
import traceback
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from typing import Any

from ..blocking import drive
from ..core import Core
from ..errors import LeaseLostError, OutcomeUnknownError, StoreError
from ..records import Event
from ..settings import ConsumerSettings
from .records import Delivery

__all__ = ["DeliveredEvent", "Hand"]

logger = logging.getLogger("asyncstore")


class _State(Enum):
    OPEN = auto()
    IN_TRANSACTION = auto()
    #: A transaction ended in an error, so the event is not to be taken for done.
    UNDONE = auto()
    SETTLED = auto()


class Hand:
    """Hold one delivery, and settle it once.

    :param core: the store's core.
    :param delivery: the event and what tells its delivery from others.
    :param settings: delays and limits.
    """

    def __init__(self, core: Core, delivery: Delivery, settings: ConsumerSettings) -> None:
        self._core = core
        self._delivery = delivery
        self._settings = settings
        self._state = _State.OPEN
        self._error: BaseException | None = None
        #: Nothing more is to be done about it.
        self.settled = False

    def __str__(self) -> str:
        return f"event {self._delivery.event.id} of asset {self._delivery.event.asset!r}"

    @property
    def event_id(self) -> int:
        """Return the id of the event."""
        return self._delivery.event.id

    async def end(self) -> None:
        """Settle what the loop leaves behind: done, unless it failed."""
        if self.settled:
            return
        if self._state is _State.UNDONE and self._error is not None:
            await self.fail(self._error)
            return
        if self._state is _State.IN_TRANSACTION:
            raise StoreError(f"{self}: the block of its transaction() must end before the next event is asked for")
        await self.done()

    async def done(self) -> None:
        """Have the event done; only says so where it is in other hands by now."""
        if self.settled:
            return
        deliveries, unknown = self._core.backend.deliveries, False
        try:
            try:
                await self._core.call(lambda: deliveries.adone(self._delivery))
            except OutcomeUnknownError:
                unknown = True  # nobody else can have had it done
                await self._core.call(lambda: deliveries.adone(self._delivery))
        except LeaseLostError as error:
            if not unknown:
                logger.warning("%s was handled, and may be handled again: %s", self, error)
        self.settled = True

    async def fail(self, error: BaseException | str, delay: timedelta | None = None) -> None:
        """Count a failure, and have the event wait, be set aside or be skipped, as the settings say."""
        if self.settled:
            return
        options, attempt = self._settings, self._delivery.attempt
        exhausted = 0 < options.max_attempts <= attempt
        logger.warning(
            "%s failed at attempt %d%s", self, attempt, " and is delivered no more" if exhausted else "",
            exc_info=error if isinstance(error, BaseException) else None,
        )  # fmt: skip
        if exhausted and options.on_exhausted == "skip":
            await self.done()
            return
        text = error if isinstance(error, str) else "".join(traceback.format_exception(error))
        wait = None if exhausted else delay or self._backoff()
        deliveries = self._core.backend.deliveries
        try:
            await self._core.call(lambda: deliveries.afail(self._delivery, text, delay=wait))
        except LeaseLostError as lost:
            logger.warning("the failure of %s is not counted: %s", self, lost)
        self.settled = True

    def _backoff(self) -> timedelta:
        # With jitter, so that what failed together does not come back together.
        options = self._settings
        delay = min(options.retry_delay_max, options.retry_delay * 2.0 ** min(self._delivery.attempt - 1, 60))
        return timedelta(seconds=delay * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Any]:
        """Give a session whose commit has the event done."""
        if self.settled or self._state is _State.IN_TRANSACTION:
            what = "is settled already" if self.settled else "has one already"
            raise StoreError(f"{self} {what}; an event has one transaction, which ends it")
        context = self._core.backend.deliveries.transaction(self._delivery)
        before, self._state = self._state, _State.IN_TRANSACTION
        entered = False
        try:
            async with context as session:
                entered = True
                yield session
        except BaseException as error:
            # Not entered, nothing was begun, and the event may be handled without a transaction.
            self._state = _State.UNDONE if entered else before
            self._error = error
            raise
        self.settled = True
        self._state = _State.SETTLED


@dataclass(frozen=True, slots=True)
class DeliveredEvent(Event):
    """Hold an event in the hand of a consumer; it is done when the loop asks for the next one.

    :ivar attempt: 1 for the first delivery, and one more for each failure before.
    """

    attempt: int
    _hand: Hand = field(repr=False, compare=False)

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Give a transaction in which the handler's own writes and the end of this event are one commit.

        ::

            async with event.transaction() as session:
                await session.execute(text("INSERT INTO ..."))
                await store.asset_state[orders].aset("loaded", event.id, session=session)

        The session is an SQLAlchemy `AsyncSession` on the metastore's database. It is committed when the block ends
        well, and undone when it does not, or is cancelled; the event is then delivered again. On SQLite it holds the
        write lock from its first statement on: what the block does to the store needs `session=`.

        :return: an async context manager that gives the session.
        :raises LeaseLostError: the event is in other hands by now; nothing was committed.
        :raises UnsupportedOperationError: the backend has no database that could be shared.
        :raises OutcomeUnknownError: the connection was lost during the commit; unless that happened, the event is
            delivered again.
        """
        return self._hand.transaction()

    async def adone(self) -> None:
        """Have the event done now, and not when the loop asks for the next one; failed, where its transaction was."""
        await self._hand.end()

    def done(self) -> None:
        """Do what `adone` does, from sync code."""
        drive(self.adone())

    async def afail(self, error: BaseException | str, *, delay: timedelta | None = None) -> None:
        """Count a failure: the event is delivered again later, or after `[consumers] max_attempts` no more.

        :param error: why, kept with its traceback.
        :param delay: how long it waits; default: `[consumers] retry_delay`, doubled with each failure.
        """
        await self._hand.fail(error, delay)

    def fail(self, error: BaseException | str, *, delay: timedelta | None = None) -> None:
        """Do what `afail` does, from sync code."""
        drive(self.afail(error, delay=delay))
