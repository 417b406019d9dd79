"""Contract of registrations: names and URIs are each unique, and every spelling of an asset leads to one state."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
import pytest

from ..abc import Capability
from ..accessors import AssetStoreAccessor
from ..errors import AssetConflictError, AssetNotFoundError
from ..registration.carried import REGISTRY
from ..scopes import Asset, AssetScope
from .harness import ConformanceBase, Harness, requires

__all__ = ["RegistrationConformance"]

URI = "s3://warehouse/orders/"


class RegistrationConformance(ConformanceBase):
    """Hold a backend to the registration of assets."""

    async def test_name_first(self, harness: Harness) -> None:
        """Complete an asset known by its name with the first URI that is given."""
        call, state = harness.call, harness.store.asset_state
        spellings = [Asset("orders"), Asset("orders", uri=URI), Asset(uri=URI), Asset("orders")]
        for number, spelling in enumerate(spellings):
            assert await call(state[spelling].aget, "key", -1) == number - 1
            await call(state[spelling].aset, "key", number)
        record = await call(harness.store.aregister, Asset("orders"))
        assert (record.name, record.uri) == ("orders", URI)

    async def test_uri_first(self, harness: Harness) -> None:
        """Give an asset known by its URI the first name that is given."""
        call, state = harness.call, harness.store.asset_state
        record = await call(harness.store.aregister, Asset(uri=URI))
        assert (record.name, record.uri) == (URI, URI)
        spellings = [Asset(uri=URI), Asset("orders", uri=URI), Asset("orders"), Asset(uri=URI)]
        for number, spelling in enumerate(spellings):
            assert await call(state[spelling].aget, "key", -1) == number - 1
            await call(state[spelling].aset, "key", number)
        record = await call(harness.store.aregister, Asset(uri=URI))
        assert (record.name, record.uri) == ("orders", URI)

    async def test_the_uri_is_free_as_a_name_once_the_asset_has_one(self, harness: Harness) -> None:
        """Take an asset that is named like another's URI for another asset."""
        call, state = harness.call, harness.store.asset_state
        await call(state[Asset(uri=URI)].aset, "key", "orders")
        await call(harness.store.aregister, Asset("orders", uri=URI))
        assert await call(state[Asset(URI)].aget, "key") is None
        await call(state[Asset(URI)].aset, "key", "other")
        await call(state[Asset(URI, uri="other")].aset, "other key", "other")
        for spelling in (Asset("orders"), Asset(uri=URI), Asset("orders", uri=URI)):
            assert await call(state[spelling].aget_many, ["key", "other key"]) == {"key": "orders"}
        async with harness.open_store() as store:
            assert await call(store.asset_state[Asset(URI)].aget, "key") == "other"
            assert await call(store.asset_state[Asset(uri="other")].aget, "key") == "other"
            assert await call(store.asset_state[Asset(uri=URI)].aget, "key") == "orders"

    async def test_a_name_alone_never_overwrites_a_uri(self, harness: Harness) -> None:
        """Keep the URI when the name is registered without one."""
        await harness.call(harness.store.aregister, Asset("orders", uri=URI))
        record = await harness.call(harness.store.aregister, Asset("orders"))
        assert (record.name, record.uri) == ("orders", URI)

    async def test_conflicts(self, harness: Harness) -> None:
        """Refuse a name with another URI, and a URI under another name; leave both assets alone."""
        call, state = harness.call, harness.store.asset_state
        orders, report = Asset("orders", uri=URI), Asset("report", uri="s3://report")
        for number, asset in enumerate((orders, report)):
            await call(state[asset].aset, "key", number)
        await call(state[Asset("named")].aset, "key", 2)
        await call(state[Asset(uri="s3://unnamed")].aset, "key", 3)
        wrong = [Asset("orders", uri="s3://other"), Asset("other", uri=URI), Asset("orders", uri="s3://report")]
        wrong += [Asset("report", uri=URI), Asset("named", uri=URI), Asset("orders", uri="s3://unnamed")]
        wrong += [Asset("named", uri="s3://unnamed"), Asset(uri="orders")]
        for asset in wrong:
            with pytest.raises(AssetConflictError):
                await call(state[asset].aget, "key")
            with pytest.raises(AssetConflictError):
                await call(harness.store.aregister, asset)
        right = [orders, report, Asset("named"), Asset(uri="s3://unnamed"), Asset(uri=URI), Asset("report")]
        assert [await call(state[asset].aget, "key") for asset in right] == [0, 1, 2, 3, 0, 1]
        assert await call(state[Asset("other")].aget, "key") is None

    async def test_backend_gives_one_scope_per_asset(self, harness: Harness) -> None:
        """Give the same scope for every spelling of a complete asset, which works in every operation."""
        call, backend = harness.call, harness.backend
        spellings = [Asset("orders", uri=URI), Asset("orders"), Asset(uri=URI)]
        scopes = [await call(backend.aregister_asset, asset) for asset in spellings]
        assert len(set(scopes)) == 1
        await call(backend.aset, scopes[0], "key", "1")
        assert await call(backend.aget, scopes[0], "key") == "1"
        assert await call(harness.store.asset_state[scopes[0]].aget, "key") == 1
        assert await call(backend.aregister_asset, Asset("report")) not in scopes
        assert (await call(backend.aget_asset, scopes[0])).scope == scopes[0]

    async def test_stores_share_registrations(self, harness: Harness) -> None:
        """Resolve an asset in one store as in another, also where one completes it behind the other's back."""
        call = harness.call
        async with harness.open_store() as one, harness.open_store() as other:
            await call(one.asset_state[Asset(uri=URI)].aset, "key", 1)
            await call(other.asset_state[Asset("orders", uri=URI)].aset, "key", 2)
            assert await call(one.asset_state[Asset(uri=URI)].aget, "key") == 2
            assert await call(one.asset_state[Asset("orders")].aget, "key") == 2

    async def test_registered_at_once(self, harness: Harness) -> None:
        """Give those that register one asset at once the same scope."""
        scopes: list[AssetScope] = []

        async def register() -> None:
            scopes.append(await harness.call(harness.backend.aregister_asset, Asset("orders", uri=URI)))

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(register)
        assert len(scopes) == 4
        assert len(set(scopes)) == 1

    async def test_record(self, harness: Harness) -> None:
        """Keep what was said at the first registration."""
        call, store = harness.call, harness.store
        extra: dict[str, Any] = {"owner": "team-é", "nested": [{"a": None}]}
        record = await call(store.aregister, Asset("orders", group="tables", extra=extra))
        assert (record.name, record.uri, record.group, record.extra) == ("orders", "orders", "tables", extra)
        assert record.deactivated_at is None
        assert abs(record.created_at - harness.now) <= timedelta(minutes=1)
        assert (await call(store.aregister, Asset("orders"))).extra == extra
        plain = await call(store.aregister, Asset("plain"))
        assert (plain.group, plain.extra) == ("asset", {})
        for scope in (AssetScope(name="orders"), AssetScope(uri="orders"), AssetScope(name="orders", uri="orders")):
            assert await call(harness.backend.aget_asset, scope) == record
        for scope in (AssetScope(name="misspelt"), AssetScope(uri=URI), AssetScope(name="orders", uri=URI)):
            with pytest.raises(AssetNotFoundError):
                await call(harness.backend.aget_asset, scope)

    async def test_scopes_by_name_and_uri(self, harness: Harness) -> None:
        """Find a registered asset by its name, by its URI and by both, and by nothing else."""
        call, state = harness.call, harness.store.asset_state
        await call(state[Asset("orders", uri=URI)].aset, "key", 1)
        await call(state[Asset("plain")].aset, "key", 2)
        found = [AssetScope(name="orders"), AssetScope(uri=URI), AssetScope(name="orders", uri=URI)]
        assert [await call(state[scope].aget, "key") for scope in found] == [1, 1, 1]
        assert await call(state[AssetScope(uri="plain")].aget, "key") == 2
        for unknown in (
            *(AssetScope(name=URI), AssetScope(uri="orders"), AssetScope(name="orders", uri="plain")),
            *(AssetScope(name="Orders"), AssetScope(uri=URI[:-1]), AssetScope(asset_id=999_999)),
        ):
            await self._unknown(harness, state[unknown])

    async def _unknown(self, harness: Harness, state: AssetStoreAccessor) -> None:
        """Hold an unknown asset apart from an absent key, in every operation."""
        call = harness.call
        for operation in (state.aget, state.adelete):
            with pytest.raises(AssetNotFoundError):
                await call(operation, "key")
        with pytest.raises(AssetNotFoundError):
            await call(state.aset, "key", 1)
        with pytest.raises(AssetNotFoundError):
            await call(state.aclear)
        with pytest.raises(AssetNotFoundError):
            await call(state.aget_many, ["key"])
        with pytest.raises(AssetNotFoundError):
            await anext(state.awatch("key"))
        if harness.has(Capability.LISTING):
            with pytest.raises(AssetNotFoundError):
                await call(state.akeys)
        if harness.has(Capability.ENTRIES):
            with pytest.raises(AssetNotFoundError):
                await call(state.aget_entry, "key")
        if harness.has(Capability.COMMIT):
            with pytest.raises(AssetNotFoundError):
                await call(state.aset_many, {"key": 1})
        if harness.has(Capability.COMMIT | Capability.ENTRIES):
            with pytest.raises(AssetNotFoundError):
                await call(state.aupdate, "key", lambda before: before)
            with pytest.raises(AssetNotFoundError):
                await call(state.aadvance, "key", 1)

    async def test_backend_knows_unknown_assets(self, harness: Harness) -> None:
        """Refuse an unknown asset in the four operations where the backend keeps assets."""
        call, backend = harness.call, harness.backend
        scope = AssetScope(name="misspelt")
        if harness.has(Capability.ASSETS):
            for operation in (backend.aget, backend.adelete):
                with pytest.raises(AssetNotFoundError):
                    await call(operation, scope, "key")
            with pytest.raises(AssetNotFoundError):
                await call(backend.aset, scope, "key", "1")
            with pytest.raises(AssetNotFoundError):
                await call(backend.aclear, scope)
            with pytest.raises(AssetNotFoundError):
                await call(backend.aget_asset, scope)
        else:
            await call(backend.aset, scope, "key", "1")
            assert await call(backend.aget, scope, "key") == "1"

    async def test_no_asset_is_the_registry(self, harness: Harness) -> None:
        """Keep the state of an asset apart from registrations, whatever it is named."""
        call, state = harness.call, harness.store.asset_state
        await call(state[Asset("orders", uri=URI)].aset, "key", 1)
        registry = state[Asset(REGISTRY.name)]
        await call(registry.aset, "key", 2)
        await call(registry.aclear)
        async with harness.open_store() as store:
            assert await call(store.asset_state[Asset(uri=URI)].aget, "key") == 1
            assert await call(store.asset_state[Asset(REGISTRY.name)].aget, "key") is None

    @requires(Capability.ASSETS)
    async def test_ids_are_not_used_again(self, harness: Harness) -> None:
        """Give an asset an id that no asset before it had."""
        call, store = harness.call, harness.store
        last = 0
        for number in range(4):
            name = f"asset {number % 2}"
            record = await call(store.aregister, Asset(name))
            await call(store.adelete_asset, Asset(name))
            assert record.scope.asset_id is not None
            assert record.scope.asset_id > last
            last = record.scope.asset_id
