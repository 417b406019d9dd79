"""Consumers of events in the metastore."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import datetime, timedelta
from typing import final

from sqlalchemy.ext.asyncio import AsyncSession

from ...consumers.abc import Deliveries
from ...consumers.deciding import tell_exhausted
from ...consumers.records import ConsumerRecord, Delivery, FailedEvent, Member, Start, Taking
from ...scopes import AssetScope
from ..watching import word_of_events
from .database import Database
from .procedures import consumers, pruning
from .session import committed, run_in_session

__all__ = ["MetastoreDeliveries"]

_MICROSECOND = timedelta(microseconds=1)


@final
class MetastoreDeliveries(Deliveries):
    """Hand out the events of the metastore, across processes.

    :param database: the database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ajoin(self, asset: AssetScope, name: str, *, start: Start, owner: str, lease: timedelta) -> Member:
        """Add a reader, and the consumer where it is new."""
        write, now = self._database.write, self._database.now
        return await write(consumers.join, asset, name, start, owner, lease // _MICROSECOND, now)

    async def ahas_work(self, member: Member) -> bool:
        """Tell whether there may be something to take, in one statement."""
        return await self._database.read(consumers.has_work, member, self._database.now)

    async def atake(self, member: Member, taking: Taking) -> list[Delivery]:
        """Take the events that are due, under the lock of the consumer."""
        lease = taking.lease // _MICROSECOND
        taken, exhausted = await self._database.write(consumers.take, member, taking, lease, self._database.now)
        tell_exhausted(member, taking, exhausted)
        return taken

    async def arenew(self, member: Member, *, lease: timedelta) -> bool:
        """Renew the lease of a reader in one statement, however much it holds."""
        return await self._database.write(consumers.renew, member, lease // _MICROSECOND, self._database.now)

    async def adone(self, delivery: Delivery) -> None:
        """Have an event done, in one statement."""
        await self._database.write(consumers.complete, delivery)

    async def afail(self, delivery: Delivery, error: str, *, delay: timedelta | None) -> None:
        """Count a failure of an event, in one statement."""
        wait = None if delay is None else delay // _MICROSECOND
        await self._database.write(consumers.fail, delivery, error, wait, self._database.now)

    async def agive_back(self, member: Member, *, keep: Sequence[int] = ()) -> None:
        """Give back what a reader holds."""
        await self._database.write(consumers.give_back, member, keep)

    async def aleave(self, member: Member) -> None:
        """Give back what a reader holds, and forget the reader."""
        await self._database.write(consumers.leave, member)

    # For operators.

    async def areplay(self, asset: AssetScope, name: str, to: int | datetime) -> int:
        """Have a consumer read again from there on."""
        return await self._database.write(consumers.replay, asset, name, to)

    async def alist_failed(
        self, asset: AssetScope, name: str, *, after: int = 0, limit: int | None = None
    ) -> list[FailedEvent]:
        """List the events that were set aside."""
        return await self._database.read(consumers.list_failed, asset, name, after, limit)

    async def aretry(self, asset: AssetScope, name: str, events: Sequence[int] | None = None) -> int:
        """Have events that were set aside delivered again."""
        return await self._database.write(consumers.retry, asset, name, events)

    async def adelete(self, asset: AssetScope, name: str) -> None:
        """Delete a consumer."""
        await self._database.write(consumers.delete, asset, name)

    async def alist(self) -> list[ConsumerRecord]:
        """List every consumer by asset and name."""
        return await self._database.read(consumers.list_consumers, self._database.now)

    async def aprune(
        self, *, older_than: timedelta | None, keep: int | None, unfinished: bool, dry_run: bool, batch_size: int
    ) -> int:
        """Delete the events that are too old or too many, one asset after the other."""
        age = None if older_than is None else older_than // _MICROSECOND
        if age is None and keep is None:
            return 0
        now = self._database.now
        total = 0
        for asset_id in await self._database.read(pruning.list_assets):
            if dry_run:
                total += await self._database.read(pruning.count, asset_id, age, keep, unfinished, now)
                continue
            limit = batch_size or None
            gone = await self._database.write(pruning.prune, asset_id, age, keep, unfinished, limit, now)
            total += gone
            while gone and gone == limit:
                gone = await self._database.write(pruning.prune, asset_id, age, keep, unfinished, limit, now)
                total += gone
        return total

    # Exactly once.

    @asynccontextmanager
    async def transaction(self, delivery: Delivery) -> AsyncGenerator[AsyncSession]:
        """Give a session whose one commit has the event done."""
        async with self._database.open_session() as session, committed(self._database, session) as confirm:
            yield session
            await session.flush()  # an error of the handler's own rows is the handler's
            await run_in_session(self._database, session, consumers.complete(delivery))
            await confirm()

    def bell(self, asset: AssetScope) -> AbstractContextManager[asyncio.Event]:
        """Give an event that is set when there may be something new."""
        return self._database.hub.listening(word_of_events(asset))
