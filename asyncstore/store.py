"""The front door: `connect` gives a `Store`."""

from __future__ import annotations

from asyncio import _get_running_loop  # pyright: ignore[reportPrivateUsage]  # documented; avoids an exception
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self, final, overload

from .abc import BaseStoreBackend, Capability
from .accessors import AssetStoreAccessors, TaskStoreAccessor
from .blocking import drive, in_thread, inline
from .browsing.browser import Browser
from .building import Parts
from .clock import Clock
from .consumers.consumer import Consumer
from .consumers.records import ConsumerRecord, PruneReport, Start
from .context import TaskContext
from .core import Core
from .ending import end_readers, let_go
from .errors import ConfigurationError, StoreClosedError, StoreError
from .events import EventLog
from .fleet import TriggererRecord
from .garbage import clean_up, prune_events
from .records import AssetRecord, CleanupReport, OnBatch, SweepReport, WatcherOrder, WatcherRecord
from .scopes import Asset, AssetScope, TaskScope, scope_of
from .settings import ConsumerSettings, Settings, load_settings
from .watchers import ClaimedWatcher, claim

__all__ = ["Store", "connect"]


def connect(
    url: str | None = None,
    *,
    backend: BaseStoreBackend | str | None = None,
    settings: Settings | None = None,
    clock: Clock | None = None,
) -> Store:
    """Give a store, to be entered with `async with`, or with `with` in a program that has no event loop.

    :param url: the metastore; default: `[database] url`, which is a SQLite file in the working directory.
    :param backend: a backend of your own, or the dotted path of its class; default: `[state_store] backend`. One
        that is passed in as an object stays open when the store is closed.
    :param settings: the options; default: `asyncstore.toml` and the environment, read on entry.
    :param clock: tells when values expire; default: the system's.
    :return: the store.
    """
    if not isinstance(backend, BaseStoreBackend | str | None):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"backend is an object of a BaseStoreBackend subclass, or its dotted path, not {backend!r}")
    if not isinstance(settings, Settings | None):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"settings is a Settings object, not {settings!r}")
    return Store(url, backend=backend, settings=settings, clock=clock)


