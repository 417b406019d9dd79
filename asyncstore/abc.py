"""The extension point of asyncstore: what a backend must do, and what it may declare it can do.

A custom backend overrides four coroutines and gets the rest: validation, encoding and expiry live above it. What
it can do beyond them it declares in `capabilities`, so that a caller can ask before it calls.

Cancellation, for every coroutine here: the operation has happened wholly or not at all, and the caller does not
know which; the backend stays usable.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from enum import Flag, auto
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

import anyio

from .blocking import run_on_portal
from .browsing.abc import Browsing
from .changes import Commit, CommitResult
from .clock import SystemClock
from .consumers.abc import Deliveries
from .errors import UnsupportedOperationError
from .fleet.abc import Fleet
from .offload.abc import Leftovers
from .offload.hooks import WorkerHooks
from .records import (
    AssetRecord,
    CleanupReport,
    Event,
    Lease,
    OnBatch,
    StoredEntry,
    SweepReport,
    WatcherRecord,
    WatcherState,
)
from .registration import carried
from .scopes import Asset, AssetScope, Scope

__all__ = ["BaseStoreBackend", "Capability", "poll"]

T = TypeVar("T")


async def poll(read: Callable[[], Awaitable[T]], interval: float) -> AsyncIterator[T]:
    """Yield what is read now, and then each time that it differs from the last.

    :param read: reads.
    :param interval: seconds between two reads.
    """
    last = await read()
    yield last
    while True:
        await anyio.sleep(interval)
        now = await read()
        if now != last:
            last = now
            yield now


class Capability(Flag):
    """Name what a backend can do beyond the four operations."""

    NONE = 0
    #: `expires_at` is honoured on read. Without it the expiry is kept beside the value, in the stored text.
    EXPIRY = auto()
    #: `aget_entry`: versions and times.
    ENTRIES = auto()
    #: `aget_many` in one step, as of one moment. Without it the keys are read one after the other.
    MANY = auto()
    #: `alist_keys`, with paging.
    LISTING = auto()
    #: `acommit`, `fleet`, `aclaim_watcher`, `areport_watcher`, `alist_watchers`, `alist_events`. Includes
    #: `if_version`, and so needs `EXPIRY`.
    COMMIT = auto()
    #: `awatch` that is told of changes; needs `EXPIRY`. Without it the key is read again and again.
    WATCHING = auto()
    #: `aregister_asset` and the other operations on assets. Without it, registrations are kept as asset state.
    ASSETS = auto()
    #: `acleanup` and `adelete_run`.
    CLEANUP = auto()
    #: `deliveries`: durable consumers of events; needs `COMMIT`.
    CONSUMERS = auto()
    #: `leftovers`: the references of worker-side backends that rows no longer hold.
    LEFTOVERS = auto()
    #: `browsing`: what is there, page by page.
    BROWSING = auto()


class BaseStoreBackend(WorkerHooks, ABC):
    """Keep JSON text under a key of a scope; a worker-side backend keeps values, by the four hooks of `WorkerHooks`.

    Subclasses override `aget`, `aset`, `adelete` and `aclear`. The sync shims `get`, `set`, `delete` and `clear`
    come with them: they await the coroutine on a private event loop in a thread, and may be overridden where the
    backend has a direct way. A coroutine may thus run on two loops: the caller's and the private one.

    A store passes a canonical `AssetScope` per asset, so that its `name` alone tells assets apart.
    """

    #: What this backend can do beyond the four operations.
    capabilities: ClassVar[Capability] = Capability.NONE
    #: Seconds that a sync shim may wait on a thread that runs an event loop.
    lock_timeout: float = 5.0
    #: Seconds between two looks of an `awatch` that is not told of changes.
    watch_interval: float = 0.5

    @abstractmethod
    async def aget(self, scope: Scope, key: str, *, session: Any = None) -> str | None:
        """Read one key.

        :param scope: what the key belongs to.
        :param key: the key.
        :param session: a transaction of the caller's to take part in; ignored by backends without SQL.
        :return: the JSON text, or None where the key is absent or expired.
        :raises AssetNotFoundError: the asset is unknown (backends with `Capability.ASSETS`).
        :raises AssetInactiveError: the asset is deactivated (backends with `Capability.ASSETS`).
        """

    @abstractmethod
    async def aset(
        self, scope: Scope, key: str, value: str, *, expires_at: datetime | None = None, session: Any = None
    ) -> None:
        """Write or overwrite one key; a reader sees the old value or the new one.

        :param scope: what the key belongs to.
        :param key: the key.
        :param value: JSON text.
        :param expires_at: an aware datetime from which the key is absent; None for never.
        :param session: a transaction of the caller's to take part in; ignored by backends without SQL.
        :raises AssetNotFoundError: as for `aget`, and so for `AssetInactiveError`.
        """

    @abstractmethod
    async def adelete(self, scope: Scope, key: str, *, session: Any = None) -> None:
        """Remove one key; nothing happens where it is absent.

        :param scope: what the key belongs to.
        :param key: the key.
        :param session: a transaction of the caller's to take part in; ignored by backends without SQL.
        :raises AssetNotFoundError: as for `aget`, and so for `AssetInactiveError`.
        """

    @abstractmethod
    async def aclear(self, scope: Scope, *, all_map_indices: bool = False, session: Any = None) -> None:
        """Remove every key of the scope.

        :param scope: what the keys belong to.
        :param all_map_indices: of a task, every mapped instance and the unmapped one.
        :param session: a transaction of the caller's to take part in; ignored by backends without SQL.
        :raises AssetNotFoundError: as for `aget`, and so for `AssetInactiveError`.
        """

    # The sync shims.

    def get(self, scope: Scope, key: str, *, session: Any = None) -> str | None:
        """Do what `aget` does, from sync code."""
        return self.run_blocking(lambda: self.aget(scope, key, session=session))

    def set(
        self, scope: Scope, key: str, value: str, *, expires_at: datetime | None = None, session: Any = None
    ) -> None:
        """Do what `aset` does, from sync code."""
        self.run_blocking(lambda: self.aset(scope, key, value, expires_at=expires_at, session=session))

    def delete(self, scope: Scope, key: str, *, session: Any = None) -> None:
        """Do what `adelete` does, from sync code."""
        self.run_blocking(lambda: self.adelete(scope, key, session=session))

    def clear(self, scope: Scope, *, all_map_indices: bool = False, session: Any = None) -> None:
        """Do what `aclear` does, from sync code."""
        self.run_blocking(lambda: self.aclear(scope, all_map_indices=all_map_indices, session=session))

    def run_blocking(self, function: Callable[[], Awaitable[T]]) -> T:
        """Await one of this backend's coroutines from sync code, on any thread.

        :param function: gives the awaitable; called where it is awaited.
        :return: what the coroutine returns.
        :raises StoreBusyError: on a thread that runs an event loop, after `lock_timeout`.
        """

        async def call() -> T:
            return await function()

        return run_on_portal(call, lock_timeout=self.lock_timeout)

    # Life.

    async def aopen(self) -> None:
        """Make ready, so that errors show early. Optional, and harmless when repeated."""

    async def aclose(self) -> None:
        """Let go of every resource. Harmless when repeated; a closed backend may be opened again."""

    async def __aenter__(self) -> Self:
        await self.aopen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        self.run_blocking(self.aopen)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run_blocking(self.aclose)

    # What a backend may declare. The defaults are right for every backend, or say what is missing.

    def _lacks(self, capability: Capability, what: str) -> UnsupportedOperationError:
        return UnsupportedOperationError(
            f"{type(self).__name__} cannot {what}: it does not declare Capability.{capability.name}"
        )

    async def aget_entry(self, scope: Scope, key: str, *, session: Any = None) -> StoredEntry | None:
        """Read one key with its version and times (`Capability.ENTRIES`).

        :param scope: what the key belongs to.
        :param key: the key.
        :param session: as for `aget`.
        :return: the entry, or None where the key is absent or expired.
        """
        raise self._lacks(Capability.ENTRIES, "tell versions")

    async def aget_many(self, scope: Scope, keys: Sequence[str], *, session: Any = None) -> dict[str, str]:
        """Read several keys; as of one moment with `Capability.MANY`.

        :param scope: what the keys belong to.
        :param keys: the keys.
        :param session: as for `aget`.
        :return: the JSON texts by key; absent and expired keys are left out.
        """
        found: dict[str, str] = {}
        for key in keys:
            text = await self.aget(scope, key, session=session)
            if text is not None:
                found[key] = text
        return found

    async def alist_keys(
        self,
        scope: Scope,
        prefix: str = "",
        *,
        after: str | None = None,
        limit: int | None = None,
        session: Any = None,
    ) -> list[str]:
        """List keys in the order of their code points (`Capability.LISTING`).

        :param scope: what the keys belong to.
        :param prefix: what they begin with, taken literally.
        :param after: only keys behind this one, to go on with the next page.
        :param limit: how many at most; None for all.
        :param session: as for `aget`.
        """
        raise self._lacks(Capability.LISTING, "list keys")

    async def acommit(self, commit: Commit, *, session: Any = None) -> CommitResult:
        """Make every change and record every event of a commit, or nothing (`Capability.COMMIT`).

        The lease is checked inside the transaction that writes. Commits that are made at the same time may share a
        transaction of the database; each has its own outcome.

        :param commit: the commit.
        :param session: as for `aset`.
        :raises LeaseLostError: the watcher was claimed since.
        :raises VersionConflictError: an `if_version` did not match.
        :raises OutcomeUnknownError: the connection was lost, and nobody can tell whether it was made.
        :raises AssetNotFoundError: as for `aget`, and so for `AssetInactiveError`.
        """
        raise self._lacks(Capability.COMMIT, "commit changes and events together")

    def awatch(self, scope: Scope, key: str) -> AsyncIterator[str | None]:
        """Follow one key: the text now, then every later one that the reader keeps up with; never misses the last.

        None stands for absent, expired and deleted. With `Capability.WATCHING` every overwrite counts, else only
        one that changes the text.
        """
        return poll(lambda: self.aget(scope, key), self.watch_interval)

    async def aregister_asset(self, asset: Asset) -> AssetScope:
        """Find or register an asset.

        A name that was given alone takes the first URI that is given with it, and the other way round.

        :return: its canonical scope.
        :raises AssetConflictError: the name has another URI, or the URI is under another name.
        """
        return await carried.register(self.aget, self.aset, asset, SystemClock().microseconds())

    async def aregister_assets(self, assets: Sequence[Asset]) -> list[AssetScope]:
        """Do what `aregister_asset` does for many, in fewer steps where there is a way; in the order given.

        :raises AssetConflictError: as for one; those before it are registered.
        """
        return [await self.aregister_asset(asset) for asset in assets]

    async def aget_asset(self, scope: AssetScope) -> AssetRecord:
        """Read a registration.

        :raises AssetNotFoundError: nothing is registered there.
        """
        if type(self).aregister_asset is not BaseStoreBackend.aregister_asset:  # kept in a way of its own
            raise self._lacks(Capability.ASSETS, "look assets up")
        return await carried.get_asset(self.aget, scope)

    async def adeactivate_asset(self, scope: AssetScope) -> None:
        """Put an asset's state to rest: neither read nor written until it is activated or swept.

        :raises AssetNotFoundError: nothing is registered there.
        """
        raise self._lacks(Capability.ASSETS, "deactivate assets")

    async def aactivate_asset(self, scope: AssetScope) -> None:
        """Bring a deactivated asset back, whole where it was not swept.

        :raises AssetNotFoundError: nothing is registered there.
        """
        raise self._lacks(Capability.ASSETS, "activate assets")

    async def adelete_asset(self, scope: AssetScope) -> None:
        """Delete an asset with its state, its watchers and its events; its id is never used again.

        :raises AssetNotFoundError: nothing is registered there.
        """
        raise self._lacks(Capability.ASSETS, "delete assets")

    async def asweep_assets(self, grace: timedelta, *, dry_run: bool = False) -> SweepReport:
        """Delete the state of assets that were deactivated longer ago than `grace` (`Capability.ASSETS`)."""
        raise self._lacks(Capability.ASSETS, "sweep assets")

    async def acleanup(
        self, *, dry_run: bool = False, batch_size: int = 0, on_batch: OnBatch | None = None
    ) -> CleanupReport:
        """Delete exactly the task rows that have expired (`Capability.CLEANUP`).

        :param dry_run: delete nothing; list them to `on_batch`.
        :param batch_size: rows per transaction; 0 for one statement. An interruption loses no batch already done.
        :param on_batch: called after each batch, by the caller's thread; it should be quick.
        """
        raise self._lacks(Capability.CLEANUP, "clean up")

    async def adelete_run(self, dag_id: str, run_id: str) -> int:
        """Delete the state of every task of a run (`Capability.CLEANUP`).

        :return: how many rows went.
        """
        raise self._lacks(Capability.CLEANUP, "delete runs")

    @property
    def fleet(self) -> Fleet:
        """Return what keeps who runs which watcher (`Capability.COMMIT`)."""
        raise self._lacks(Capability.COMMIT, "run watchers")

    async def aclaim_watcher(self, asset: AssetScope, name: str, *, owner: str) -> Lease:
        """Claim a watcher by hand with a new fencing number; whoever held it can commit no more (`Capability.COMMIT`).

        The claim holds until anybody claims after it. Triggerers leave the watcher alone until it is restarted.

        :param asset: the watched asset.
        :param name: the watcher's name.
        :param owner: who claims, for people.
        :raises AssetNotFoundError: as for `aget`, and so for `AssetInactiveError`.
        """
        raise self._lacks(Capability.COMMIT, "run watchers")

    async def areport_watcher(
        self, lease: Lease, state: WatcherState, *, error: str | None = None, restarts: int = 0
    ) -> None:
        """Keep what a watcher is doing where an operator can see it; nothing happens once somebody claimed after it.

        :param lease: the claim.
        :param state: what it is doing.
        :param error: the traceback of its latest error; None leaves the one that is kept.
        :param restarts: how many to count.
        """
        raise self._lacks(Capability.COMMIT, "run watchers")

    async def alist_watchers(self) -> list[WatcherRecord]:
        """List every watcher that was ever declared or claimed, by asset and name (`Capability.COMMIT`)."""
        raise self._lacks(Capability.COMMIT, "run watchers")

    async def alist_events(
        self, asset: AssetScope | None = None, *, after: int = 0, limit: int | None = None
    ) -> list[Event]:
        """List events in the order of their commits (`Capability.COMMIT`).

        :param asset: of this asset; None for all.
        :param after: only those with a larger id.
        :param limit: how many at most; None for all.
        :raises AssetNotFoundError: the asset is unknown.
        """
        raise self._lacks(Capability.COMMIT, "record events")

    @property
    def deliveries(self) -> Deliveries:
        """Return what hands out events to consumers (`Capability.CONSUMERS`)."""
        raise self._lacks(Capability.CONSUMERS, "deliver events to consumers")

    @property
    def leftovers(self) -> Leftovers:
        """Return what remembers the references that rows no longer hold (`Capability.LEFTOVERS`)."""
        raise self._lacks(Capability.LEFTOVERS, "remember what a worker-side backend keeps")

    @property
    def browsing(self) -> Browsing:
        """Return what lists what is there (`Capability.BROWSING`)."""
        raise self._lacks(Capability.BROWSING, "list what is there")
