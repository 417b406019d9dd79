"""Contract of pruning: old events go, what a consumer needs stays."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ..abc import Capability
from ..scopes import Asset
from .consuming import LEASE, ORDERS, OTHER, join, payloads, record, taking
from .harness import ConformanceBase, Harness, requires

__all__ = ["PruningConformance"]


class PruningConformance(ConformanceBase):
    """Hold a backend to the pruning of events."""

    @requires(Capability.CONSUMERS)
    async def test_old_events_are_pruned(self, harness: Harness) -> None:
        """Delete events beyond a count or an age, but for those that a consumer has not done; keep their keys."""
        call, deliveries = harness.call, harness.backend.deliveries

        async def prune(days: float = 0, keep: int = 0, *, batch: int = 0, **options: bool) -> int:
            settings = {"keep_events_days": days, "keep_events_count": keep, "state_cleanup_batch_size": batch}
            async with harness.open_store(**settings) as store:
                return (await call(store.aprune_events, **options)).deleted

        async def left(asset: Asset = ORDERS) -> list[Any]:
            return [event.payload for event in await call(harness.store.events(asset).alist)]

        assert (await call(harness.store.aprune_events)).skipped is not None
        await record(harness, 3, OTHER)
        await record(harness, 6, key="k")
        _, member = await join(harness)
        held = await deliveries.atake(member, taking(4))
        await deliveries.adone(held[0])
        await deliveries.adone(held[2])
        assert await prune(keep=2, dry_run=True) == 3
        assert await prune(keep=2, batch=1) == 3
        assert (await left(), await left(OTHER)) == ([1, 3, 4, 5], [1, 2])
        await harness.let_pass(timedelta(days=1))
        assert await prune(days=1.5) == 0
        assert await prune(days=0.5) == 2
        assert (await left(), await left(OTHER)) == ([1, 3, 4, 5], [])
        assert await prune(keep=1, unfinished=True, batch=2) == 3
        assert await left() == [5]
        watcher = await call(harness.store.aclaim_watcher, ORDERS, "watcher", owner="me")
        assert (await call(watcher.acommit, await call(watcher.prepare, "again", "k0", None)))[1]
        await harness.let_pass(LEASE)
        _, member = await join(harness)
        assert payloads(await deliveries.atake(member, taking())) == [5]
