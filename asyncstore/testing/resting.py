"""Contract of assets that rest or go: deactivated, swept, deleted."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ..abc import Capability
from ..accessors import AssetStoreAccessor
from ..errors import AssetInactiveError, AssetNotFoundError
from ..scopes import Asset, AssetScope
from .harness import TASK, ConformanceBase, Harness, requires

__all__ = ["RestingConformance"]

ORDERS = Asset("orders", uri="s3://warehouse/orders/")


async def _refuses(harness: Harness, state: AssetStoreAccessor) -> None:
    call = harness.call
    for operation in (state.aget, state.adelete):
        with pytest.raises(AssetInactiveError, match="orders"):
            await call(operation, "key")
    with pytest.raises(AssetInactiveError):
        await call(state.aset, "key", "refused")
    with pytest.raises(AssetInactiveError):
        await call(state.aclear)
    with pytest.raises(AssetInactiveError):
        await call(state.aget_many, ["key"])
    if harness.has(Capability.LISTING):
        with pytest.raises(AssetInactiveError):
            await call(state.akeys)
    if harness.has(Capability.ENTRIES):
        with pytest.raises(AssetInactiveError):
            await call(state.aget_entry, "key")
    if harness.has(Capability.COMMIT):
        with pytest.raises(AssetInactiveError):
            await call(state.aset_many, {"key": "refused"})
    if harness.has(Capability.COMMIT | Capability.ENTRIES):
        with pytest.raises(AssetInactiveError):
            await call(state.aadvance, "key", "refused")
        with pytest.raises(AssetInactiveError):
            await call(state.aupdate, "key", lambda _: "refused")


class RestingConformance(ConformanceBase):
    """Hold a backend to deactivation, sweeps and the deletion of assets."""

    @requires(Capability.ASSETS)
    async def test_deactivated(self, harness: Harness) -> None:
        """Neither read nor write a deactivated asset, by any spelling; bring it back whole."""
        call, store = harness.call, harness.store
        await call(store.asset_state[ORDERS].aset, "key", "kept")
        await call(store.asset_state[Asset("other")].aset, "key", "other")
        for target in (ORDERS, AssetScope(name="orders"), AssetScope(uri=ORDERS.uri), Asset(uri=ORDERS.uri)):
            await call(store.adeactivate, target)
            for spelling in (ORDERS, Asset("orders"), Asset(uri=ORDERS.uri), AssetScope(name="orders")):
                await _refuses(harness, store.asset_state[spelling])
            assert await call(store.asset_state[Asset("other")].aget, "key") == "other"
            await call(store.aactivate, target)
            assert await call(store.asset_state[ORDERS].aget, "key") == "kept"

    @requires(Capability.ASSETS)
    async def test_backend_refuses_inactive_assets(self, harness: Harness) -> None:
        """Refuse a deactivated asset in the four operations."""
        call, backend = harness.call, harness.backend
        scope = await harness.asset_scope()
        await call(backend.aset, scope, "key", "1")
        await call(backend.adeactivate_asset, scope)
        for operation in (backend.aget, backend.adelete):
            with pytest.raises(AssetInactiveError):
                await call(operation, scope, "key")
        with pytest.raises(AssetInactiveError):
            await call(backend.aset, scope, "key", "2")
        with pytest.raises(AssetInactiveError):
            await call(backend.aclear, scope)
        await call(backend.aactivate_asset, scope)
        assert await call(backend.aget, scope, "key") == "1"

    @requires(Capability.ASSETS)
    async def test_record_of_a_deactivated_asset(self, harness: Harness) -> None:
        """Tell since when an asset rests; a second deactivation and a registration change nothing."""
        call, store = harness.call, harness.store
        await call(store.aregister, ORDERS)
        since = harness.now
        await call(store.adeactivate, ORDERS)
        await harness.let_pass(harness.tick * 5)
        await call(store.adeactivate, ORDERS)
        record = await call(store.aregister, ORDERS)
        assert record.deactivated_at is not None
        assert abs(record.deactivated_at - since) < harness.tick
        await call(store.aactivate, ORDERS)
        await call(store.aactivate, ORDERS)
        assert (await call(store.aregister, ORDERS)).deactivated_at is None

    @requires(Capability.ASSETS)
    async def test_unknown_assets(self, harness: Harness) -> None:
        """Refuse to deactivate, activate or delete an asset that nobody registered."""
        store = harness.store
        for operation in (store.adeactivate, store.aactivate, store.adelete_asset):
            for target in (ORDERS, AssetScope(name="misspelt"), AssetScope(asset_id=999_999)):
                with pytest.raises(AssetNotFoundError):
                    await harness.call(operation, target)

    @requires(Capability.ASSETS)
    async def test_sweep(self, harness: Harness) -> None:
        """Delete the state of assets that rest for the days of grace, not a tick before."""
        call = harness.call
        days = harness.retention / timedelta(days=1)
        async with harness.open_store(asset_grace_days=days) as store:
            for name, keys in (("orders", "abc"), ("report", "a"), ("active", "a"), ("empty", "")):
                await call(store.aregister, Asset(name))
                for key in keys:
                    await call(store.asset_state[Asset(name)].aset, key, 1)
            await call(store.task_state(TASK).aset, "key", 1)
            for name in ("orders", "empty"):
                await call(store.adeactivate, Asset(name))
            await harness.let_pass(harness.retention - harness.tick)
            await call(store.adeactivate, Asset("report"))
            report = await call(store.asweep_assets)
            assert (report.assets, report.deleted, report.skipped) == ((), 0, None)
            await harness.let_pass(harness.tick)
            for dry_run in (True, True, False):
                report = await call(store.asweep_assets, dry_run=dry_run)
                assert (report.assets, report.deleted, report.dry_run) == (("orders",), 3, dry_run)
                assert report.backend == type(harness.backend).__name__
            assert (await call(store.asweep_assets)).assets == ()
            for name in ("orders", "report", "empty"):
                await call(store.aactivate, Asset(name))
            swept = [
                await call(store.asset_state[Asset(name)].aget, "a") for name in ("orders", "report", "active", "empty")
            ]
            assert swept == [None, 1, 1, None]
            await call(store.asset_state[Asset("orders")].aset, "a", 2)
            assert await call(store.asset_state[Asset("orders")].aget, "a") == 2

    async def test_sweep_of_a_backend_without_assets(self, harness: Harness) -> None:
        """Report the backend by name as skipped where it does not deactivate assets."""
        report = await harness.call(harness.store.asweep_assets, dry_run=True)
        name = type(harness.backend).__name__
        assert (report.backend, report.assets, report.deleted, report.dry_run) == (name, (), 0, True)
        if harness.has(Capability.ASSETS):
            assert report.skipped is None
        else:
            assert name in (report.skipped or "")

    @requires(Capability.ASSETS)
    async def test_deleted(self, harness: Harness) -> None:
        """Delete the state with the asset; declared again, it is a new one."""
        call, store = harness.call, harness.store
        orders = store.asset_state[ORDERS]
        other = store.asset_state[Asset("other")]
        await call(other.aset, "key", "other")
        for _ in range(3):
            assert await call(orders.aget, "key") is None
            await call(orders.aset, "key", 1)
            before = await call(store.aregister, ORDERS)
            await call(store.adelete_asset, ORDERS)
            for scope in (before.scope, AssetScope(name="orders"), AssetScope(uri=ORDERS.uri)):
                with pytest.raises(AssetNotFoundError):
                    await call(store.asset_state[scope].aget, "key")
                with pytest.raises(AssetNotFoundError):
                    await call(store.asset_state[scope].aset, "key", 2)
            assert await call(orders.aget, "key") is None
            assert (await call(store.aregister, ORDERS)).scope != before.scope
        assert await call(other.aget, "key") == "other"

    @requires(Capability.ASSETS)
    async def test_deleted_while_inactive(self, harness: Harness) -> None:
        """Delete a deactivated asset; the name and the URI are free again."""
        call, store = harness.call, harness.store
        await call(store.asset_state[ORDERS].aset, "key", 1)
        await call(store.adeactivate, ORDERS)
        await call(store.adelete_asset, ORDERS)
        assert await call(store.asset_state[Asset("orders", uri="s3://new")].aget, "key") is None
        assert await call(store.asset_state[Asset("new", uri=ORDERS.uri)].aget, "key") is None

    @requires(Capability.ASSETS)
    async def test_deleted_behind_the_back_of_a_store(self, harness: Harness) -> None:
        """Find out in another store that an asset was deleted and registered anew."""
        call = harness.call
        async with harness.open_store() as one, harness.open_store() as other:
            mine = one.asset_state[ORDERS]
            await call(mine.aset, "key", 1)
            for number in range(2):
                await call(other.adelete_asset, ORDERS)
                await call(other.asset_state[ORDERS].aset, "key", number)
                assert await call(mine.aget, "key") == number
                assert await call(one.asset_state[ORDERS].aget, "key") == number
                await call(mine.aset, "key", 10)
                assert await call(other.asset_state[ORDERS].aget, "key") == 10
