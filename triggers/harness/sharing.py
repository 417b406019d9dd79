"""A triggerer's part of the watchers: looking around, claiming, making room."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping

from asyncstore import StoreError
from asyncstore.fleet import Fleet, Load, Peer

from .balance import divide
from .membership import Membership
from .process import is_gone
from .roster import Roster

__all__ = ["Sharing"]

logger = logging.getLogger("triggers")

#: Looks after which everything is counted anew, whether or not anything seems to have changed.
_RECOUNT = 4
#: Looks after which a free watcher is taken by whoever has room, though it is another's share.
_PATIENCE = 3

#: The members that can run a watcher.
Able = frozenset[int]


class Sharing:
    """Have a member run its share of the watchers.

    :param fleet: the backend's.
    :param roster: what the member runs.
    :param membership: its lease.
    :param owner: who it is, for people.
    """

    def __init__(self, fleet: Fleet, roster: Roster, membership: Membership, owner: str) -> None:
        self._fleet = fleet
        self._roster = roster
        self._membership = membership
        self._owner = owner
        self._attention: int | None = None
        self._peers: tuple[tuple[int, int, str, bool], ...] = ()
        self._looks = 0
        self._told = False
        self._waiting_since: dict[int, int] = {}
        self._gave_at = -_RECOUNT
        roster.ended = membership.wake

    async def listen(self) -> None:
        """Wake up when the backend tells of a change."""
        async for _ in self._fleet.changes():
            self._membership.wake()

    async def run(self) -> None:
        """Look around after each renewal of the lease; returns once every declared watcher is done."""
        renewed = self._membership.renewed
        while True:
            await renewed.wait()
            renewed.clear()
            try:
                if await self._look():
                    return
            except StoreError as error:
                logger.warning("could not look for watchers to run, tried again soon: %s", error)

    async def _look(self) -> bool:
        fleet, member = self._fleet, self._membership.member
        self._looks += 1
        if self._attention != self._membership.attention or self._looks % _RECOUNT == 0:
            self._attention = self._membership.attention
            self._roster.order(await fleet.aorders(member))
        survey = await fleet.asurvey(member)
        gone = [each.id for each in survey.peers if each.id != member.id and is_gone(each.process)]
        if gone or any(not each.remaining for each in survey.peers if each.id != member.id):
            try:
                freed = await fleet.abury(gone)
                logger.info("a triggerer is gone; %d watchers are free", freed)
                survey = await fleet.asurvey(member)
            except StoreError as error:  # what is free already must not wait for that
                logger.warning("the watchers of a triggerer that is gone are not free yet: %s", error)
        self._wake_for(survey.peers)
        free = [each for each in survey.free if each not in self._roster.running]
        if not self._roster.complete or any(each not in self._roster.known for each in free):
            if new := await self._roster.declare():
                await fleet.aextend(member, new)
                self._membership.wake()
            free = [each for each in free if each in self._roster.known]
        await self._balance([each for each in survey.peers if each.remaining], free)
        return self._roster.is_idle and self._roster.complete and not free and await self._is_finished()

    async def _is_finished(self) -> bool:
        unfinished = await self._fleet.aunfinished(self._membership.member)
        if unfinished and not self._told:
            self._told = True
            logger.warning(
                "nothing to run here: %d watchers are run by others, paused or killed; `asyncstore triggers list` "
                "tells which",
                unfinished,
            )
        return not unfinished

    def _wake_for(self, peers: tuple[Peer, ...]) -> None:
        # A lease that runs out is noticed at once.
        me = self._membership.member.id
        left = [each.remaining.total_seconds() for each in peers if each.id != me and each.remaining]
        if left:
            self._membership.wake(within=min(left) + 0.01)

    async def _balance(self, peers: list[Peer], free: list[int]) -> None:
        known = tuple((each.id, each.capacity, each.declares, each.draining) for each in peers)
        changed, self._peers = known != self._peers, known
        self._waiting_since = {each: self._waiting_since.get(each, self._looks) for each in free}
        if not free and not changed and self._looks % _RECOUNT:
            return
        active = [each for each in peers if not each.draining]
        capacities = {each.id: each.capacity for each in active}
        load = await self._fleet.aload({each.declares for each in active})
        if load.held.get(self._membership.member.id, 0) != self._roster.held:
            # The answer to a claim or a release was lost; or one of them is just on its way.
            self._roster.reconcile(await self._fleet.aheld(self._membership.member))
        able = _Able(active, load)
        shares = divide(able.counts(), capacities)
        await self._claim(free, shares.get(self._membership.member.id, {}), able, capacities)
        if self._looks - self._gave_at >= _RECOUNT or changed:
            self._give(shares, able, load)

    async def _claim(
        self, free: list[int], share: Mapping[Able, int], able: _Able, capacities: Mapping[int, int]
    ) -> None:
        me = self._membership.member.id
        mine = able.grouped(self._roster.running)
        left = {group: count - len(mine.get(group, ())) for group, count in share.items()}
        room = capacities.get(me, 0) - len(self._roster.running)
        wanted: list[int] = []
        # Each in another order, so that two do not want the same ones.
        for watcher_id in sorted(free, key=lambda each: hash((me, each))):
            group = able.of(watcher_id)
            waits = self._looks - self._waiting_since.get(watcher_id, self._looks) >= _PATIENCE
            if len(wanted) < room and (left.get(group, 0) > 0 or waits):
                left[group] = left.get(group, 0) - 1
                wanted.append(watcher_id)
        if wanted:
            self._attention = None  # something may be asked of what is claimed
            if not await self._roster.claim(self._membership.member, self._owner, wanted):
                self._membership.wake()

    def _give(self, shares: Mapping[int, Mapping[Able, int]], able: _Able, load: Load) -> None:
        me = self._membership.member.id
        share = shares.get(me, {})
        for group, running in able.grouped(self._roster.running).items():
            surplus = len(running) - share.get(group, 0)
            lacking = sum(max(sum(shares[peer].values()) - load.held.get(peer, 0), 0) for peer in group if peer != me)
            if surplus > 0 and lacking > 0:
                given = running[-min(surplus, lacking) :]  # the latest: the others are more at home
                logger.info("giving %d watchers away, for others have room", len(given))
                self._gave_at = self._looks
                self._roster.give_away(given)


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
