"""Deleting what nobody needs any more: expired task state, and old events."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from .abc import BaseStoreBackend, Capability
from .blocking import inline, outside
from .consumers.records import PruneReport
from .core import Core
from .offload.stored import path_of
from .records import CleanupBatch, CleanupReport, OnBatch
from .settings import StateStoreSettings

__all__ = ["clean_up", "prune_events"]


async def clean_up(core: Core, batch_size: int, *, dry_run: bool, on_batch: OnBatch | None) -> CleanupReport:
    """Delete expired task state, and then what a worker-side backend keeps of it.

    :param core: the store's core.
    :param batch_size: rows per commit; 0 for one statement.
    :param dry_run: delete nothing.
    :param on_batch: called after each batch.
    """
    if not core.keeps:
        return await _clean_up(core, batch_size, dry_run=dry_run, on_batch=on_batch)
    known: list[str] = []
    last = CleanupBatch(0, 0)

    def tell(batch: CleanupBatch) -> None:
        nonlocal last
        paths = tuple(path_of(row.reference) for row in batch.rows if row.reference is not None)
        known.extend(paths)
        last = replace(batch, rows=())
        if on_batch is not None:
            on_batch(replace(batch, objects=paths))

    def tell_objects(paths: Sequence[str]) -> None:
        if on_batch is not None:
            on_batch(replace(last, objects=tuple(paths)))

    report = await _clean_up(core, batch_size, dry_run=dry_run, on_batch=tell)
    more, skipped = await core.collect(known, dry_run=dry_run, tell=tell_objects)
    return replace(report, objects=len(known) + more, objects_skipped=skipped)


async def _clean_up(core: Core, batch_size: int, *, dry_run: bool, on_batch: OnBatch | None) -> CleanupReport:
    """Delete expired task state, in the way the backend offers.

    :param core: the store's core.
    :param batch_size: rows per commit; 0 for one statement.
    :param dry_run: delete nothing.
    :param on_batch: called after each batch.
    """
    backend = core.backend
    if core.can(Capability.CLEANUP):
        return await core.call(lambda: backend.acleanup(dry_run=dry_run, batch_size=batch_size, on_batch=on_batch))
    name = type(backend).__name__
    own = _own_cleanup(backend)
    if own is None:
        return CleanupReport(name, None, dry_run, skipped=f"{name} has no cleanup of its own")
    if dry_run:
        return CleanupReport(name, None, dry_run, skipped=f"the cleanup of {name} cannot be tried without deleting")
    result = await own(core)
    if isinstance(result, CleanupReport):
        return result
    return CleanupReport(name, result if isinstance(result, int) else None, dry_run)


async def prune_events(core: Core, settings: StateStoreSettings, *, unfinished: bool, dry_run: bool) -> PruneReport:
    """Delete events that are too old or too many.

    :param core: the store's core.
    :param settings: say how old and how many.
    :param unfinished: those too that a consumer has not done.
    :param dry_run: delete nothing.
    """
    backend = core.backend
    name = type(backend).__name__
    if not core.can(Capability.CONSUMERS):
        return PruneReport(name, 0, dry_run, skipped=f"{name} does not deliver events to consumers, and prunes none")
    days, keep = settings.keep_events_days, settings.keep_events_count
    if not days and not keep:
        return PruneReport(name, 0, dry_run, skipped="[state_store] keep_events_days and keep_events_count are 0")
    deleted = await core.call(
        lambda: backend.deliveries.aprune(
            older_than=timedelta(days=days) if days else None,
            keep=keep or None,
            unfinished=unfinished,
            dry_run=dry_run,
            batch_size=settings.state_cleanup_batch_size,
        )
    )
    return PruneReport(name, deleted, dry_run)


def _own_cleanup(backend: BaseStoreBackend) -> Callable[[Core], Any] | None:
    sync = getattr(backend, "cleanup", None)
    if type(backend).acleanup is not BaseStoreBackend.acleanup:
        own: Callable[[], Any] = backend.acleanup
        return lambda core: core.call(own)
    if not callable(sync) or inspect.iscoroutinefunction(sync):
        return None

    async def run(core: Core) -> Any:
        if not inline():
            return await asyncio.to_thread(sync)
        with outside():
            return sync()

    return run
