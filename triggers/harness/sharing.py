"""A triggerer's part of the watchers: looking around, claiming, making room."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping

import anyio

from asyncstore import StoreError, TriggererSettings
from asyncstore.fleet import Fleet, Load, Peer, Standing, Survey

from .balance import divide
from .membership import Membership
from .process import is_gone
from .roster import Roster

__all__ = ["Sharing"]

logger = logging.getLogger("triggers")

#: Seconds between two looks at least, whatever wakes the triggerer.
_LEAST = 0.25
#: Heartbeats after which everything is counted anew, whether or not anything seems to have changed.
_RECOUNT = 4
#: Heartbeats after which a free watcher is taken by whoever has room, though it is another's share; and between two
#: times that watchers are given away while the members stay the same.
_PATIENCE = 2

#: The members that can run a watcher.
Able = frozenset[int]
#: How many of which each member should run.
Shares = Mapping[int, Mapping[Able, int]]


class Sharing:
    """Have a member run its share of the watchers.

    Nothing is written while nothing changes, so that two that share a file do not wake each other.

    :param fleet: the backend's.
    :param roster: what the member runs.
    :param membership: its lease.
    :param owner: who it is, for people.
    :param settings: how often to look.
    :param ends: `run` returns once every declared watcher is done.
    """

    def __init__(
        self,
        fleet: Fleet,
        roster: Roster,
        membership: Membership,
        owner: str,
        settings: TriggererSettings,
        *,
        ends: bool = True,
    ) -> None:
        self._fleet = fleet
        self._roster = roster
        self._membership = membership
        self._owner = owner
        self._interval = settings.heartbeat_interval
        self._capacity = settings.capacity
        self._ends = ends
        self._woken = asyncio.Event()
        self._next_at = 0.0
        self._peers: tuple[tuple[int, int, str, bool], ...] = ()
        self._idle_since: float | None = None
        self._told = False
        self._strange: frozenset[int] = frozenset()
        self._free_since: dict[int, float] = {}
        self._recount_at = 0.0
        self._gave_at = float("-inf")
        #: Members that take nothing, and how many watchers they had when that was seen.
        self._unwilling: dict[int, int] = {}
        roster.ended = self.wake

    def wake(self, within: float = 0.0) -> None:
        """Look around sooner than the interval says.

        :param within: seconds.
        """
        self._next_at = min(self._next_at, anyio.current_time() + within)
        self._woken.set()

    async def listen(self) -> None:
        """Wake up when the backend tells of a change."""
        async for _ in self._fleet.changes():
            self.wake()

    async def run(self) -> None:
        """Look around again and again; returns once every declared watcher is done."""
        while True:
            started = anyio.current_time()
            self._next_at = started + self._interval
            try:
                if await self._look():
                    return
            except StoreError as error:
                self._recount_at = 0.0  # a claim may have been made whose answer was lost
                logger.warning("could not look for watchers to run, tried again soon: %s", error)
            await self._wait(started)

    async def _wait(self, started: float) -> None:
        while True:
            at = max(self._next_at, started + _LEAST)
            with anyio.CancelScope(deadline=at):
                await self._woken.wait()
            self._woken.clear()
            if anyio.current_time() >= at:
                return

    async def _look(self) -> bool:
        survey = await self._survey()
        free = await self._runnable(survey)
        await self._balance([each for each in survey.peers if each.remaining], free)
        if not self._roster.is_idle or not self._roster.complete or free:
            self._idle_since = None
            return False
        return self._ends and await self._is_finished()

    async def _survey(self) -> Survey:
        fleet, member = self._fleet, self._membership.member
        since = anyio.current_time()
        survey = await fleet.asurvey(member)
        self._roster.order(survey.orders, since)
        others = [each for each in survey.peers if each.id != member.id]
        if len(others) == len(survey.peers):
            self._membership.doubt()
        gone = [each.id for each in others if is_gone(each.process)]
        if gone or any(not each.remaining for each in others):
            try:
                freed = await fleet.abury(gone)
                logger.info("a triggerer is gone; watchers that are free: %d", freed)
                survey = await fleet.asurvey(member)
            except StoreError as error:  # what is free already must not wait for that
                logger.warning("the watchers of a triggerer that is gone are not free yet: %s", error)
        left = [each.remaining.total_seconds() for each in survey.peers if each.id != member.id and each.remaining]
        if left:  # a lease that runs out is noticed at once
            self.wake(within=min(left) + 0.01)
        return survey

    async def _runnable(self, survey: Survey) -> list[int]:
        # What is being given back is free only when that is answered.
        roster = self._roster
        free = [each for each in survey.free if not roster.has(each)]
        unknown = {each for each in free if each not in roster.known}
        if unknown - self._strange:
            # Another one that declares the same found an asset registered anew.
            roster.declare_anew()
        if roster.lacks:
            if new := await roster.declare():
                await self._fleet.aextend(self._membership.member, new)
                self.wake()
            self._strange = frozenset(each for each in unknown if each not in roster.known)
        return [each for each in free if each in roster.known]

    async def _is_finished(self) -> bool:
        standing = await self._fleet.astanding(self._membership.member)
        if self._check(standing):
            return False
        now, unfinished = anyio.current_time(), standing.unfinished
        self._idle_since = self._idle_since or now
        if unfinished and not self._told and now - self._idle_since >= _PATIENCE * self._interval:
            self._told = True
            logger.warning(
                "nothing to run here: %d watchers are run by others, paused or killed; `asyncstore triggers list` "
                "tells which",
                unfinished,
            )
        return not unfinished

    def _check(self, standing: Standing) -> bool:
        # An asset that was deleted took the declarations with it.
        gone = standing.declared < len(self._roster.known)
        if gone:
            self._roster.declare_anew()
            self.wake()
        return gone

    async def _balance(self, peers: list[Peer], free: list[int]) -> None:
        now, me = anyio.current_time(), self._membership.member
        known = tuple((each.id, each.capacity, each.declares, each.draining) for each in peers)
        changed = known != self._peers
        self._free_since = {each: self._free_since.get(each, now) for each in free}
        is_full = len(self._roster.running) >= self._capacity
        counts_anew = changed or now >= self._recount_at
        if (not free or is_full) and not counts_anew:
            return
        if changed:
            self._unwilling.clear()
        active = [each for each in peers if not each.draining]
        capacities = {each.id: each.capacity for each in active}
        load = await self._fleet.aload({each.declares for each in active})
        if counts_anew:
            await self._roster.reconcile(me)
            if self._check(await self._fleet.astanding(me)):
                return  # what belongs together is known again when it is declared
        able = _Able(active, load)
        shares = divide(able.counts(), capacities, await self._together(free, able, capacities))
        claimed = await self._claim(free, shares, able, load)
        if changed or now - self._gave_at >= _PATIENCE * self._interval:
            self._give(shares, able, load, spare=len(free) - claimed)
        self._peers = known
        if counts_anew:  # not for what is free: something may be, and nobody can take it, for long
            self._recount_at = now + _RECOUNT * self._interval

    async def _together(
        self, free: list[int], able: _Able, capacities: Mapping[int, int]
    ) -> dict[int, dict[Able, int]]:
        """Say who runs those that must run in one process: who has one of them, or else who has least to do."""
        affinity = self._roster.affinity
        fixed: dict[int, dict[Able, int]] = {member: {} for member in capacities}
        if not affinity:
            return fixed
        holders = await self._fleet.aholders(list(affinity))
        for block, _ in affinity.groups({*holders, *free}):
            group, size = able.of(block[0]), len(block)
            has_some = {holders[each] for each in block if each in holders}
            candidates = (has_some or group) & capacities.keys() or group & capacities.keys()

            def load_with(member: int, size: int = size) -> tuple[float, int]:
                return (sum(fixed[member].values()) + size) / capacities[member], member

            if candidates:
                member = min(candidates, key=load_with)
                fixed[member][group] = fixed[member].get(group, 0) + size
        return fixed

    async def _claim(self, free: list[int], shares: Shares, able: _Able, load: Load) -> int:
        me, roster = self._membership.member, self._roster
        mine = able.grouped(roster.running)
        left = {group: count - len(mine.get(group, ())) for group, count in shares.get(me.id, {}).items()}
        room = self._capacity - len(roster.running)
        wanted: list[int] = []
        # Each in another order, so that two do not want the same ones.
        for watcher_id in sorted(free, key=lambda each: hash((me.id, each))):
            if watcher_id not in roster.affinity and len(wanted) < room:
                group = able.of(watcher_id)
                if self._is_wanted([watcher_id], group, left, shares, load):
                    left[group] = left.get(group, 0) - 1
                    wanted.append(watcher_id)
        before = len(roster.running)
        holds = not wanted or await roster.claim(me, self._owner, wanted)
        for block, together in roster.affinity.groups(free) if holds else ():
            group = able.of(block[0])
            if len(roster.running) + len(block) > self._capacity:
                continue
            if set((await self._fleet.aholders(together)).values()) - {me.id}:
                continue  # another one has a part
            if self._is_wanted(block, group, left, shares, load):
                left[group] = left.get(group, 0) - len(block)
                holds = holds and await roster.claim_together(me, self._owner, block, together)
        claimed = len(roster.running) - before
        if not holds:
            self._membership.doubt()
        if claimed:
            self.wake()  # something may be asked of what is claimed
            logger.info("watchers run here: %d, and %d before", len(roster.running), before)
        return claimed

    def _is_wanted(
        self, watcher_ids: list[int], group: Able, left: Mapping[Able, int], shares: Shares, load: Load
    ) -> bool:
        if left.get(group, 0) > 0:
            return True
        since = anyio.current_time() - _PATIENCE * self._interval
        is_left_alone = all(self._free_since[each] <= since for each in watcher_ids)
        if is_left_alone:
            # Those whose share it is do not take it, though they are there. They are given nothing more until they do.
            lacks = self._lacking(shares, load)
            self._unwilling.update({peer: load.held.get(peer, 0) for peer in group if lacks.get(peer)})
        return is_left_alone

    def _lacking(self, shares: Shares, load: Load) -> dict[int, int]:
        me = self._membership.member.id
        return {
            peer: max(sum(share.values()) - load.held.get(peer, 0), 0) for peer, share in shares.items() if peer != me
        }

    def _give(self, shares: Shares, able: _Able, load: Load, *, spare: int) -> None:
        mine, staying = shares.get(self._membership.member.id, {}), self._roster.staying
        lacks = {
            peer: lack
            for peer, lack in self._lacking(shares, load).items()
            if load.held.get(peer, 0) > self._unwilling.get(peer, -1)
        }
        _take(lacks, lacks, spare + len(self._roster.running) - len(staying))
        for group, running in able.grouped(staying).items():
            given = self._roster.affinity.latest(running, _take(lacks, group, len(running) - mine.get(group, 0)))
            if given:
                logger.info("others have room; watchers given away: %d", len(given))
                self._gave_at = anyio.current_time()
                self._roster.give_away(given)


def _take(lacks: dict[int, int], members: Iterable[int], count: int) -> int:
    # Of what members lack, as much as there is.
    taken = 0
    for member in list(members):
        part = max(min(lacks.get(member, 0), count - taken), 0)
        if part:
            lacks[member] -= part
            taken += part
    return taken


class _Able:
    """Tell which members can run a watcher."""

    def __init__(self, members: list[Peer], load: Load) -> None:
        self._runnable = load.runnable
        declaring: defaultdict[str, set[int]] = defaultdict(set)
        for each in members:
            declaring[each.declares].add(each.id)
        self._declaring = declaring
        self._everybody = frozenset(each.id for each in members)
        self._sets = {kind: ids for kind, ids in load.runnable.items() if isinstance(ids, frozenset)}

    def of(self, watcher_id: int) -> Able:
        """Give the members that can run a watcher."""
        if len(self._declaring) == 1:
            return self._everybody
        return frozenset(
            member
            for kind, members in self._declaring.items()
            if watcher_id in self._sets.get(kind, ())
            for member in members
        )

    def counts(self) -> list[tuple[Able, int]]:
        """Count the watchers by who can run them."""
        if len(self._declaring) == 1:
            (runnable,) = self._runnable.values()
            return [(self._everybody, runnable if isinstance(runnable, int) else len(runnable))]
        counts: defaultdict[Able, int] = defaultdict(int)
        for watcher_id in frozenset[int]().union(*self._sets.values()):
            counts[self.of(watcher_id)] += 1
        return list(counts.items())

    def grouped(self, watcher_ids: Mapping[int, object]) -> dict[Able, list[int]]:
        """Sort watchers by who can run them."""
        groups: defaultdict[Able, list[int]] = defaultdict(list)
        for watcher_id in watcher_ids:
            groups[self.of(watcher_id)].append(watcher_id)
        return groups
