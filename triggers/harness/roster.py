"""Which of its watchers a triggerer runs, and giving back those that ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import nullcontext, suppress

import anyio
from anyio import CancelScope

from asyncstore import (
    AssetError,
    AssetScope,
    Lease,
    StoreError,
    WatcherOrder,
    WatcherState,
)
from asyncstore.fleet import Claim, Fleet, Member

from .affinity import Affinity
from .collector import paused
from .supervisor import Supervisor
from .surroundings import Surroundings

__all__ = ["Roster"]

logger = logging.getLogger("triggers")

#: Seconds that those who end together have to be given back together.
_GATHER = 0.01
_RETRY = 0.5
#: Seconds after the drain that a cleanup may still take to be cancelled.
_GRACE = 1.0
#: Watchers that are started in one turn of the event loop.
_A_TURN = 50
#: Heartbeats until it is tried again to declare what was refused.
_REFUSED = 4
#: Watchers that are claimed in one transaction.
AT_ONCE = 1_000


class Roster:
    """Hold every supervisor of a triggerer by the id of its watcher.

    :param around: what the supervisors share.
    :param supervisors: all that there are.
    """

    def __init__(self, around: Surroundings, supervisors: Iterable[Supervisor]) -> None:
        self._around = around
        self._all = list(supervisors)
        self._known: dict[int, tuple[Supervisor, AssetScope]] = {}
        self._missing: list[Supervisor] = list(self._all)
        self._refused: list[Supervisor] = []
        self._refused_until = 0.0
        self._errors: set[str] = set()
        #: Which of them must run in one process.
        self.affinity = Affinity()
        #: Those that run here.
        self.running: dict[int, Supervisor] = {}
        #: How many were started here, ever.
        self.started = 0
        self._ended: dict[int, WatcherState] = {}
        self._change = asyncio.Event()
        around.ended = self._has_ended
        #: Called when something ended here.
        self.ended = _nothing

    @property
    def _fleet(self) -> Fleet:
        return self._around.store.backend.fleet

    @property
    def known(self) -> Collection[int]:
        """Return the ids of the watchers that can be run here."""
        return self._known.keys()

    @property
    def complete(self) -> bool:
        """Tell whether every watcher could be declared."""
        return not self._missing and not self._refused

    @property
    def lacks(self) -> bool:
        """Tell whether there is something to declare, now."""
        return bool(self._missing) or (bool(self._refused) and anyio.current_time() >= self._refused_until)

    # Declaring.

    async def declare(self) -> list[int]:
        """Register the assets and watchers that are not known yet; gives the ids of those that are new here.

        :raises StoreError: the store cannot be reached; it may be tried again.
        """
        # A copy, for what ends meanwhile adds to it.
        missing = list({id(each): each for each in (*self._missing, *self._refused)}.values())
        if not missing:
            return []
        self._refused = []
        scopes = await self._resolve(missing)
        found = {
            (each.asset_id, each.name): each.watcher_id
            for each in await self._fleet.adeclare([(scope, supervisor.watcher.name) for supervisor, scope in scopes])
        }
        new: list[int] = []
        for supervisor, scope in scopes:
            watcher_id = found.get((scope.asset_id or 0, supervisor.watcher.name))
            if watcher_id is not None:
                self._known[watcher_id] = supervisor, scope
                self.affinity.add(watcher_id, supervisor.together)
                new.append(watcher_id)
        settled = {id(self._known[each][0]) for each in new} | {id(each) for each in self._refused}
        left = {id(each): each for each in (*missing, *self._missing)}
        self._missing = [each for identity, each in left.items() if identity not in settled]
        return new

    async def _resolve(self, missing: list[Supervisor]) -> list[tuple[Supervisor, AssetScope]]:
        try:
            scopes = await self._around.store.core.resolve_all([each.asset for each in missing])
            return list(zip(missing, scopes, strict=True))
        except AssetError as error:
            if len(missing) > 1:
                # One of them, most likely: so it is found without asking for each.
                half = len(missing) // 2
                return await self._resolve(missing[:half]) + await self._resolve(missing[half:])
            self._refuse(missing[0], error)
            return []

    def _refuse(self, supervisor: Supervisor, error: AssetError) -> None:
        self._refused.append(supervisor)
        self._refused_until = anyio.current_time() + _REFUSED * self._around.settings.heartbeat_interval
        text = f"{supervisor} cannot be run: {error}"
        if text not in self._errors:
            self._errors.add(text)
            logger.error("%s", text)

    def declare_anew(self) -> None:
        """Have all that do not run here declared again: their assets may have been deleted and registered anew."""
        self.forget([each for each in self._known if not self.has(each)])

    def forget(self, watcher_ids: Iterable[int]) -> None:
        """Have watchers declared anew."""
        for watcher_id in watcher_ids:
            found = self._known.pop(watcher_id, None)
            self.affinity.discard(watcher_id)
            if found is not None:
                self._missing.append(found[0])

    # Running.

    def has(self, watcher_id: int) -> bool:
        """Tell whether a watcher runs here, or is just being given back."""
        return watcher_id in self.running or watcher_id in self._ended

    @property
    def staying(self) -> dict[int, Supervisor]:
        """Return those that run here and were not asked to stop."""
        return {watcher_id: each for watcher_id, each in self.running.items() if not each.is_stopping}

    async def claim(self, member: Member, owner: str, wanted: list[int]) -> bool:
        """Claim watchers, and run those that were won.

        :return: whether the lease still holds.
        """
        with paused() if len(wanted) >= AT_ONCE else nullcontext():
            for start in range(0, len(wanted), AT_ONCE):
                claims = await self._fleet.aclaim(member, owner, wanted[start : start + AT_ONCE])
                if claims is None:
                    return False
                await self._run(claims)
        return True

    async def claim_together(self, member: Member, owner: str, block: list[int], others: Collection[int]) -> bool:
        """Claim watchers that must run in one process, and run them unless somebody else has one of them.

        :param member: this one.
        :param owner: the same, for people.
        :param block: those that are free, in the order of their ids.
        :param others: all that belong together.
        :return: whether the lease still holds.
        """
        # Whoever has the first of them has all: everybody begins with it.
        first = await self._fleet.aclaim(member, owner, block[:1])
        rest = await self._fleet.aclaim(member, owner, block[1:]) if first and block[1:] else []
        if first is None or rest is None:
            return False
        claims = [*first, *rest]
        if set((await self._fleet.aholders(others)).values()) <= {member.id}:
            await self._run(claims)
        else:  # both began, of what each saw
            won = [claim.watcher_id for claim in claims if not self.has(claim.watcher_id)]
            self._ended.update(dict.fromkeys(won, WatcherState.WAITING))
            self._change.set()
        return True

    async def _run(self, claims: list[Claim]) -> None:
        for claim in claims:
            if claim.watcher_id in self._known:
                self._expect(self._known[claim.watcher_id][0])
        started = 0
        try:
            for claim in claims:
                self._start(claim)
                started += 1
                if started % _A_TURN == 0:
                    await anyio.lowlevel.checkpoint()
        finally:
            for claim in claims[started:]:  # it was cancelled
                if claim.watcher_id in self._known and claim.watcher_id not in self.running:
                    self._known[claim.watcher_id][0].retire()

    @property
    def held(self) -> int:
        """Return how many watchers this triggerer should have."""
        return len(self.running) + len(self._ended)

    async def reconcile(self, member: Member) -> None:
        """Run what a member has and does not run, and stop what it runs and has not.

        The answer to a claim or a release was lost; or one of them is just on its way.

        :param member: this one.
        :raises StoreError: the store cannot be reached.
        """
        before = self.running.keys() | self._ended.keys()
        fences = {claim.watcher_id: claim.fence for claim in await self._fleet.aheld(member)}
        for watcher_id, fence in fences.items():
            if watcher_id not in before and not self.has(watcher_id):
                if watcher_id in self._known:
                    self._expect(self._known[watcher_id][0])
                    self._start(Claim(watcher_id, fence))
                else:
                    self._ended[watcher_id] = WatcherState.WAITING
                    self._change.set()
        for watcher_id, supervisor in list(self.running.items()):
            if watcher_id in before and watcher_id not in fences:
                supervisor.abandon()

    def _expect(self, supervisor: Supervisor) -> None:
        try:
            supervisor.expect()
        except Exception as error:  # its attempt will raise the same, and back off
            logger.warning("%s cannot say which stream it shares", supervisor, exc_info=error)

    def _start(self, claim: Claim) -> None:
        found = self._known.get(claim.watcher_id)
        if found is None or claim.watcher_id in self.running:
            return
        supervisor, scope = found
        self.running[claim.watcher_id] = supervisor
        self.started += 1
        supervisor.prepare()
        lease = Lease(claim.watcher_id, claim.fence, scope, supervisor.watcher.name)
        # A task of asyncio's: those of a task group take half as much memory again.
        supervisor.task = asyncio.get_running_loop().create_task(
            supervisor.supervise(lease), name=f"triggerer: {supervisor}"
        )

    def _has_ended(self, supervisor: Supervisor, lease: Lease) -> None:
        watcher_id = lease.watcher_id
        self.running.pop(watcher_id, None)
        if not supervisor.lost:
            self._ended[watcher_id] = supervisor.left or WatcherState.WAITING
        if supervisor.vanished or supervisor.lost:
            self.forget([watcher_id])  # with its asset, perhaps
        self._change.set()
        self.ended()

    def order(self, orders: Mapping[int, WatcherOrder], since: float) -> None:
        """Pass on what people ask.

        :param orders: by watcher.
        :param since: when the store was asked, by `anyio.current_time()`.
        """
        for watcher_id, order in orders.items():
            supervisor = self.running.get(watcher_id)
            if supervisor is not None:
                supervisor.order(order, since)

    def give_away(self, watcher_ids: Iterable[int]) -> None:
        """Stop watchers, so that others can run them."""
        for watcher_id in watcher_ids:
            self.running[watcher_id].stop()

    # Giving back.

    async def give_back(self, member: Member) -> None:
        """Give back what ends here, for as long as nobody cancels."""
        while True:
            await self._change.wait()
            await anyio.sleep(_GATHER)
            self._change.clear()
            try:
                await self._release(member)
            except StoreError as error:
                logger.warning("watchers that ended could not be given back yet: %s", error)
                await anyio.sleep(_RETRY)
                self._change.set()

    async def _release(self, member: Member) -> None:
        ended = dict(self._ended)
        if ended:
            await self._fleet.arelease(member, ended)
            for watcher_id in ended:
                self._ended.pop(watcher_id, None)
            self.ended()

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing runs here, nor waits to be given back."""
        return not self.running and not self._ended

    def begin_to_stop(self, *, lost: bool) -> None:
        """Have every watcher stop.

        :param lost: the lease is lost, so there is nothing to give back.
        """
        for supervisor in list(self.running.values()):
            if lost:
                supervisor.abandon()
            else:
                supervisor.stop()

    async def stop(self, member: Member, is_lost: Callable[[], bool]) -> None:
        """Wait for every watcher to stop, and give all back as they end; bounded by the drain.

        :param member: the member that has them.
        :param is_lost: tells whether its lease is lost, so that there is nothing to give back.
        """
        timeout = self._around.settings.drain_timeout + _GRACE
        with CancelScope(shield=True, deadline=anyio.current_time() + timeout):
            while self.running or (self._ended and not is_lost()):
                if tasks := [each.task for each in self.running.values() if each.task is not None]:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                await anyio.sleep(_GATHER)
                if not is_lost():
                    with suppress(StoreError):
                        await self._release(member)
        for supervisor in self.running.values():
            logger.error("%s does not stop, and is left behind", supervisor)
            if supervisor.task is not None:
                supervisor.task.cancel()
        if is_lost():
            self._ended.clear()


def _nothing() -> None:
    return
