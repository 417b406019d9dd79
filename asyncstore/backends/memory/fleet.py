"""Who runs which watcher, kept in memory; several triggerers of one process share it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from hashlib import sha256
from typing import final

from ...fleet import Claim, Declared, Fleet, Load, Member, Peer, Standing, Survey, TriggererRecord
from ...fleet.deciding import decide
from ...records import Lease, WatcherOrder, WatcherRecord, WatcherState
from ...registration.deciding import not_found
from ...scopes import AssetScope
from ..watching import WatchHub
from .tables import HeldMember, HeldWatcher, Tables

__all__ = ["MemoryFleet", "record_of"]

_NONE = timedelta(0)
_WORD = "fleet"


def record_of(tables: Tables, watcher: HeldWatcher) -> WatcherRecord:
    """Give what is known of a watcher."""
    now = tables.now()
    member = None if watcher.holder is None else tables.members.get(watcher.holder)
    event_id, event_at = watcher.event or (None, None)
    asset = tables.assets[watcher.asset_id]
    writer = f"watcher:{asset.registered.name}/{watcher.name}"
    wrote_at = max((entry.updated_at for entry in asset.rows.values() if entry.updated_by == writer), default=None)
    since = [each for each in (watcher.claimed_at, wrote_at, event_at) if each is not None]
    return WatcherRecord(
        asset=asset.registered.name,
        name=watcher.name,
        state=watcher.state,
        asked=watcher.asked,
        fence=watcher.fence,
        owner=watcher.owner,
        restarts=watcher.restarts,
        last_error=watcher.last_error,
        last_error_at=watcher.last_error_at,
        updated_at=watcher.updated_at,
        claimed_at=watcher.claimed_at,
        lease_age=None if member is None else max(now - member.beat_at, _NONE),
        last_event_id=event_id,
        last_event_at=event_at,
        events_per_minute=float(tables.recent(watcher)),
        without_progress=max(now - max(since), _NONE) if member is not None and since else None,
    )


@final
class MemoryFleet(Fleet):
    """Keep who runs which watcher.

    :param tables: what the backend holds.
    :param lock: held around every look at it.
    :param hub: wakes who waits.
    """

    def __init__(self, tables: Tables, lock: AbstractContextManager[object], hub: WatchHub) -> None:
        self._tables = tables
        self._lock = lock
        self._hub = hub

    async def adeclare(self, watchers: Sequence[tuple[AssetScope, str]]) -> list[Declared]:
        """Make known watchers that are not known yet."""
        with self._lock:
            found: list[Declared] = []
            for scope, name in watchers:
                if scope.asset_id is not None and scope.asset_id in self._tables.assets:
                    watcher = self._tables.add_watcher(scope.asset_id, name)
                    found.append(Declared(watcher.id, scope.asset_id, name))
            return found

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
        declares = sha256(",".join(map(str, sorted(watchers))).encode()).hexdigest()[:32]
        with self._lock:
            now = self._tables.now()
            held = next((each for each in self._tables.members.values() if each.token == token), None)
            if held is None:
                member_id = self._tables.new_id()
                held = HeldMember(member_id, owner, token, process, capacity, declares, now, now, now + lease)
                self._tables.members[member_id] = held
            held.declares, held.capacity = declares, capacity
            held.beat_at, held.lease_until = now, now + lease
            self._tables.declarations.setdefault(declares, set()).update(watchers)
            used = {each.declares for each in self._tables.members.values()}
            for kind in self._tables.declarations.keys() - used:
                del self._tables.declarations[kind]
        self._hub.told([_WORD])
        return Member(held.id, declares)

    async def aextend(self, member: Member, watchers: Collection[int]) -> None:
        """Say that the member can run more watchers than it said."""
        with self._lock:
            self._tables.declarations.setdefault(member.declares, set()).update(watchers)

    async def abeat(self, member: Member, lease: timedelta, within: float) -> bool:
        """Renew the lease."""
        with self._lock:
            held = self._tables.member(member.id)
            if held is None:
                return False
            held.beat_at = self._tables.now()
            held.lease_until = held.beat_at + lease
            return True

    async def asurvey(self, member: Member) -> Survey:
        """Look around."""
        with self._lock:
            now = self._tables.now()
            peers = tuple(
                Peer(
                    id=each.id,
                    owner=each.owner,
                    process=each.process,
                    capacity=each.capacity,
                    declares=each.declares,
                    draining=each.draining,
                    remaining=max(each.lease_until - now, _NONE),
                )
                for each in self._tables.members.values()
            )
            free = (each.id for each in self._declared(member.declares) if self._is_free(each))
            mine = (each for each in self._tables.watchers.values() if each.holder == member.id)
            orders = {each.id: each.asked for each in mine if each.asked is not None}
            return Survey(peers, tuple(sorted(free)), orders)

    def _declared(self, declares: str) -> list[HeldWatcher]:
        ids = self._tables.declarations.get(declares, set())
        return [self._tables.watchers[each] for each in ids if each in self._tables.watchers]

    @staticmethod
    def _is_free(watcher: HeldWatcher) -> bool:
        return watcher.holder is None and watcher.state is WatcherState.WAITING

    async def aload(self, declares: Collection[str]) -> Load:
        """Count what there is to divide."""
        with self._lock:
            runnable = {
                kind: frozenset(
                    each.id for each in self._declared(kind) if each.holder is not None or self._is_free(each)
                )
                for kind in set(declares)
            }
            held: dict[int, int] = {}
            for each in self._tables.watchers.values():
                if each.holder is not None:
                    held[each.holder] = held.get(each.holder, 0) + 1
            return Load(runnable, held)

    async def astanding(self, member: Member) -> Standing:
        """Count the declared watchers, and those of them that are not done."""
        with self._lock:
            declared = self._declared(member.declares)
            return Standing(len(declared), sum(each.state is not WatcherState.DONE for each in declared))

    async def abegin_anew(self, watchers: Collection[int]) -> None:
        """Have watchers run again that are done."""
        with self._lock:
            for watcher in map(self._tables.watchers.get, watchers):
                if watcher is not None and watcher.state is WatcherState.DONE:
                    watcher.state, watcher.updated_at = WatcherState.WAITING, self._tables.now()
        self._hub.told([_WORD])

    async def aclaim(self, member: Member, owner: str, watchers: Collection[int]) -> list[Claim] | None:
        """Claim watchers that are free."""
        with self._lock:
            if self._tables.member(member.id) is None:
                return None
            now = self._tables.now()
            claims: list[Claim] = []
            for each in map(self._tables.watchers.get, sorted(watchers)):
                if each is not None and self._is_free(each):
                    asked = each.asked
                    each.leave(WatcherState.RUNNING, now)
                    each.asked = asked  # to be killed by whoever has it next
                    each.holder, each.owner = member.id, owner
                    each.claimed_at = now
                if each is not None and each.holder == member.id:
                    claims.append(Claim(each.id, each.fence))
        self._hub.told([_WORD])
        return claims

    async def arelease(self, member: Member, watchers: Mapping[int, WatcherState]) -> None:
        """Give watchers back."""
        with self._lock:
            for watcher_id, state in watchers.items():
                watcher = self._tables.watchers.get(watcher_id)
                if watcher is not None and watcher.holder == member.id:
                    self._leave(watcher, state)
        self._hub.told([_WORD])

    def _leave(self, watcher: HeldWatcher, state: WatcherState) -> None:
        # As `_left` of the metastore's statements.
        asked = watcher.asked
        to_kill = asked is WatcherOrder.KILL and state is not WatcherState.KILLED
        if to_kill or asked is WatcherOrder.RESTART or (state is WatcherState.PAUSED and asked is None):
            state = WatcherState.WAITING
        elif state is WatcherState.WAITING and asked is WatcherOrder.PAUSE:
            state = WatcherState.PAUSED
        watcher.leave(state, self._tables.now())
        watcher.asked = asked if to_kill else None

    async def aheld(self, member: Member) -> list[Claim]:
        """Read which watchers the member has."""
        with self._lock:
            watchers = self._tables.watchers.values()
            return [Claim(each.id, each.fence) for each in watchers if each.holder == member.id]

    async def aholders(self, watchers: Collection[int]) -> dict[int, int]:
        """Read which of the watchers a member has, and which member that is."""
        with self._lock:
            found = ((each, self._tables.watchers.get(each)) for each in watchers)
            return {each: watcher.holder for each, watcher in found if watcher and watcher.holder is not None}

    async def arestarted(self, lease: Lease) -> None:
        """Say that a watcher was restarted, as somebody asked."""
        with self._lock:
            watcher = self._tables.watchers.get(lease.watcher_id)
            if watcher and watcher.fence == lease.fence and watcher.asked is WatcherOrder.RESTART:
                watcher.asked, watcher.restarts = None, 0
                watcher.state, watcher.updated_at = WatcherState.RUNNING, self._tables.now()

    async def adrain(self, member: Member) -> None:
        """Say that the member takes no more watchers."""
        with self._lock:
            held = self._tables.members.get(member.id)
            if held is not None:
                held.draining = True
        self._hub.told([_WORD])

    async def aleave(self, member: Member) -> None:
        """Give everything back, and be a member no more."""
        await self.abury([member.id])

    async def abury(self, gone: Collection[int] = ()) -> int:
        """Set free what members held whose lease has run out."""
        with self._lock:
            members = self._tables.members
            ids = {each for each in members if each in gone or self._tables.member(each) is None}
            for member_id in ids:
                del members[member_id]
            freed = [each for each in self._tables.watchers.values() if each.holder in ids]
            for each in freed:
                self._leave(each, WatcherState.WAITING)
        self._hub.told([_WORD])
        return len(freed)

    def changes(self) -> AsyncIterator[None]:
        """Yield when a member came or went, or gave watchers back, or somebody asked something of one."""
        return self._hub.hear(_WORD)

    async def aorder(self, asset: AssetScope, name: str, order: WatcherOrder) -> WatcherRecord:
        """Ask something of a watcher."""
        with self._lock:
            found = self._tables.find(asset).registered
            watcher = self._tables.watcher(found.id, name)
            member = None if watcher is None or watcher.holder is None else self._tables.member(watcher.holder)
            decision = decide(
                asset,
                name,
                order,
                state=None if watcher is None else watcher.state,
                asked=None if watcher is None else watcher.asked,
                held=member is not None,
            )
            if watcher is None:
                raise not_found(asset)
            if decision.state is not None:
                watcher.leave(decision.state, self._tables.now())
                if order is WatcherOrder.RESTART:
                    watcher.restarts = 0
            elif decision.changes:
                watcher.asked, watcher.updated_at = decision.asked, self._tables.now()
            record = record_of(self._tables, watcher)
        self._hub.told([_WORD])
        return record

    async def alist_members(self) -> list[TriggererRecord]:
        """List the triggerers by the time that they joined."""
        with self._lock:
            now = self._tables.now()
            watchers = self._tables.watchers.values()
            return [
                TriggererRecord(
                    id=each.id,
                    owner=each.owner,
                    capacity=each.capacity,
                    running=sum(watcher.holder == each.id for watcher in watchers),
                    draining=each.draining,
                    started_at=each.started_at,
                    lease_age=max(now - each.beat_at, _NONE),
                    lease_remaining=each.lease_until - now,
                )
                for each in self._tables.members.values()
            ]
