"""The extension point of consumers: how a backend hands out events, each to one reader at a time."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from typing import Any

from ..errors import UnsupportedOperationError
from ..scopes import AssetScope
from .records import ConsumerRecord, Delivery, FailedEvent, Member, Start, Taking

__all__ = ["Deliveries"]


class Deliveries(ABC):
    """Hand out the events of an asset to the readers of a consumer.

    A consumer is a name at an asset. Each of its events is in the hand of at most one reader; it is done, fails, or
    comes back when the reader gives it back or its lease runs out. Every operation is atomic. One that is cancelled has
    happened wholly or not at all, and the caller does not know which; for `atake` that means that `agive_back` must
    follow. Leases run by the clock of the store, never by that of the reader.
    """

    @abstractmethod
    async def ajoin(self, asset: AssetScope, name: str, *, start: Start, owner: str, lease: timedelta) -> Member:
        """Add a reader to a consumer, which begins with it where there was none of that name.

        :param asset: a registered asset.
        :param name: the consumer's name.
        :param start: where a new consumer begins; kept, and given back with every reader.
        :param owner: who reads, for people.
        :param lease: until when, from now on, what it takes is its own.
        :raises AssetNotFoundError: the asset is unknown.
        """

    @abstractmethod
    async def ahas_work(self, member: Member) -> bool:
        """Tell cheaply, without writing, whether `atake` may find something.

        :raises ConsumerNotFoundError: the consumer was deleted.
        """

    @abstractmethod
    async def atake(self, member: Member, taking: Taking) -> list[Delivery]:
        """Take the events that are due, in the order of their ids, those of readers whose lease ran out among them.

        Renews the lease. An event that may have ended the process that had it comes alone. Together with what it had
        taken that process is forgotten, and can complete none of it any more.

        :param member: the reader.
        :param taking: how many, for how long, and what becomes of those that failed too often.
        :raises LeaseLostError: the reader's own lease ran out, and it was forgotten: it must join anew.
        :raises ConsumerNotFoundError: the consumer was deleted.
        """

    @abstractmethod
    async def arenew(self, member: Member, *, lease: timedelta) -> bool:
        """Renew the lease of a reader, and with it all that it holds.

        :return: whether it was still there.
        """

    @abstractmethod
    async def adone(self, delivery: Delivery) -> None:
        """Have an event done.

        :raises LeaseLostError: the delivery does not hold any more.
        """

    @abstractmethod
    async def afail(self, delivery: Delivery, error: str, *, delay: timedelta | None) -> None:
        """Count a failure of an event.

        :param delivery: the event in hand.
        :param error: a traceback, for people.
        :param delay: how long it waits for the next attempt; None to set it aside.
        :raises LeaseLostError: the delivery does not hold any more.
        """

    @abstractmethod
    async def agive_back(self, member: Member, *, keep: Sequence[int] = ()) -> None:
        """Give back what a reader holds, as if it had not been handed out.

        :param member: the reader.
        :param keep: the ids of events that it goes on to hold.
        """

    @abstractmethod
    async def aleave(self, member: Member) -> None:
        """Give back what a reader holds, and forget the reader; harmless when repeated."""

    # For operators.

    @abstractmethod
    async def areplay(self, asset: AssetScope, name: str, to: int | datetime) -> int:
        """Have a consumer read again: every event from there on, whatever became of it; nothing is skipped.

        What its readers hold of that does not hold any more.

        :param asset: a registered asset.
        :param name: the consumer's name.
        :param to: the id of an event, or a time: the first event recorded then or later.
        :return: how many events that were handed out come again.
        :raises ConsumerNotFoundError: there is none of that name.
        """

    @abstractmethod
    async def alist_failed(
        self, asset: AssetScope, name: str, *, after: int = 0, limit: int | None = None
    ) -> list[FailedEvent]:
        """List the events that were set aside, by their ids.

        :param asset: a registered asset.
        :param name: the consumer's name.
        :param after: only events with a larger id.
        :param limit: how many at most; None for all.
        :raises ConsumerNotFoundError: there is none of that name.
        """

    @abstractmethod
    async def aretry(self, asset: AssetScope, name: str, events: Sequence[int] | None = None) -> int:
        """Have events that were set aside delivered again, as if they had never failed.

        :param asset: a registered asset.
        :param name: the consumer's name.
        :param events: their ids; None for all.
        :return: how many.
        :raises ConsumerNotFoundError: there is none of that name.
        """

    @abstractmethod
    async def adelete(self, asset: AssetScope, name: str) -> None:
        """Delete a consumer with all that is known of it; the events stay.

        :raises ConsumerNotFoundError: there is none of that name.
        """

    @abstractmethod
    async def alist(self) -> list[ConsumerRecord]:
        """List every consumer by asset and name."""

    @abstractmethod
    async def aprune(
        self, *, older_than: timedelta | None, keep: int | None, unfinished: bool, dry_run: bool, batch_size: int
    ) -> int:
        """Delete the events that are too old or too many, but for those that a consumer of their asset has not done.

        Their keys stay, so that the same event is not recorded again.

        :param older_than: the age from which an event goes; None for any age.
        :param keep: how many of each asset stay at most; None for all.
        :param unfinished: delete also what a consumer has not done.
        :param dry_run: delete nothing.
        :param batch_size: events per transaction; 0 for one statement an asset.
        :return: how many events went, or would go.
        """

    # What a backend may add.

    def transaction(self, delivery: Delivery) -> AbstractAsyncContextManager[Any]:
        """Give a transaction of the store's database that ends with the event done, or is undone.

        :param delivery: the event in hand.
        :raises UnsupportedOperationError: the backend has no database to share.
        """
        raise UnsupportedOperationError(
            f"{type(self).__name__} has no transactions to share with a handler; event.transaction() needs a metastore "
            "in a file or on PostgreSQL"
        )

    def bell(self, asset: AssetScope) -> AbstractContextManager[asyncio.Event]:
        """Give an event of asyncio that is set when there may be something new; it may as well never be.

        :param asset: the canonical scope of the asset.
        """
        return nullcontext(asyncio.Event())
