"""The in-memory backend: the semantics of the metastore, without a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, final

from ...abc import Capability
from ...changes import Clear, Commit, CommitResult, Delete, Put
from ...clock import Clock, SystemClock
from ...records import (
    AssetRecord,
    CleanupBatch,
    CleanupReport,
    Event,
    Lease,
    OnBatch,
    StoredEntry,
    SweepReport,
    WatcherRecord,
    WatcherState,
)
from ...scopes import Asset, AssetScope, Scope
from ..in_place import InPlaceBackend
from ..watching import WatchHub
from .browsing import MemoryBrowsing, record_of
from .deliveries import MemoryDeliveries
from .fleet import MemoryFleet
from .fleet import record_of as watcher_record_of
from .leftovers import MemoryLeftovers
from .locking import Lock
from .tables import Tables

__all__ = ["MemoryBackend"]


@final
class MemoryBackend(InPlaceBackend):
    """Keep everything in this process's memory, for as long as this object lives.

    May be used by several stores, threads and event loops at once.

    :param clock: tells when values expire.
    """

    capabilities: ClassVar[Capability] = ~Capability.NONE

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._tables = Tables(clock or SystemClock())
        self._hub = WatchHub(self._tables.clock)
        self._lock = Lock(self.lock_timeout)
        self._fleet = MemoryFleet(self._tables, self._lock, self._hub)
        self._deliveries = MemoryDeliveries(self._tables, self._lock, self._hub)
        self._leftovers = MemoryLeftovers(self._tables, self._lock)
        self._browsing = MemoryBrowsing(self._tables, self._lock)

    # State.

    async def aget(self, scope: Scope, key: str, *, session: Any = None) -> str | None:
        """Read one key."""
        entry = await self.aget_entry(scope, key)
        return None if entry is None else entry.text

    async def aset(
        self, scope: Scope, key: str, value: str, *, expires_at: datetime | None = None, session: Any = None
    ) -> None:
        """Write or overwrite one key."""
        await self.acommit(Commit((Put(scope, key, value, expires_at),)))

    async def adelete(self, scope: Scope, key: str, *, session: Any = None) -> None:
        """Remove one key."""
        await self.acommit(Commit((Delete(scope, key),)))

    async def aclear(self, scope: Scope, *, all_map_indices: bool = False, session: Any = None) -> None:
        """Remove every key of the scope."""
        await self.acommit(Commit((Clear(scope, all_map_indices),)))

    async def aget_entry(self, scope: Scope, key: str, *, session: Any = None) -> StoredEntry | None:
        """Read one key with its version and times."""
        with self._lock:
            return self._tables.fresh(self._tables.rows(scope).get(key))

    async def aget_many(self, scope: Scope, keys: Sequence[str], *, session: Any = None) -> dict[str, str]:
        """Read several keys as of one moment."""
        with self._lock:
            rows = self._tables.rows(scope)
            found = {key: self._tables.fresh(rows.get(key)) for key in keys}
        return {key: entry.text for key, entry in found.items() if entry is not None}

    async def alist_keys(
        self,
        scope: Scope,
        prefix: str = "",
        *,
        after: str | None = None,
        limit: int | None = None,
        session: Any = None,
    ) -> list[str]:
        """List keys in the order of their code points."""
        with self._lock:
            keys = [key for key, entry in self._tables.rows(scope).items() if self._tables.fresh(entry) is not None]
        return sorted(key for key in keys if key.startswith(prefix) and (after is None or key > after))[:limit]

    async def acommit(self, commit: Commit, *, session: Any = None) -> CommitResult:
        """Make every change and record every event, or nothing."""
        with self._lock:
            result = self._tables.commit(commit)
        self._hub.committed(commit)
        return result

    def awatch(self, scope: Scope, key: str) -> AsyncIterator[str | None]:
        """Follow one key."""
        return self._hub.follow(key, lambda: self.aget_entry(scope, key))

    # Assets.

    async def aregister_asset(self, asset: Asset) -> AssetScope:
        """Find or register an asset."""
        with self._lock:
            return self._tables.register(asset)

    async def aget_asset(self, scope: AssetScope) -> AssetRecord:
        """Read a registration."""
        with self._lock:
            return record_of(self._tables.find(scope))

    async def adeactivate_asset(self, scope: AssetScope) -> None:
        """Put an asset's state to rest."""
        with self._lock:
            found = self._tables.find(scope)
            found.deactivated_at = found.deactivated_at or self._tables.now()
        self._hub.changed()

    async def aactivate_asset(self, scope: AssetScope) -> None:
        """Bring a deactivated asset back."""
        with self._lock:
            self._tables.find(scope).deactivated_at = None
        self._hub.changed()

    async def adelete_asset(self, scope: AssetScope) -> None:
        """Delete an asset with its state, watchers and events."""
        with self._lock:
            self._tables.drop_asset(scope)
        self._hub.changed()

    async def asweep_assets(self, grace: timedelta, *, dry_run: bool = False) -> SweepReport:
        """Delete the state of assets that were deactivated longer ago than `grace`."""
        with self._lock:
            before = self._tables.now() - grace
            rested = [
                each
                for each in self._tables.assets.values()
                if each.rows and each.deactivated_at is not None and each.deactivated_at <= before
            ]
            names = tuple(sorted(each.registered.name for each in rested))
            report = SweepReport(type(self).__name__, names, sum(len(each.rows) for each in rested), dry_run)
            for each in () if dry_run else rested:
                self._tables.empty(each.rows)
        return report

    # Garbage.

    async def acleanup(
        self, *, dry_run: bool = False, batch_size: int = 0, on_batch: OnBatch | None = None
    ) -> CleanupReport:
        """Delete exactly the task rows that have expired when it begins."""
        with self._lock:
            expired = self._tables.expired()
        if dry_run:
            if expired and on_batch is not None:
                on_batch(CleanupBatch(len(expired), len(expired), tuple(expired)))
            return CleanupReport(type(self).__name__, len(expired), dry_run)
        done = 0
        for start in range(0, len(expired), batch_size or len(expired) or 1):
            with self._lock:
                done += self._tables.drop(expired[start : start + (batch_size or len(expired))])
            self._hub.changed()
            if on_batch is not None:
                on_batch(CleanupBatch(len(expired), done))
        return CleanupReport(type(self).__name__, done, dry_run)

    async def adelete_run(self, dag_id: str, run_id: str) -> int:
        """Delete the state of every task of a run."""
        with self._lock:
            gone = [scope for scope in self._tables.tasks if (scope.dag_id, scope.run_id) == (dag_id, run_id)]
            count = sum(self._tables.empty(self._tables.tasks.pop(scope)) for scope in gone)
        self._hub.changed()
        return count

    # Watchers and events.

    @property
    def fleet(self) -> MemoryFleet:
        """Return what keeps who runs which watcher."""
        return self._fleet

    async def aclaim_watcher(self, asset: AssetScope, name: str, *, owner: str) -> Lease:
        """Claim a watcher by hand with a new fencing number."""
        with self._lock:
            tables = self._tables
            tables.rows(asset)  # refuses an inactive one
            registered = tables.find(asset).registered
            watcher = tables.add_watcher(registered.id, name)
            now = tables.now()
            watcher.leave(WatcherState.RUNNING, now)
            watcher.owner, watcher.restarts, watcher.claimed_at = owner, 0, now
            return Lease(watcher.id, watcher.fence, registered.scope, name)

    async def areport_watcher(
        self, lease: Lease, state: WatcherState, *, error: str | None = None, restarts: int = 0
    ) -> None:
        """Keep what a watcher is doing, while the claim is the latest."""
        with self._lock:
            watcher = self._tables.watchers.get(lease.watcher_id)
            if watcher is None or watcher.fence != lease.fence:
                return
            now = self._tables.now()
            watcher.state, watcher.updated_at = state, now
            watcher.restarts += restarts
            if error is not None:
                watcher.last_error, watcher.last_error_at = error, now

    async def alist_watchers(self) -> list[WatcherRecord]:
        """List every watcher by asset and name."""
        with self._lock:
            records = [watcher_record_of(self._tables, each) for each in self._tables.watchers.values()]
        return sorted(records, key=lambda record: (record.asset, record.name))

    async def alist_events(
        self, asset: AssetScope | None = None, *, after: int = 0, limit: int | None = None
    ) -> list[Event]:
        """List events in the order of their commits."""
        with self._lock:
            return self._tables.events(asset, after, limit)

    @property
    def leftovers(self) -> MemoryLeftovers:
        """Return what remembers the references that rows no longer hold."""
        return self._leftovers

    @property
    def deliveries(self) -> MemoryDeliveries:
        """Return what hands out events to consumers."""
        return self._deliveries

    @property
    def browsing(self) -> MemoryBrowsing:
        """Return what lists what is there."""
        return self._browsing