@final
class Store:
    """Hold durable state of tasks and assets, and the events of watchers. Made by `connect`."""

    def __init__(
        self,
        url: str | None,
        *,
        backend: BaseStoreBackend | str | None,
        settings: Settings | None,
        clock: Clock | None,
    ) -> None:
        self._url = url
        self._given = backend
        self._settings = settings
        self._clock = clock
        self._core: Core | None = None
        self._owned: BaseStoreBackend | None = None
        self._opening = False

    def __repr__(self) -> str:
        return f"<Store on {self._core.backend!r}>" if self._core else "<Store, closed>"

    # Life.

    def _configure(self) -> tuple[Settings, Parts]:
        # Reads files and imports the backends' libraries.
        if self._url is not None and self._given is not None:
            raise ConfigurationError("connect: url and backend exclude each other; drop one of the two")
        settings = load_settings() if self._settings is None else self._settings
        if isinstance(self._given, BaseStoreBackend):
            return settings, Parts(settings, self._clock, given=self._given)
        if self._url is not None:  # the argument asks for the metastore, whatever is configured
            database = settings.database.model_copy(update={"url": self._url})
            state_store = settings.state_store.model_copy(update={"backend": None})
            settings = settings.model_copy(update={"database": database, "state_store": state_store})
        elif self._given is not None:
            state_store = settings.state_store.model_copy(update={"backend": self._given})
            settings = settings.model_copy(update={"state_store": state_store})
        return settings, Parts(settings, self._clock)

    async def _open(self) -> Self:
        if self._core is not None or self._opening:
            raise StoreError("the store is open already; enter it once, or connect anew")
        self._opening = True
        try:
            if inline():
                settings, parts = self._configure()
            else:
                settings, parts = await in_thread(self._configure, name="asyncstore connect")
            core = parts.build()
            owned = None if isinstance(self._given, BaseStoreBackend) else core.backend
            try:
                if owned is not None:
                    await core.call(owned.aopen)
                await core.aopen()
            except BaseException:
                await let_go(core, owned)
                raise
        finally:
            self._opening = False
        self._settings, self._core, self._owned = settings, core, owned
        return self

    async def _close(self) -> None:
        core, self._core = self._core, None
        owned, self._owned = self._owned, None
        if core is not None:
            await end_readers(core)
            await let_go(core, owned)

    async def __aenter__(self) -> Self:
        if _get_running_loop() is None:
            raise StoreError("asyncio is needed: this event loop is another one (trio?); the sync calls work anywhere")
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    def __enter__(self) -> Self:
        return drive(self._open())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        drive(self._close())

    @property
    def core(self) -> Core:
        """Return what the accessors of this store share; for packages that build on it.

        :raises StoreClosedError: the store is not open.
        """
        if self._core is None:
            raise StoreClosedError("the store is not open; use it inside `async with connect() as store:`")
        return self._core

    @property
    def backend(self) -> BaseStoreBackend:
        """Return the backend.

        :raises StoreClosedError: the store is not open.
        """
        return self.core.backend

    @property
    def settings(self) -> Settings:
        """Return the options in force.

        :raises StoreClosedError: the store was never opened.
        """
        if self._settings is None:
            raise StoreClosedError("the store is not open; its settings are read on entry")
        return self._settings

    # State and events.

    def task_state(self, scope: TaskScope) -> TaskStoreAccessor:
        """Give the state of a task instance.

        :param scope: the task instance.
        """
        return TaskStoreAccessor(self.core, scope)

    @property
    def asset_state(self) -> AssetStoreAccessors:
        """Return the state of assets, by subscript: `store.asset_state[orders]`."""
        return AssetStoreAccessors(self.core)

    def task_context(
        self, scope: TaskScope, inlets: Sequence[Asset] = (), outlets: Sequence[Asset] = ()
    ) -> TaskContext:
        """Give the context of one task attempt, to be entered.

        :param scope: the task instance.
        :param inlets: the assets it reads.
        :param outlets: the assets it writes.
        """
        clear = self.settings.state_store.clear_on_success
        return TaskContext(self.core, scope, inlets=inlets, outlets=outlets, clear_on_success=clear)

    @overload
    def events(self, asset: Asset | AssetScope | None = None, *, after: int = 0) -> EventLog: ...
    @overload
    def events(
        self,
        asset: Asset | AssetScope,
        *,
        consumer: str,
        start: Start | None = None,
        settings: ConsumerSettings | None = None,
    ) -> Consumer: ...
    def events(
        self,
        asset: Asset | AssetScope | None = None,
        *,
        after: int = 0,
        consumer: str | None = None,
        start: Start | None = None,
        settings: ConsumerSettings | None = None,
    ) -> EventLog | Consumer:
        """Give the events of an asset, in the order of their commits; for one reader, or for a durable consumer.

        :param asset: the asset; None for all.
        :param after: only events with a larger id.
        :param consumer: a name under which readers in any process divide the events, each handled until it is done.
        :param start: where a new consumer begins: "beginning" (the default), "end", the id of an event, or an aware
            datetime. One that there is goes on where it is; a warning is logged where it began elsewhere.
        :param settings: the consumer's leases, limits and delays; default: the section `[consumers]`.
        """
        if consumer is None:
            return EventLog(self.core, asset, after=after)
        if after:
            raise ValueError("after= is for a reader without a consumer; a new consumer begins at start=")
        if asset is None:
            raise ValueError("a consumer reads the events of one asset: name it")
        return Consumer(self.core, asset, consumer, start=start, settings=settings or self.settings.consumers)

    async def alist_consumers(self) -> list[ConsumerRecord]:
        """List every consumer by asset and name, with what it has before it."""
        backend = self.backend
        return await self.core.call(lambda: backend.deliveries.alist())

    def list_consumers(self) -> list[ConsumerRecord]:
        """Do what `alist_consumers` does, from sync code."""
        return drive(self.alist_consumers())

    @property
    def browser(self) -> Browser:
        """Return what lists what is in the store."""
        return Browser(self.core)

    # Assets.

    async def aregister(self, asset: Asset) -> AssetRecord:
        """Register an asset, or find it.

        :param asset: the asset.
        :raises AssetConflictError: its name has another URI, or its URI is under another name.
        """
        core = self.core
        if not isinstance(asset, Asset):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"an Asset is needed, not {type(asset).__name__}: {asset!r}")
        scope = await core.resolve_anew(asset)
        return await core.call(lambda: core.backend.aget_asset(scope))

    def register(self, asset: Asset) -> AssetRecord:
        """Do what `aregister` does, from sync code."""
        return drive(self.aregister(asset))

    async def adeactivate(self, asset: Asset | AssetScope) -> None:
        """Put an asset's state to rest: neither read nor written until it is activated, or swept.

        :param asset: a registered asset.
        :raises AssetNotFoundError: it is not registered.
        """
        backend = self.backend
        await self.core.call(lambda: backend.adeactivate_asset(scope_of(asset)))

    def deactivate(self, asset: Asset | AssetScope) -> None:
        """Do what `adeactivate` does, from sync code."""
        drive(self.adeactivate(asset))

    async def aactivate(self, asset: Asset | AssetScope) -> None:
        """Bring a deactivated asset back, whole where it was not swept.

        :param asset: a registered asset.
        :raises AssetNotFoundError: it is not registered.
        """
        backend = self.backend
        await self.core.call(lambda: backend.aactivate_asset(scope_of(asset)))

    def activate(self, asset: Asset | AssetScope) -> None:
        """Do what `aactivate` does, from sync code."""
        drive(self.aactivate(asset))

    async def adelete_asset(self, asset: Asset | AssetScope) -> None:
        """Delete an asset with its state, its watchers and its events.

        :param asset: a registered asset.
        :raises AssetNotFoundError: it is not registered.
        """
        core = self.core
        await core.call(lambda: core.backend.adelete_asset(scope_of(asset)))
        await core.removed()

    def delete_asset(self, asset: Asset | AssetScope) -> None:
        """Do what `adelete_asset` does, from sync code."""
        drive(self.adelete_asset(asset))

    async def asweep_assets(self, *, dry_run: bool = False) -> SweepReport:
        """Delete the state of assets deactivated longer ago than `[state_store] asset_grace_days`.

        :param dry_run: only say what would go.
        """
        backend = self.backend
        name = type(backend).__name__
        if not self.core.can(Capability.ASSETS):
            return SweepReport(name, (), 0, dry_run, skipped=f"{name} does not deactivate assets")
        grace = timedelta(days=self.settings.state_store.asset_grace_days)
        report = await self.core.call(lambda: backend.asweep_assets(grace, dry_run=dry_run))
        if not dry_run:
            await self.core.removed()
        return report

    def sweep_assets(self, *, dry_run: bool = False) -> SweepReport:
        """Do what `asweep_assets` does, from sync code."""
        return drive(self.asweep_assets(dry_run=dry_run))

    # Garbage.

    async def acleanup(self, *, dry_run: bool = False, on_batch: OnBatch | None = None) -> CleanupReport:
        """Delete exactly the task rows that have expired, in batches of `[state_store] state_cleanup_batch_size`.

        With a worker-side backend, what it keeps of rows that went goes too, and what no row ever referred to.

        :param dry_run: delete nothing; list the rows to `on_batch`.
        :param on_batch: called after each batch of rows, and of objects.
        :return: what was done; or that the backend has no cleanup of its own, and so was skipped.
        """
        core = self.core
        size = self.settings.state_store.state_cleanup_batch_size
        return await clean_up(core, size, dry_run=dry_run, on_batch=on_batch)

    def cleanup(self, *, dry_run: bool = False, on_batch: OnBatch | None = None) -> CleanupReport:
        """Do what `acleanup` does, from sync code."""
        return drive(self.acleanup(dry_run=dry_run, on_batch=on_batch))

    async def aprune_events(self, *, unfinished: bool = False, dry_run: bool = False) -> PruneReport:
        """Delete events that are older than `[state_store] keep_events_days`, or more than `keep_events_count`.

        Their keys stay, so that none of them is recorded again.

        :param unfinished: delete also those that a consumer of their asset has not done.
        :param dry_run: only say how many would go.
        """
        core = self.core
        return await prune_events(core, self.settings.state_store, unfinished=unfinished, dry_run=dry_run)

    def prune_events(self, *, unfinished: bool = False, dry_run: bool = False) -> PruneReport:
        """Do what `aprune_events` does, from sync code."""
        return drive(self.aprune_events(unfinished=unfinished, dry_run=dry_run))

    async def adelete_run(self, dag_id: str, run_id: str) -> int:
        """Delete the state of every task of a run.

        :param dag_id: the workflow.
        :param run_id: the run.
        :return: how many rows went.
        """
        core = self.core
        TaskScope(dag_id, run_id, "checked")
        count = await core.call(lambda: core.backend.adelete_run(dag_id, run_id))
        await core.removed()
        return count

    def delete_run(self, dag_id: str, run_id: str) -> int:
        """Do what `adelete_run` does, from sync code."""
        return drive(self.adelete_run(dag_id, run_id))

    # Watchers.

    async def aclaim_watcher(self, asset: Asset, name: str, *, owner: str) -> ClaimedWatcher:
        """Claim a watcher of an asset by hand; whoever held it can commit no more.

        For programs that run a watcher without a triggerer. The claim holds until anybody claims after it; triggerers
        leave the watcher alone until somebody asks to restart it.

        :param asset: the asset; registered where it is new.
        :param name: the watcher's name: with the asset, its identity.
        :param owner: who claims, for people.
        :raises UnsupportedOperationError: the backend cannot commit events and state together.
        """
        return await claim(self.core, asset, name, owner)

    async def alist_watchers(self) -> list[WatcherRecord]:
        """List every watcher that was ever declared or claimed, by asset and name."""
        backend = self.backend
        return await self.core.call(backend.alist_watchers)

    def list_watchers(self) -> list[WatcherRecord]:
        """Do what `alist_watchers` does, from sync code."""
        return drive(self.alist_watchers())

    async def aorder_watcher(self, asset: Asset | AssetScope, name: str, order: WatcherOrder) -> WatcherRecord:
        """Ask something of a watcher: pause it, resume it, restart it, kill it; from anywhere.

        The triggerer that runs it does it, soon; where none does, it is done at once.

        :param asset: a registered asset.
        :param name: the watcher's name.
        :param order: what is asked.
        :return: what is known of the watcher after that.
        :raises AssetNotFoundError: the asset is not registered.
        :raises WatcherNotFoundError: it has no such watcher.
        :raises StoreError: it cannot be done to a watcher in its state; says what can.
        """
        backend = self.backend
        return await self.core.call(lambda: backend.fleet.aorder(scope_of(asset), name, WatcherOrder(order)))

    def order_watcher(self, asset: Asset | AssetScope, name: str, order: WatcherOrder) -> WatcherRecord:
        """Do what `aorder_watcher` does, from sync code."""
        return drive(self.aorder_watcher(asset, name, order))

    async def alist_triggerers(self) -> list[TriggererRecord]:
        """List the triggerers, by the time that they joined."""
        backend = self.backend
        return await self.core.call(lambda: backend.fleet.alist_members())

    def list_triggerers(self) -> list[TriggererRecord]:
        """Do what `alist_triggerers` does, from sync code."""
        return drive(self.alist_triggerers())
