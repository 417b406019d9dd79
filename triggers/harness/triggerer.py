"""Running the watchers of many assets in one process."""

from __future__ import annotations

import inspect
import logging
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import anyio
from anyio import CancelScope

from asyncstore import Asset, Capability, Event, Store, StoreError, UnsupportedOperationError, WatcherState

from ..errors import DiscoveryError, InvalidTriggerError
from ..streams.hub import StreamHub
from ..watcher import AssetWatcher
from .drain import Drain
from .supervisor import Supervisor

__all__ = ["Triggerer"]

logger = logging.getLogger("triggers")


class Triggerer:
    """Run the watchers of assets until they are done, or until `stop`.

    ::

        async with connect() as store:
            await Triggerer(store, [orders]).run()

    :param store: an open store.
    :param assets: the assets; each of their watchers is run.
    :param on_event: awaited after the commit of each new event, before its watcher is resumed.
    :param owner: who claims the watchers, for people; default: host and process.
    :raises DiscoveryError: no asset has a watcher.
    :raises InvalidTriggerError: a trigger cannot be run, or two watchers of one asset share a name.
    :raises UnsupportedOperationError: the backend cannot commit events together with state.
    """

    def __init__(
        self,
        store: Store,
        assets: Sequence[Asset],
        *,
        on_event: Callable[[Event], Awaitable[None]] | None = None,
        owner: str | None = None,
    ) -> None:
        backend = store.backend
        if Capability.COMMIT not in backend.capabilities:
            raise UnsupportedOperationError(
                f"{type(backend).__name__} cannot run watchers: an event and its checkpoint must be one commit, and it "
                "does not declare Capability.COMMIT"
            )
        self._store = store
        self._settings = store.settings.triggerer
        self._stop = CancelScope()
        self._drain = Drain(self._settings.drain_timeout)
        self._streams = StreamHub(self._settings, self._drain)
        self._supervisors = [
            Supervisor(
                store,
                asset,
                watcher,
                owner=owner or f"{socket.gethostname()}:{os.getpid()}",
                settings=self._settings,
                drain=self._drain,
                streams=self._streams,
                on_event=on_event,
            )
            for asset, watcher in _watchers(assets)
        ]
        for supervisor in self._supervisors:
            check = supervisor.fresh()
            if inspect.iscoroutinefunction(type(check).run):
                raise InvalidTriggerError(
                    f"{supervisor}: run() of {type(check).__qualname__} is no async generator: it holds no `yield`"
                )

    @property
    def states(self) -> dict[WatcherState | None, int]:
        """Return how many watchers are in which state; None for those not claimed yet."""
        return dict(Counter(supervisor.state for supervisor in self._supervisors))

    @property
    def lost(self) -> list[str]:
        """Return the watchers that another process claimed."""
        return [str(supervisor) for supervisor in self._supervisors if supervisor.lost]

    def stop(self) -> None:
        """Drain: finish the commit in hand of every watcher, clean up, and end `run`. From the loop's thread."""
        self._stop.cancel()

    async def run(self) -> None:
        """Run the watchers until all are done or lost, or until `stop`.

        Cancelled, it drains as well, within `[triggerer] drain_timeout`.
        """
        with self._stop:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._drain.watch, name="triggerer: drain")
                if self._settings.cleanup_interval:
                    tasks.start_soon(self._collect, name="triggerer: garbage collection")
                self._streams.start(tasks)
                for supervisor in self._supervisors:
                    supervisor.expect()
                async with anyio.create_task_group() as watchers:
                    for supervisor in self._supervisors:
                        watchers.start_soon(supervisor.supervise, name=f"triggerer: {supervisor}")
                tasks.cancel_scope.cancel()

    async def _collect(self) -> None:
        while True:
            await anyio.sleep(self._settings.cleanup_interval)
            try:
                rows = await self._store.acleanup()
                assets = await self._store.asweep_assets()
            except StoreError as error:
                logger.warning("garbage collection failed and is tried again later: %s", error)
            else:
                logger.info("garbage collection: %s task rows, %d asset rows", rows.deleted, assets.deleted)


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
    if not found:
        raise DiscoveryError('no asset has a watcher; give it one: Asset("orders", watchers=[AssetWatcher(...)])')
    return list(found.values())
