"""The default backend: state, assets, watchers and events in one relational database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar, final

from pydantic import ValidationError

from ...abc import BaseStoreBackend, Capability
from ...changes import Clear, Commit, CommitResult, Delete, Put
from ...clock import Clock
from ...doctor.records import Finding
from ...errors import ConfigurationError
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
from ...settings import DatabaseSettings
from .browsing import MetastoreBrowsing
from .choice import open_database
from .deliveries import MetastoreDeliveries
from .examining import examine
from .fleet import MetastoreFleet
from .leftovers import MetastoreLeftovers
from .procedures import assets as registry
from .procedures import state, watchers
from .session import run_in_session
from .steps import Procedure

__all__ = ["MetastoreBackend"]

T = TypeVar("T")
_MICROSECOND = timedelta(microseconds=1)


@final
class MetastoreBackend(BaseStoreBackend):
    """Keep everything in a SQLite file, in memory, or in PostgreSQL.

    `session=` takes an `AsyncSession` or `AsyncConnection` of the caller's on the same database: the operation is
    then part of its transaction, and is undone with it.

    :param url: `sqlite+aiosqlite:///path.db`, `sqlite+aiosqlite:///:memory:` for a database that lives as long as
        this object, or `postgresql+asyncpg://user:password@host/database`; default: `[database] url`'s.
    :param clock: tells when values expire; default: the system's on SQLite, the server's on PostgreSQL.
    :param options: any other option of the section `[database]`, such as `lock_timeout=10.0`.
    :raises ConfigurationError: the URL is of another kind, or an option is wrong.
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
        | Capability.CONSUMERS
        | Capability.LEFTOVERS
        | Capability.BROWSING
    )

    def __init__(self, url: str | None = None, *, clock: Clock | None = None, **options: Any) -> None:
        settings = _settings(options if url is None else {"url": url, **options})
        self._database = open_database(settings, clock)
        self._fleet = MetastoreFleet(self._database)
        self.lock_timeout = settings.lock_timeout
        self._deliveries = MetastoreDeliveries(self._database)
        self._leftovers = MetastoreLeftovers(self._database)
        self._browsing = MetastoreBrowsing(self._database)

    def __repr__(self) -> str:
        return f"<MetastoreBackend on {self._database}>"

    @property
    def place(self) -> str:
        """Return the database for messages, without secrets."""
        return str(self._database)

    @property
    def path(self) -> Path | None:
        """Return the database file; None where there is none."""
        return self._database.path

    def run_blocking(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run one of this backend's coroutines to its end, from sync code on any thread."""
        return self._database.run_blocking(function)

    # Life.

    async def aopen(self) -> None:
        """Open the database; create the tables in a new SQLite file.

        :raises SchemaError: the tables are missing, of another release, or somebody else's.
        :raises DatabaseError: it cannot be reached.
        """
        await self._database.aopen()

    async def aclose(self) -> None:
        """Close the database, once what has begun is done."""
        await self._database.aclose()

    async def aupgrade(self) -> tuple[str | None, str]:
        """Bring the schema to this release's revision; several processes at once do it once.

        :return: the revision before (None: there was none) and after.
        :raises SchemaError: a newer release wrote it.
        """
        return await self._database.upgrade()

    async def adowngrade(self, revision: str) -> tuple[str | None, str | None]:
        """Take the schema back to a revision.

        :param revision: the revision; `base` to remove every table, and with them every value.
        :return: the revision before and after.
        :raises SchemaError: there is no such revision, or it is a later one.
        """
        return await self._database.downgrade(revision)

    async def arevision(self) -> str | None:
        """Read the schema's revision, None where there is none; changes nothing."""
        return await self._database.revision()

    def examine(self) -> AsyncIterator[Finding]:
        """Look at the database, check by check, and say what to do about what is wrong; nothing stays written.

        :raises DatabaseError: it cannot be reached.
        """
        return examine(self._database)

    # State.

    async def _read(self, session: Any, procedure: Callable[..., Procedure[T]], *args: Any) -> T:
        if session is None:
            return await self._database.read(procedure, *args, self._database.now)
        return await run_in_session(self._database, session, procedure(*args, self._database.now))

    async def aget(self, scope: Scope, key: str, *, session: Any = None) -> str | None:
        """Read one key; callers at the same time share one statement."""
        if session is None:
            return await self._database.get(scope, key)
        return await self._read(session, state.get, scope, key)

    async def aset(
        self, scope: Scope, key: str, value: str, *, expires_at: datetime | None = None, session: Any = None
    ) -> None:
        """Write or overwrite one key; callers at the same time share one transaction."""
        await self.acommit(Commit((Put(scope, key, value, expires_at),)), session=session)

    async def adelete(self, scope: Scope, key: str, *, session: Any = None) -> None:
        """Remove one key."""
        await self.acommit(Commit((Delete(scope, key),)), session=session)

    async def aclear(self, scope: Scope, *, all_map_indices: bool = False, session: Any = None) -> None:
        """Remove every key of the scope."""
        await self.acommit(Commit((Clear(scope, all_map_indices),)), session=session)

    async def aget_entry(self, scope: Scope, key: str, *, session: Any = None) -> StoredEntry | None:
        """Read one key with its version and times; callers at the same time share one statement."""
        if session is None:
            return await self._database.get_entry(scope, key)
        return await self._read(session, state.get_entry, scope, key)

    async def aget_many(self, scope: Scope, keys: Sequence[str], *, session: Any = None) -> dict[str, str]:
        """Read several keys in one statement."""
        return await self._read(session, state.get_many, scope, keys)

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
        return await self._read(session, state.list_keys, scope, prefix, after, limit)

    async def acommit(self, commit: Commit, *, session: Any = None) -> CommitResult:
        """Make every change and record every event in one transaction."""
        if session is None:
            return await self._database.commit(commit)
        return await run_in_session(self._database, session, self._database.committing(commit))

    def awatch(self, scope: Scope, key: str) -> AsyncIterator[str | None]:
        """Follow one key."""
        return self._database.hub.follow(key, lambda: self.aget_entry(scope, key), scope=scope)

    # Assets.

    async def aregister_asset(self, asset: Asset) -> AssetScope:
        """Find or register an asset; one that is complete costs one read."""
        found = await self._database.read(registry.find_asset, asset)
        if found is None:
            found = await self._database.write(registry.register_asset, asset, self._database.now)
        return found

    async def aregister_assets(self, assets: Sequence[Asset]) -> list[AssetScope]:
        """Find or register many assets; those that are complete cost two reads together."""
        found = await self._database.read(registry.find_assets, assets)
        if all(found):
            return [scope for scope in found if scope is not None]
        return await self._database.write(registry.register_assets, assets, self._database.now)

    async def aget_asset(self, scope: AssetScope) -> AssetRecord:
        """Read a registration."""
        return await self._database.read(registry.get_asset, scope)

    async def adeactivate_asset(self, scope: AssetScope) -> None:
        """Put an asset's state to rest."""
        await self._database.write(registry.set_active, scope, False, self._database.now)

    async def aactivate_asset(self, scope: AssetScope) -> None:
        """Bring a deactivated asset back."""
        await self._database.write(registry.set_active, scope, True, self._database.now)

    async def adelete_asset(self, scope: AssetScope) -> None:
        """Delete an asset with its state, watchers and events."""
        await self._database.write(registry.delete_asset, scope)

    async def asweep_assets(self, grace: timedelta, *, dry_run: bool = False) -> SweepReport:
        """Delete the state of assets that were deactivated longer ago than `grace`."""
        work = self._database.read if dry_run else self._database.write
        swept = await work(registry.sweep_assets, grace // _MICROSECOND, dry_run, self._database.now)
        names = tuple(name for name, _ in swept)
        return SweepReport(type(self).__name__, names, sum(rows for _, rows in swept), dry_run)

    # Garbage.

    async def acleanup(
        self, *, dry_run: bool = False, batch_size: int = 0, on_batch: OnBatch | None = None
    ) -> CleanupReport:
        """Delete exactly the task rows that have expired when it begins."""
        now, total = await self._database.count_expired()
        done = 0
        if dry_run and on_batch is None:
            done = total
        elif dry_run:
            async for rows in self._database.list_expired(now):
                done += len(rows)
                _tell(on_batch, CleanupBatch(total, done, tuple(rows)))
        else:
            async for deleted in self._database.delete_expired(now, batch_size):
                done += deleted
                if deleted:
                    _tell(on_batch, CleanupBatch(max(total, done), done))
        return CleanupReport(type(self).__name__, done, dry_run)

    async def adelete_run(self, dag_id: str, run_id: str) -> int:
        """Delete the state of every task of a run."""
        return await self._database.write(state.delete_run, dag_id, run_id)

    # Watchers and events.

    @property
    def fleet(self) -> MetastoreFleet:
        """Return what keeps who runs which watcher."""
        return self._fleet

    async def aclaim_watcher(self, asset: AssetScope, name: str, *, owner: str) -> Lease:
        """Claim a watcher by hand with a new fencing number."""
        return await self._database.write(watchers.claim_watcher, asset, name, owner, self._database.now)

    async def areport_watcher(
        self, lease: Lease, state: WatcherState, *, error: str | None = None, restarts: int = 0
    ) -> None:
        """Keep what a watcher is doing, while the lease holds."""
        await self._database.write(watchers.report_watcher, lease, state, error, restarts, self._database.now)

    async def alist_watchers(self) -> list[WatcherRecord]:
        """List every watcher by asset and name."""
        return await self._database.read(watchers.list_watchers, self._database.now)

    async def alist_events(
        self, asset: AssetScope | None = None, *, after: int = 0, limit: int | None = None
    ) -> list[Event]:
        """List events in the order of their commits."""
        return await self._database.read(registry.list_events, asset, after, limit)

    @property
    def leftovers(self) -> MetastoreLeftovers:
        """Return what remembers the references that rows no longer hold."""
        return self._leftovers

    @property
    def deliveries(self) -> MetastoreDeliveries:
        """Return what hands out events to consumers."""
        return self._deliveries

    @property
    def browsing(self) -> MetastoreBrowsing:
        """Return what lists what is there."""
        return self._browsing


def _settings(options: dict[str, Any]) -> DatabaseSettings:
    try:
        return DatabaseSettings(**options)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ConfigurationError(f"MetastoreBackend: {problems}") from None


def _tell(on_batch: OnBatch | None, batch: CleanupBatch) -> None:
    if on_batch is not None:
        on_batch(batch)
