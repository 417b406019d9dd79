"""Who runs which watcher, kept in the metastore."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import timedelta
from typing import final

from ...fleet import Claim, Declared, Fleet, Load, Member, Standing, Survey, TriggererRecord
from ...records import Lease, WatcherOrder, WatcherRecord, WatcherState
from ...scopes import AssetScope
from .database import Database
from .procedures import fleet

__all__ = ["MetastoreFleet"]


@final
class MetastoreFleet(Fleet):
    """Keep who runs which watcher.

    :param database: the metastore's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def adeclare(self, watchers: Sequence[tuple[AssetScope, str]]) -> list[Declared]:
        """Make known watchers that are not known yet."""
        return await self._database.write(fleet.declare, watchers, self._database.now)

    async def ajoin(
        self,
        owner: str,
        *,
        token: str,
        capacity: int,
        watchers: Collection[int],
        lease: timedelta,
        process: str | None = None,
    ) -> Member:
        """Become a member."""
        joiner = fleet.Joiner(owner, token, process, capacity)
        return await self._database.write(fleet.join, joiner, watchers, lease, self._database.now)

    async def aextend(self, member: Member, watchers: Collection[int]) -> None:
        """Say that the member can run more watchers than it said."""
        await self._database.write(fleet.extend, member, watchers)

    async def abeat(self, member: Member, lease: timedelta, within: float) -> bool:
        """Renew the lease, in one statement."""
        return await self._database.write_within(within, fleet.beat, member, lease, self._database.now)

    async def asurvey(self, member: Member) -> Survey:
        """Look around, in three statements."""
        return await self._database.read(fleet.survey, member, self._database.now)

    async def aload(self, declares: Collection[str]) -> Load:
        """Count what there is to divide."""
        return await self._database.read(fleet.load, declares)

    async def astanding(self, member: Member) -> Standing:
        """Count the declared watchers, and those of them that are not done."""
        return await self._database.read(fleet.standing, member)

    async def abegin_anew(self, watchers: Collection[int]) -> None:
        """Have watchers run again that are done."""
        await self._database.write(fleet.begin_anew, watchers, self._database.now)

    async def aclaim(self, member: Member, owner: str, watchers: Collection[int]) -> list[Claim] | None:
        """Claim watchers that are free."""
        return await self._database.write(fleet.claim, member, owner, watchers, self._database.now)

    async def arelease(self, member: Member, watchers: Mapping[int, WatcherState]) -> None:
        """Give watchers back."""
        await self._database.write(fleet.release, member, watchers, self._database.now)

    async def aheld(self, member: Member) -> list[Claim]:
        """Read which watchers the member has."""
        return await self._database.read(fleet.held, member)

    async def aholders(self, watchers: Collection[int]) -> dict[int, int]:
        """Read which of the watchers a member has, and which member that is."""
        return await self._database.read(fleet.holders, watchers)

    async def arestarted(self, lease: Lease) -> None:
        """Say that a watcher was restarted, as somebody asked."""
        await self._database.write(fleet.restarted, lease, self._database.now)

    async def adrain(self, member: Member) -> None:
        """Say that the member takes no more watchers."""
        await self._database.write(fleet.drain, member)

    async def aleave(self, member: Member) -> None:
        """Give everything back, and be a member no more."""
        await self._database.write(fleet.leave, member, self._database.now)

    async def abury(self, gone: Collection[int] = ()) -> int:
        """Set free what members held whose lease has run out."""
        return await self._database.write(fleet.bury, gone, self._database.now)

    def changes(self) -> AsyncIterator[None]:
        """Yield when a member came or went, or gave watchers back, or somebody asked something of one."""
        return self._database.hub.hear("fleet")

    async def aorder(self, asset: AssetScope, name: str, order: WatcherOrder) -> WatcherRecord:
        """Ask something of a watcher."""
        return await self._database.write(fleet.order, asset, name, order, self._database.now)

    async def alist_members(self) -> list[TriggererRecord]:
        """List the triggerers by the time that they joined."""
        return await self._database.read(fleet.list_members, self._database.now)
