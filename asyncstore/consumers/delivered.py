"""An event in the hand of a consumer."""

from __future__ import annotations

import logging
import random
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable
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

#: Characters of a traceback that are kept, its end: what went wrong stands there.
_KEPT = 16_000
#: A wait beyond this is a mistake, and may be none that a database can add to a time.
_LONGEST = timedelta(days=36_500)


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
        #: It was done, by this hand.
        self.is_done = False
        #: It was found to be in other hands, and so may be all that was taken with it.
        self.lost = False

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
        self._check_outside()
        await self.done()

    async def done(self) -> None:
        """Have the event done; only says so where it is in other hands by now."""
        if self.settled:
            return
        deliveries = self._core.backend.deliveries
        lost = await self._settle(lambda: deliveries.adone(self._delivery))
        if lost is not None:
            logger.warning("%s was handled, and may be handled again: %s", self, lost)
        self.is_done = lost is None

    async def _settle(self, settle: Callable[[], Awaitable[None]]) -> LeaseLostError | None:
        # Gives the error where the event is in other hands.
        unknown = False
        try:
            try:
                await self._core.call(settle)
            except OutcomeUnknownError:
                unknown = True  # nobody else can have settled this delivery
                await self._core.call(settle)
        except LeaseLostError as error:
            self.lost = not unknown
            self.settled = True
            return error if self.lost else None
        self.settled = True
        return None

    async def fail(self, error: BaseException | str, delay: timedelta | None = None) -> None:
        """Count a failure, and have the event wait, be set aside or be skipped, as the settings say."""
        _check_delay(delay)
        if self.settled:
            return
        self._check_outside()
        options, attempt = self._settings, self._delivery.attempt
        exhausted = 0 < options.max_attempts <= attempt
        logger.warning(
            "%s failed at attempt %d%s", self, attempt, " and is delivered no more" if exhausted else "",
            exc_info=error if isinstance(error, BaseException) else None,
        )  # fmt: skip
        if exhausted and options.on_exhausted == "skip":
            await self.done()
            self.is_done = False
            return
        text = error if isinstance(error, str) else "".join(traceback.format_exception(error))
        wait = None if exhausted else self._backoff() if delay is None else delay
        deliveries = self._core.backend.deliveries
        lost = await self._settle(lambda: deliveries.afail(self._delivery, text[-_KEPT:], delay=wait))
        if lost is not None:
            logger.warning("the failure of %s is not counted: %s", self, lost)

    def _check_outside(self) -> None:
        if self._state is _State.IN_TRANSACTION:
            raise StoreError(f"{self}: the block of its transaction() must end before the event is settled")

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
        self.settled = self.is_done = True
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

    async def adone(self) -> bool:
        """Have the event done now, and not when the loop asks for the next one; failed, where its transaction was.

        :return: whether this reader has it done; not where it failed, or is in other hands by now.
        """
        await self._hand.end()
        return self._hand.is_done

    def done(self) -> bool:
        """Do what `adone` does, from sync code."""
        return drive(self.adone())

    async def afail(self, error: BaseException | str, *, delay: timedelta | None = None) -> None:
        """Count a failure: the event is delivered again later, or after `[consumers] max_attempts` no more.

        :param error: why; the end of its traceback is kept.
        :param delay: how long it waits, zero included; default: `[consumers] retry_delay`, doubled with each failure.
        :raises TypeError: the delay is no timedelta.
        :raises ValueError: the delay is negative, or longer than a hundred years.
        """
        await self._hand.fail(error, delay)

    def fail(self, error: BaseException | str, *, delay: timedelta | None = None) -> None:
        """Do what `afail` does, from sync code."""
        drive(self.afail(error, delay=delay))


def _check_delay(delay: object) -> None:
    if delay is None:
        return
    if not isinstance(delay, timedelta):
        raise TypeError(f"delay must be a timedelta, not {delay!r}")
    if not timedelta(0) <= delay <= _LONGEST:
        raise ValueError(f"delay must be from zero to {_LONGEST.days:,} days, not {delay}")
