"""Running the watchers of many assets in one process, and sharing them with other processes."""

from __future__ import annotations

import inspect
import logging
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from uuid import uuid4

import anyio
from anyio import CancelScope

from asyncstore import (
    Asset,
    Capability,
    Event,
    OutcomeUnknownError,
    Store,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    UnsupportedOperationError,
    WatcherState,
)

from ..errors import DiscoveryError, InvalidTriggerError
from ..handlers import Handler, HandlerRunner
from ..pacing import Backoff, Drain
from ..streams.hub import StreamHub
from ..watcher import AssetWatcher
from .membership import Membership
from .process import this_process
from .roster import Roster
from .sharing import Sharing
from .supervisor import Supervisor
from .surroundings import Surroundings
from .watchdog import watch_loop

__all__ = ["Triggerer"]

logger = logging.getLogger("triggers")

#: Seconds behind the drain in which it leaves.
_GRACE = 1.0
#: What keeps a triggerer from joining only for a while.
_PASSING = (StoreBusyError, StoreFullError, StoreUnavailableError, OutcomeUnknownError)


class Triggerer:
    """Run watchers until they are done, or until `stop`.

    ::

        async with connect() as store:
            await Triggerer(store, [orders]).run()

    Triggerers on one database share the watchers: each is run by one of them, under a lease. When one dies, the others
    take its watchers over; when one joins, they make room for it.

    :param store: an open store.
    :param assets: the assets; each of their watchers may be run.
    :param handlers: functions that handle events, made by `on_event`; they are run until `stop`.
    :param on_event: awaited after the commit of each new event, before its watcher is resumed.
    :param owner: who runs the watchers, for people; default: host and process.
    :param begin_anew: run watchers that returned in an earlier run, too.
    :raises DiscoveryError: no asset has a watcher, and there is no handler.
    :raises InvalidTriggerError: a trigger cannot be run, or two watchers of one asset share a name.
    :raises InvalidHandlerError: two handlers of one asset share a name.
    :raises UnsupportedOperationError: the backend cannot commit events together with state.
    """

    def __init__(
        self,
        store: Store,
        assets: Sequence[Asset],
        *,
        handlers: Sequence[Handler] = (),
        on_event: Callable[[Event], Awaitable[None]] | None = None,
        owner: str | None = None,
        begin_anew: bool = False,
    ) -> None:
        backend = store.backend
        if Capability.COMMIT not in backend.capabilities:
            raise UnsupportedOperationError(
                f"{type(backend).__name__} cannot run watchers: an event and its checkpoint must be one commit, and it "
                "does not declare Capability.COMMIT"
            )
        self._store = store
        self._settings = store.settings.triggerer
        self._owner = owner or f"{socket.gethostname()}:{os.getpid()}"
        self._begin_anew = begin_anew
        self._former: int | None = None
        self._stop = CancelScope()
        self._handlers = HandlerRunner(store, handlers)
        self._handles = bool(handlers)
        self._drain = Drain(self._settings.drain_timeout)
        self._streams = StreamHub(self._settings, self._drain)
        self._around = Surroundings(store, self._settings, self._drain, self._streams, on_event)
        self._supervisors = [Supervisor(self._around, asset, watcher) for asset, watcher in _watchers(assets)]
        if not self._supervisors and not handlers:
            raise DiscoveryError('no asset has a watcher; give it one: Asset("orders", watchers=[AssetWatcher(...)])')
        self._roster = Roster(self._around, self._supervisors)
        for supervisor in self._supervisors:
            check = supervisor.fresh()
            if inspect.iscoroutinefunction(type(check).run):
                raise InvalidTriggerError(
                    f"{supervisor}: run() of {type(check).__qualname__} is no async generator: it holds no `yield`"
                )
            if inspect.isgeneratorfunction(type(check).run):
                raise InvalidTriggerError(
                    f"{supervisor}: run() of {type(check).__qualname__} is no async generator: write `async def`"
                )

    @property
    def states(self) -> dict[WatcherState | None, int]:
        """Return how many watchers are in which state; None for those that do not run here."""
        return dict(Counter(supervisor.state for supervisor in self._supervisors))

    def stop(self) -> None:
        """Drain: finish the commit in hand of every watcher, clean up, and end `run`. From the loop's thread."""
        self._stop.cancel()

    async def run(self) -> None:
        """Run the watchers until all of them are done, here and elsewhere; with handlers, or if need be, until `stop`.

        Cancelled, it drains as well, within `[triggerer] drain_timeout`.
        """
        with self._stop, watch_loop(self._settings.block_warning):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._drain.watch, name="triggerer: drain")
                self._streams.start(tasks)
                self._around.reports.start(tasks)
                if self._settings.cleanup_interval:
                    tasks.start_soon(self._collect, name="triggerer: garbage collection")
                tasks.start_soon(self._handlers.run, name="triggerer: handlers")
                if self._supervisors:
                    await self._watch()
                if self._handles:
                    await anyio.sleep_forever()
                tasks.cancel_scope.cancel()

    async def _watch(self) -> None:
        while not await self._be_member(await self._join()):
            logger.info("joining anew")
        if not self._roster.started:
            logger.warning("every watcher is done already; `asyncstore triggers restart` runs one again")

    async def _join(self) -> Membership:
        backoff = Backoff(self._settings.restart_delay, self._settings.lease)
        fleet, lease = self._store.backend.fleet, timedelta(seconds=self._settings.lease)
        token = uuid4().hex
        while True:
            try:
                if self._former is not None:
                    await fleet.abury([self._former])
                await self._roster.declare()
                if self._begin_anew:
                    await fleet.abegin_anew(self._roster.known)
                    self._begin_anew = False
                joined_at = anyio.current_time()
                with self._drain.shield():  # who is stopped meanwhile has a place to leave
                    member = await fleet.ajoin(
                        self._owner,
                        token=token,
                        capacity=self._settings.capacity,
                        watchers=self._roster.known,
                        lease=lease,
                        process=this_process(),
                    )
                self._former = member.id
                return Membership(fleet, member, self._settings, joined_at)
            except StoreError as error:
                if not isinstance(error, _PASSING):
                    raise
                delay = backoff.next()
                logger.warning("the store cannot be joined, tried again in %.1f s: %s", delay, error)
                await anyio.sleep(delay)

    async def _be_member(self, membership: Membership) -> bool:
        """Run watchers until all are done (True), or the lease is lost (False)."""
        self._around.suspect = membership.doubt
        sharing = Sharing(
            self._store.backend.fleet,
            self._roster,
            membership,
            self._owner,
            self._settings,
            ends=not self._handles,
        )
        done = lost = False
        working = CancelScope()

        async def keep(scope: CancelScope) -> None:
            # Also while the watchers stop, for nobody else may run them yet.
            nonlocal lost
            with scope:
                await membership.keep()
                lost = True
                self._roster.begin_to_stop(lost=True)
                working.cancel()

        async with anyio.create_task_group() as keeping:
            lease = CancelScope(shield=True)
            keeping.start_soon(keep, lease, name="triggerer: lease")
            try:
                with working:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(sharing.listen, name="triggerer: changes")
                        tasks.start_soon(self._roster.give_back, membership.member, name="triggerer: giving back")
                        await sharing.run()
                        done = True
                        tasks.cancel_scope.cancel()
            finally:
                try:
                    await self._leave(membership, is_lost=lambda: lost)
                finally:
                    lease.cancel()
        return done

    async def _leave(self, membership: Membership, *, is_lost: Callable[[], bool]) -> None:
        fleet, member = self._store.backend.fleet, membership.member
        self._roster.begin_to_stop(lost=is_lost())
        if not is_lost():
            # The watchers stop meanwhile, and need most of the time.
            with self._drain.shield(self._settings.drain_timeout / 4):
                await _quietly(fleet.adrain(member))
        await self._roster.stop(member, is_lost)
        if not is_lost():
            # Also where the watchers took all of the time.
            with anyio.move_on_after(_GRACE, shield=True):
                await _quietly(fleet.aleave(member))

    async def _collect(self) -> None:
        while True:
            await anyio.sleep(self._settings.cleanup_interval)
            try:
                rows = await self._store.acleanup()
                assets = await self._store.asweep_assets()
                await self._store.aprune_events()
            except StoreError as error:
                logger.warning("garbage collection failed and is tried again later: %s", error)
            else:
                logger.info("garbage collection: %s task rows, %d asset rows", rows.deleted, assets.deleted)


async def _quietly(work: Awaitable[None]) -> None:
    try:
        await work
    except StoreError as error:
        logger.warning("the other triggerers could not be told: %s", error)


def _watchers(assets: Sequence[Asset]) -> list[tuple[Asset, AssetWatcher]]:
    found: dict[tuple[str, str], tuple[Asset, AssetWatcher]] = {}
    for asset in assets:
        for watcher in asset.watchers:
            if not isinstance(watcher, AssetWatcher):
                raise InvalidTriggerError(f"asset {asset.name!r}: a watcher is an AssetWatcher, not {watcher!r}")
            place = (asset.name, watcher.name)
            if place in found and found[place][1] is not watcher:
                raise InvalidTriggerError(
                    f"two watchers of asset {asset.name!r} are named {watcher.name!r}; a name is an identity"
                )
            found[place] = (asset, watcher)
    return list(found.values())
