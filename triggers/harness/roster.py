"""Which of its watchers a triggerer runs, and giving back those that ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from contextlib import suppress

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

from .supervisor import Supervisor, Surroundings

__all__ = ["Roster"]

logger = logging.getLogger("triggers")

#: Seconds that those who end together have to be given back together.
_GATHER = 0.01
_RETRY = 0.5
#: Seconds after the drain that a cleanup may still take to be cancelled.
_GRACE = 1.0
#: Watchers that are started in one turn of the event loop.
_A_TURN = 50
#: Watchers that are claimed in one transaction.
AT_ONCE = 2_000


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
        return not self._missing

    # Declaring.

    async def declare(self) -> list[int]:
        """Register the assets and watchers that are not known yet; gives the ids of those that are new here.

        :raises StoreError: the store cannot be reached; it may be tried again.
        """
        if not self._missing:
            return []
        scopes = await self._resolve()
        found = {
            (each.asset_id, each.name): each.watcher_id
            for each in await self._fleet.adeclare([(scope, supervisor.watcher.name) for supervisor, scope in scopes])
        }
        new: list[int] = []
        for supervisor, scope in scopes:
            watcher_id = found.get((scope.asset_id or 0, supervisor.watcher.name))
            if watcher_id is not None:
                self._known[watcher_id] = supervisor, scope
                new.append(watcher_id)
        declared = {id(self._known[each][0]) for each in new}
        self._missing = [each for each in self._missing if id(each) not in declared]
        return new

    async def _resolve(self) -> list[tuple[Supervisor, AssetScope]]:
        core, missing = self._around.store.core, self._missing
        try:
            scopes = await core.resolve_all([each.asset for each in missing])
            return list(zip(missing, scopes, strict=True))
        except AssetError:
            found: list[tuple[Supervisor, AssetScope]] = []
            for each in missing:
                try:
                    found.append((each, await core.resolve_anew(each.asset)))
                except AssetError as error:
                    logger.error("%s cannot be run: %s", each, error)
            return found

    def forget(self, watcher_ids: Iterable[int]) -> None:
        """Have watchers declared anew."""
        for watcher_id in watcher_ids:
            found = self._known.pop(watcher_id, None)
            if found is not None:
                self._missing.append(found[0])

    # Running.

    async def claim(self, member: Member, owner: str, wanted: list[int]) -> bool:
        """Claim watchers, and run those that were won.

        :return: whether the lease still holds.
        """
        for start in range(0, len(wanted), AT_ONCE):
            claims = await self._fleet.aclaim(member, owner, wanted[start : start + AT_ONCE])
            if claims is None:
                return False
            for claim in claims:
                if claim.watcher_id in self._known:
                    self._expect(self._known[claim.watcher_id][0])
            for number, claim in enumerate(claims):
                self._start(claim)
                if number % _A_TURN == 0:
                    await anyio.lowlevel.checkpoint()
        return True

    @property
    def held(self) -> int:
        """Return how many watchers this triggerer should have."""
        return len(self.running) + len(self._ended)

    def reconcile(self, held: Iterable[Claim]) -> None:
        """Run what this triggerer has and does not run, and stop what it runs and has not.

        :param held: what it has, by the store.
        """
        fences = {claim.watcher_id: claim.fence for claim in held}
        for watcher_id, fence in fences.items():
            if watcher_id not in self.running and watcher_id not in self._ended:
                if watcher_id in self._known:
                    self._expect(self._known[watcher_id][0])
                    self._start(Claim(watcher_id, fence))
                else:
                    self._ended[watcher_id] = WatcherState.WAITING
                    self._change.set()
        for watcher_id, supervisor in list(self.running.items()):
            if watcher_id not in fences:
                supervisor.abandon()
        for watcher_id in [each for each in self._ended if each not in fences]:
            del self._ended[watcher_id]

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
        self._ended.pop(claim.watcher_id, None)
        self.running[claim.watcher_id] = supervisor
        self.started += 1
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
        if supervisor.vanished:
            self.forget([watcher_id])
        self._change.set()
        self.ended()

    def order(self, orders: dict[int, WatcherOrder]) -> None:
        """Pass on what people ask."""
        for watcher_id, order in orders.items():
            supervisor = self.running.get(watcher_id)
            if supervisor is not None:
                supervisor.order(order)

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
            for watcher_id, state in ended.items():
                if self._ended.get(watcher_id) is state:
                    del self._ended[watcher_id]
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

    async def stop(self, member: Member, *, lost: bool) -> None:
        """Wait for every watcher to stop, and give all back as they end; bounded by the drain.

        :param member: the member that has them.
        :param lost: its lease is lost, so there is nothing to give back.
        """
        timeout = self._around.settings.drain_timeout + _GRACE
        with CancelScope(shield=True, deadline=anyio.current_time() + timeout):
            while self.running or (self._ended and not lost):
                if tasks := [each.task for each in self.running.values() if each.task is not None]:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                await anyio.sleep(_GATHER)
                if not lost:
                    with suppress(StoreError):
                        await self._release(member)
        for supervisor in self.running.values():
            logger.error("%s does not stop, and is left behind", supervisor)
            if supervisor.task is not None:
                supervisor.task.cancel()
        if lost:
            self._ended.clear()


def _nothing() -> None:
    return
