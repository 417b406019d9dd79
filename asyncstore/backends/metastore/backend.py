"""The default backend: state, assets, watchers and events in one relational database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, final

from ...abc import Capability
from ...changes import Clear, Commit, CommitResult, Delete, Put
from ...clock import Clock, SystemClock
from ...errors import UnsupportedOperationError
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
from .sqlite import assets, cleanup, operations
from .sqlite.database import SqliteDatabase
from .sqlite.target import Target

__all__ = ["DEFAULT_URL", "MetastoreBackend"]

DEFAULT_URL = "sqlite+aiosqlite:///asyncstore.db"
_PAGE = 1000
_MICROSECOND = timedelta(microseconds=1)


@final
class MetastoreBackend(InPlaceBackend):
    """Keep everything in a SQLite file, or in memory.

    :param url: `sqlite+aiosqlite:///path.db`, or `sqlite+aiosqlite:///:memory:` for a database that lives as long
        as this object.
    :param lock_timeout: seconds to wait at most for a lock of another connection or process.
    :param durability: "full": a commit survives power loss; "normal": it survives a crash of the process, and the
        last ones may be lost on power loss.
    :param clock: tells when values expire.
    :raises ConfigurationError: the URL is of another kind.
    """

    capabilities: ClassVar[Capability] = (
        Capability.EXPIRY
        | Capability.ENTRIES
        | Capability.MANY
        | Capability.LISTING
        | Capability.COMMIT
        | Capability.WATCHING
        | Capability.ASSETS
        | Capability.CLEANUP
    )

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        lock_timeout: float = 5.0,
        durability: str = "full",
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._database = SqliteDatabase(Target.parse(url), lock_timeout=lock_timeout, durability=durability)
        self._hub = WatchHub(self._clock, self._database.foreign_commits if self._database.path else None)
        self.lock_timeout = lock_timeout

    def __repr__(self) -> str:
        return f"<MetastoreBackend on {self._database}>"

    @property
    def path(self) -> Path | None:
        """Return the database file; None for a database in memory."""
        return self._database.path

    async def aopen(self) -> None:
        """Open the database; create the tables in a new file.

        :raises SchemaError: the file is of another release, or somebody else's.
        :raises DatabaseError: it cannot be opened.
        """
        await self._database.aopen()

    async def aclose(self) -> None:
        """Close the database, once what has begun is done."""
        await self._database.aclose()

    async def aupgrade(self) -> tuple[str | None, str]:
        """Bring the schema to this release's revision.

        :return: the revision before (None: there was none) and after.
        :raises SchemaError: a newer release wrote it.
        """
        return await self._database.upgrade()

    async def arevision(self) -> str | None:
        """Read the schema's revision, None where there is none; changes nothing."""
        return await self._database.revision()

    # State.

    async def aget(self, scope: Scope, key: str, *, session: Any = None) -> str | None:
        """Read one key: one statement, one hop to a thread."""
        _refuse(session)
        return await self._database.read(operations.get, scope, key, self._clock)

    async def aset(
        self, scope: Scope, key: str, value: str, *, expires_at: datetime | None = None, session: Any = None
    ) -> None:
        """Write or overwrite one key: one transaction, one hop to a thread."""
        _refuse(session)
        await self.acommit(Commit((Put(scope, key, value, expires_at),)))

    async def adelete(self, scope: Scope, key: str, *, session: Any = None) -> None:
        """Remove one key."""
        _refuse(session)
        await self.acommit(Commit((Delete(scope, key),)))

    async def aclear(self, scope: Scope, *, all_map_indices: bool = False, session: Any = None) -> None:
        """Remove every key of the scope."""
        _refuse(session)
        await self.acommit(Commit((Clear(scope, all_map_indices),)))

    async def aget_entry(self, scope: Scope, key: str) -> StoredEntry | None:
        """Read one key with its version and times."""
        return await self._database.read(operations.get_entry, scope, key, self._clock)

    async def aget_many(self, scope: Scope, keys: Sequence[str]) -> dict[str, str]:
        """Read several keys in one statement."""
        return await self._database.read(operations.get_many, scope, keys, self._clock)

    async def alist_keys(
        self, scope: Scope, prefix: str = "", *, after: str | None = None, limit: int | None = None
    ) -> list[str]:
        """List keys in the order of their code points."""
        return await self._database.read(operations.list_keys, scope, prefix, after, limit, self._clock)

    async def acommit(self, commit: Commit) -> CommitResult:
        """Make every change and record every event in one transaction."""
        return await self._database.write(
            operations.commit, commit, self._clock, then=lambda: self._hub.committed(commit)
        )

    def awatch(self, scope: Scope, key: str) -> AsyncIterator[str | None]:
        """Follow one key; commits of other processes show within a tenth of a second."""
        return self._hub.follow(key, lambda: self.aget_entry(scope, key), scope=scope)

    # Assets.

    async def aregister_asset(self, asset: Asset) -> AssetScope:
        """Find or register an asset; one that is complete costs one read."""
        found = await self._database.read(assets.find_asset, asset)
        if found is None:
            found = await self._database.write(assets.register_asset, asset, self._clock)
        return found

    async def aget_asset(self, scope: AssetScope) -> AssetRecord:
        """Read a registration."""
        return await self._database.read(assets.get_asset, scope)

    async def adeactivate_asset(self, scope: AssetScope) -> None:
        """Put an asset's state to rest."""
        await self._database.write(assets.set_active, scope, False, self._clock, then=self._hub.changed)

    async def aactivate_asset(self, scope: AssetScope) -> None:
        """Bring a deactivated asset back."""
        await self._database.write(assets.set_active, scope, True, self._clock, then=self._hub.changed)

    async def adelete_asset(self, scope: AssetScope) -> None:
        """Delete an asset with its state, watchers and events."""
        await self._database.write(assets.delete_asset, scope, then=self._hub.changed)

    async def asweep_assets(self, grace: timedelta, *, dry_run: bool = False) -> SweepReport:
        """Delete the state of assets that were deactivated longer ago than `grace`."""
        before = self._clock.microseconds() - grace // _MICROSECOND
        work = self._database.read if dry_run else self._database.write
        swept = await work(assets.sweep_assets, before, dry_run)
        names = tuple(name for name, _ in swept)
        return SweepReport(type(self).__name__, names, sum(rows for _, rows in swept), dry_run)

    # Garbage.

    async def acleanup(
        self, *, dry_run: bool = False, batch_size: int = 0, on_batch: OnBatch | None = None
    ) -> CleanupReport:
        """Delete exactly the task rows that have expired when it begins."""
        now = self._clock.microseconds()
        total = await self._database.read(cleanup.count_expired, now)
        done = await (self._list(now, total, on_batch) if dry_run else self._delete(now, total, batch_size, on_batch))
        return CleanupReport(type(self).__name__, done, dry_run)

    async def _list(self, now: int, total: int, on_batch: OnBatch | None) -> int:
        done = 0
        after = cleanup.START
        while on_batch is not None:
            rows, after = await self._database.read(cleanup.list_expired, now, after, _PAGE)
            if not rows:
                return done
            done += len(rows)
            on_batch(CleanupBatch(total, done, tuple(rows)))
        return total

    async def _delete(self, now: int, total: int, batch_size: int, on_batch: OnBatch | None) -> int:
        done = 0
        while True:
            if batch_size:
                deleted = await self._database.write(cleanup.delete_batch, now, batch_size)
            else:
                deleted = await self._database.write(cleanup.delete_all, now)
            done += deleted
            if deleted and on_batch is not None:
                on_batch(CleanupBatch(max(total, done), done))
            if not batch_size or deleted < batch_size:
                return done

    async def adelete_run(self, dag_id: str, run_id: str) -> int:
        """Delete the state of every task of a run."""
        return await self._database.write(operations.delete_run, dag_id, run_id, then=self._hub.changed)

    # Watchers and events.

    async def aclaim_watcher(self, asset: AssetScope, name: str, *, owner: str) -> Lease:
        """Claim a watcher with a new fencing number."""
        return await self._database.write(assets.claim_watcher, asset, name, owner, self._clock)

    async def areport_watcher(
        self, lease: Lease, state: WatcherState, *, error: str | None = None, restarted: bool = False
    ) -> None:
        """Keep what a watcher is doing, while the lease holds."""
        await self._database.write(assets.report_watcher, lease, state, error, restarted, self._clock)

    async def alist_watchers(self) -> list[WatcherRecord]:
        """List every watcher by asset and name."""
        return await self._database.read(assets.list_watchers)

    async def alist_events(
        self, asset: AssetScope | None = None, *, after: int = 0, limit: int | None = None
    ) -> list[Event]:
        """List events in the order of their commits."""
        return await self._database.read(assets.list_events, asset, after, limit)


def _refuse(session: object) -> None:
    if session is not None:
        raise UnsupportedOperationError("MetastoreBackend cannot take part in a session of the caller's yet")
