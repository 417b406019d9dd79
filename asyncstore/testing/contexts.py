"""Contract of the context of a task attempt."""

from __future__ import annotations

import pytest

from ..abc import Capability
from ..errors import StoreError
from ..scopes import Asset, AssetScope, TaskScope
from .harness import TASK, ConformanceBase, Harness

__all__ = ["ContextConformance"]

ORDERS = Asset("orders", uri="s3://warehouse/orders/")
REPORT = Asset("report")


class ContextConformance(ConformanceBase):
    """Hold a backend to what one attempt of a task sees."""

    async def test_context(self, harness: Harness) -> None:
        """Give the state of the task and of the assets that it declares, written in its name."""
        call, store = harness.call, harness.store
        context = store.task_context(TASK, inlets=[ORDERS], outlets=[REPORT])
        with pytest.raises(StoreError, match="enter"):
            _ = context.asset_state
        await call(context.__aenter__)
        assert context["task_state"] is context.task_state
        assert context["asset_state"] is context.asset_state
        await call(context.task_state.aset, "key", 1)
        for asset in (ORDERS, Asset("orders"), Asset(uri=ORDERS.uri), AssetScope(name="orders")):
            await call(context.asset_state[asset].aset, "key", asset.name or "")
            assert await call(store.asset_state[ORDERS].aget, "key") == (asset.name or "")
        await call(context.asset_state[REPORT].aset, "key", "report")
        if harness.has(Capability.ENTRIES | Capability.COMMIT):
            for state in (harness.task(), store.asset_state[ORDERS]):
                entry = await call(state.aget_entry, "key")
                assert entry is not None
                assert entry.updated_by == f"task:{TASK.ti_id}"
        await call(context.__aexit__, None, None, None)
        assert await call(harness.task().aget, "key") == 1
        assert await call(store.asset_state[REPORT].aget, "key") == "report"

    async def test_only_declared_assets(self, harness: Harness) -> None:
        """Refuse an asset that the task did not declare."""
        context = harness.store.task_context(TASK, inlets=[ORDERS])
        await harness.call(context.__aenter__)
        for asset in (REPORT, AssetScope(name="report"), AssetScope(uri="s3://other"), AssetScope(asset_id=999_999)):
            with pytest.raises(KeyError, match="declare"):
                context.asset_state[asset]
        await harness.call(context.__aexit__, None, None, None)

    async def test_an_asset_that_gets_its_name_meanwhile(self, harness: Harness) -> None:
        """Go on with an asset that was declared by its URI alone, by whatever it is called now."""
        call, store, named = harness.call, harness.store, Asset("named later", uri="s3://later")
        context = store.task_context(TASK, inlets=[Asset(uri="s3://later")])
        await call(context.__aenter__)
        await call(context.asset_state.aset, "key", 1)
        await call(store.aregister, named)
        for state in (context.asset_state, context.asset_state[named], context.asset_state[Asset(uri="s3://later")]):
            await call(state.aset, "key", 1 + await call(store.asset_state[named].aget, "key"))
        with pytest.raises(KeyError, match="declare"):
            context.asset_state[Asset("named later", uri="s3://other")]
        await call(context.__aexit__, None, None, None)
        assert await call(store.asset_state[named].aget, "key") == 4

    async def test_one_asset_needs_no_subscript(self, harness: Harness) -> None:
        """Stand for the only asset, however it is spelt; for none of several."""
        call, store = harness.call, harness.store
        for inlets, outlets in (([Asset(uri=ORDERS.uri)], [ORDERS]), ([ORDERS], [ORDERS]), ([ORDERS], [])):
            context = store.task_context(TASK, inlets=inlets, outlets=outlets)
            await call(context.__aenter__)
            before = await call(context.asset_state.aget, "watermark", 0)
            await call(context.asset_state.aset, "watermark", before + 1)
            await call(context.__aexit__, None, None, None)
        assert await call(store.asset_state[ORDERS].aget, "watermark") == 3
        for assets in ([], [ORDERS, REPORT]):
            context = store.task_context(TASK, inlets=assets)
            await call(context.__aenter__)
            with pytest.raises(ValueError, match="subscript"):
                await call(context.asset_state.aget, "watermark")
            with pytest.raises(ValueError, match="subscript"):
                await call(context.asset_state.aset, "watermark", 1)
            await call(context.__aexit__, None, None, None)

    async def test_a_retry_sees_what_was_stored(self, harness: Harness) -> None:
        """Keep the task's state when the block ends, with an exception and without."""
        call = harness.call
        for attempt, error in enumerate((RuntimeError("failed"), None)):
            context = harness.store.task_context(TASK)
            await call(context.__aenter__)
            assert await call(context.task_state.aget, "attempt", -1) == attempt - 1
            await call(context.task_state.aset, "attempt", attempt)
            await call(context.__aexit__, None if error is None else type(error), error, None)
        assert await call(harness.task().aget, "attempt") == 1

    async def test_clear_on_success(self, harness: Harness) -> None:
        """Clear the task's state at a good end where that is set; asset state never."""
        call = harness.call
        async with harness.open_store(clear_on_success=True) as store:
            for error in (RuntimeError("failed"), None):
                context = store.task_context(TASK, outlets=[ORDERS])
                await call(context.__aenter__)
                await call(context.task_state.aset, "key", 1)
                await call(context.asset_state.aset, "key", 2)
                await call(context.__aexit__, None if error is None else type(error), error, None)
                assert await call(store.task_state(TASK).aget, "key") == (None if error is None else 1)
                assert await call(store.asset_state[ORDERS].aget, "key") == 2

    async def test_mapped_tasks(self, harness: Harness) -> None:
        """Give each map index a state of its own; clear one, or all of the task whichever is asked."""
        call = harness.call
        scopes = [TaskScope("dag", "run", "task", index) for index in (-1, 0, 1, 10)]
        contexts = [harness.store.task_context(scope, outlets=[ORDERS]) for scope in scopes]

        async def read() -> list[int | None]:
            return [await call(harness.task(scope).aget, "key") for scope in scopes]

        async def write() -> None:
            for context, scope in zip(contexts, scopes, strict=True):
                await call(context.__aenter__)
                await call(context.task_state.aset, "key", scope.map_index)
                await call(context.asset_state.aset, f"of {scope.map_index}", scope.map_index)

        await write()
        assert await read() == [-1, 0, 1, 10]
        await call(contexts[2].task_state.aclear)
        assert await read() == [-1, 0, None, 10]
        await call(contexts[2].task_state.aclear, all_map_indices=True)
        assert await read() == [None] * 4
        await write()
        await call(harness.task(scopes[0]).aclear, all_map_indices=True)
        assert await read() == [None] * 4
        shared = harness.store.asset_state[ORDERS]
        assert [await call(shared.aget, f"of {scope.map_index}") for scope in scopes] == [-1, 0, 1, 10]

    async def test_a_mapped_task_that_succeeds(self, harness: Harness) -> None:
        """Clear the state of this map index only, where state is cleared on success."""
        call, scopes = harness.call, [TaskScope("dag", "run", "task", index) for index in range(3)]
        async with harness.open_store(clear_on_success=True) as store:
            for scope in scopes:
                await call(store.task_state(scope).aset, "key", scope.map_index)
            async with store.task_context(scopes[1]):
                pass
            assert [await call(store.task_state(scope).aget, "key") for scope in scopes] == [0, None, 2]
