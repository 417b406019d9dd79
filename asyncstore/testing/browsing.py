"""Contract of looking around: every page in order, nothing twice, nothing that has expired."""

from __future__ import annotations

from typing import Any

from ..abc import Capability
from ..scopes import Asset, AssetScope, TaskScope
from .harness import TASK, ConformanceBase, Harness, requires

__all__ = ["BrowsingConformance"]

_NAMES = ["Z", "a", "a b", "zz", "é", "\ue000", "\U00010000"]


class BrowsingConformance(ConformanceBase):
    """Hold a backend to the listing of what is there."""

    @requires(Capability.BROWSING)
    async def test_assets_come_by_name_in_pages(self, harness: Harness) -> None:
        """List every registration once, deactivated ones too."""
        call, browser = harness.call, harness.store.browser
        assert await call(browser.alist_assets) == []
        for name in reversed(_NAMES):
            await call(harness.store.aregister, Asset(name, uri=f"s3://{name}", group="g", extra={"n": name}))
        await call(harness.store.adeactivate, Asset("zz"))
        found = await call(browser.alist_assets)
        assert [each.name for each in found] == _NAMES
        assert [each.deactivated_at is not None for each in found] == [name == "zz" for name in _NAMES]
        assert (found[0].uri, found[0].group, found[0].extra) == ("s3://Z", "g", {"n": "Z"})
        for size in (1, 3, 100):
            pages: list[str] = []
            while page := await call(browser.alist_assets, after=pages[-1] if pages else "", limit=size):
                assert len(page) <= size
                pages += [each.name for each in page]
            assert pages == _NAMES
        assert await call(browser.alist_assets, limit=0) == []

    @requires(Capability.BROWSING)
    async def test_an_asset_is_described(self, harness: Harness) -> None:
        """Count what hangs on an asset, and on no other; a rested one can be described."""
        call, browser = harness.call, harness.store.browser
        orders = Asset("orders", uri="s3://orders")
        await call(harness.asset("other").aset, "key", 1)
        await call(harness.store.asset_state[orders].aset_many, {"a": 1, "b": 2})
        for _ in range(2):
            await call(harness.store.adeactivate, orders)
            for scope in (AssetScope(name="orders"), AssetScope(uri="s3://orders"), orders):
                found = await call(browser.adescribe_asset, scope)
                assert found.record.name == "orders"
                assert found.record.deactivated_at is not None
                assert (found.keys, found.events, found.watchers, found.consumers) == (2, 0, 0, 0)

    @requires(Capability.BROWSING)
    async def test_entries_come_with_what_is_known_of_them(self, harness: Harness) -> None:
        """List keys in pages with versions, times, writers and sizes; texts where they are asked for."""
        call, browser = harness.call, harness.store.browser
        values = {"a": 1, "ab": "zwei \u2713", "abc": {"drei": [3]}, "b": 0.5, "é": True}
        for state, scope in ((harness.task(), TASK), (harness.asset(), AssetScope(name="orders"))):
            await call(state.aget, "a")  # registers
            assert await call(browser.alist_entries, scope) == []
            for key, value in values.items():
                await call(state.aset, key, value)
            found = await call(browser.alist_entries, scope, values=True)
            assert [each.key for each in found] == list(values)
            for each in found:
                entry = await call(state.aget_entry, each.key)
                assert entry is not None
                known = (each.version, each.updated_at, each.expires_at, each.updated_by)
                assert known == (entry.version, entry.updated_at, entry.expires_at, entry.updated_by)
                assert (each.text is None) == (each.reference is not None)
            sizes = {each.key: each.size for each in await call(browser.alist_entries, scope, "a")}
            assert sizes == {"a": 1, "ab": 10, "abc": 12}
            assert all(each.text is None for each in await call(browser.alist_entries, scope))
            pages: list[str] = []
            while page := await call(browser.alist_entries, scope, after=pages[-1] if pages else "", limit=2):
                pages += [each.key for each in page]
            assert pages == list(values)

    @requires(Capability.BROWSING)
    async def test_tasks_come_with_what_they_have(self, harness: Harness) -> None:
        """List the task instances that have state that has not expired, in pages, all or some."""
        call, browser = harness.call, harness.store.browser
        parts = [("d", "r1", "t", -1), ("d", "r1", "t", 0), ("e", "r1", "t", 0), ("d", "r1", "u", -1)]
        parts += [("d", "r2", "t", -1), ("d", "é", "t", 3)]
        scopes = [TaskScope(*each) for each in parts]
        for scope in reversed(scopes):
            await call(harness.task(scope).aset_many, {"a": 1, "b": 2}, retention=harness.retention * 4)
        gone = TaskScope("d", "r1", "gone")
        await call(harness.task(gone).aset, "a", 1, retention=harness.retention)
        await call(harness.task(scopes[0]).aset, "c", 3, retention=harness.retention)
        await harness.let_pass(harness.retention)
        found = await call(browser.alist_tasks)
        assert [(each.scope, each.keys) for each in found] == [(scope, 2) for scope in scopes]
        entry = await call(harness.task(scopes[0]).aget_entry, "b")
        assert entry is not None
        assert found[0].updated_at == entry.updated_at
        for size in (1, 4):
            pages: list[TaskScope] = []
            while page := await call(browser.alist_tasks, after=pages[-1] if pages else None, limit=size):
                pages += [each.scope for each in page]
            assert pages == scopes
        cases: list[tuple[dict[str, Any], list[TaskScope]]] = [
            ({"run_id": "r1"}, scopes[:4]),
            ({"dag_id": "d", "run_id": "r1"}, [*scopes[:2], scopes[3]]),
            ({"dag_id": "d", "run_id": "r1", "task_id": "t"}, scopes[:2]),
            ({"dag_id": "e"}, [scopes[2]]),
            ({"dag_id": "none"}, []),
        ]
        for wanted, expected in cases:
            assert [each.scope for each in await call(browser.alist_tasks, **wanted)] == expected
