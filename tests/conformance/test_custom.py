from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asyncstore import (
    Asset,
    AssetScope,
    BaseStoreBackend,
    BlockingCallWarning,
    Capability,
    CleanupReport,
    ConfigurationError,
    ManualClock,
    MemoryBackend,
    Scope,
    Settings,
    Store,
    StoreError,
    TaskScope,
    connect,
)
from asyncstore.blocking import inline
from tests.conformance.backends import DirectBackend, MinimalBackend, UntimedBackend

TASK = TaskScope("dag", "run", "task")
ORDERS = Asset("orders", uri="s3://warehouse/orders/")


def open_store(backend: BaseStoreBackend) -> Store:
    return connect(backend=backend, settings=Settings())


def use(store: Store) -> None:
    state = store.task_state(TASK)
    state.set("a", 1)
    assert state.get("a") == 1
    assert state.get_many(["a", "b"]) == {"a": 1}
    state.delete("a")
    state.clear(all_map_indices=True)
    orders = store.asset_state[ORDERS]
    orders.set("a", 2)
    assert orders.get("a") == 2
    assert store.asset_state[AssetScope(uri=ORDERS.uri)].get("a") == 2
    orders.clear()
    with store.task_context(TASK, inlets=[ORDERS]) as context:
        assert context.asset_state.get("a") is None


def test_a_backend_that_defines_its_own_sync_four_keeps_them() -> None:
    backend = DirectBackend()
    with open_store(backend) as store:
        use(store)
    assert set(backend.calls) == {"get", "set", "delete", "clear"}


def test_its_own_sync_four_run_on_the_calling_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    get = DirectBackend.get

    def look(self: DirectBackend, *args: Any, **kwargs: Any) -> str | None:
        threads.add(threading.get_ident())
        return get(self, *args, **kwargs)

    monkeypatch.setattr(DirectBackend, "get", look)
    with open_store(DirectBackend()) as store:
        use(store)
    assert threads == {threading.get_ident()}


def test_a_backend_that_defines_only_the_coroutines_gets_sync_shims() -> None:
    backend = MinimalBackend()
    backend.set(TASK, "a", "1")
    assert backend.get(TASK, "a") == "1"
    backend.delete(TASK, "a")
    backend.clear(TASK, all_map_indices=True)
    assert backend.calls == ["aset", "aget", "adelete", "aclear"]
    with open_store(backend) as store:
        use(store)
    assert set(backend.calls) == {"aset", "aget", "adelete", "aclear"}


@pytest.mark.anyio
async def test_the_loop_takes_the_coroutines() -> None:
    backend = DirectBackend()
    async with open_store(backend) as store:
        await store.task_state(TASK).aset("a", 1)
        await store.asset_state[ORDERS].aset("a", 2)
        assert await store.asset_state[ORDERS].aget("a") == 2
        await store.task_state(TASK).adelete("a")
        await store.task_state(TASK).aclear()
    assert set(backend.calls) == {"aset", "aget", "adelete", "aclear"}


@pytest.mark.anyio
async def test_sync_calls_on_the_loop_warn_once_per_call_site() -> None:
    async with open_store(MinimalBackend()) as store:
        state = store.task_state(TASK)
        with pytest.warns(BlockingCallWarning, match="await the async twin") as warned:
            assert [state.get("a") for _ in range(3)] == [None] * 3
        assert [warning.filename for warning in warned] == [__file__]
        with pytest.warns(BlockingCallWarning):
            state.set("a", 1)
        assert await state.aget("a") == 1


@pytest.mark.anyio
async def test_sync_calls_on_the_loop_warn_with_our_own_backends_too() -> None:
    async with open_store(MemoryBackend()) as store:
        with pytest.warns(BlockingCallWarning):
            store.task_state(TASK).set("a", 1)


def test_an_update_calls_its_function_as_a_caller_would() -> None:
    with open_store(MemoryBackend()) as store:
        assert store.task_state(TASK).update("a", lambda _: inline()) is False


class TestCleanup:
    class Sync(MinimalBackend):
        def cleanup(self) -> int:
            self.rows.clear()
            return 3

    class Async(MinimalBackend):
        async def acleanup(self, **options: Any) -> CleanupReport:
            self.rows.clear()
            return CleanupReport("mine", 5, dry_run=False)

    @pytest.mark.parametrize(("kind", "name", "deleted"), [(Sync, "Sync", 3), (Async, "mine", 5)])
    def test_a_cleanup_of_its_own_runs(self, kind: Callable[[], MinimalBackend], name: str, deleted: int) -> None:
        backend = kind()
        with open_store(backend) as store:
            store.task_state(TASK).set("a", 1)
            report = store.cleanup()
        assert (report.backend, report.deleted, report.skipped) == (name, deleted, None)
        assert backend.rows == {}

    @pytest.mark.anyio
    @pytest.mark.parametrize("kind", [Sync, Async])
    async def test_it_is_not_tried_without_deleting(self, kind: Callable[[], MinimalBackend]) -> None:
        backend = kind()
        async with open_store(backend) as store:
            await store.task_state(TASK).aset("a", 1)
            assert (await store.acleanup(dry_run=True)).skipped
            assert len(backend.rows) == 1
            assert (await store.acleanup()).skipped is None
        assert backend.rows == {}


def test_commit_needs_expiry() -> None:
    class Wrong(MinimalBackend):
        capabilities = Capability.COMMIT | Capability.ENTRIES

    with pytest.raises(ConfigurationError, match=r"Wrong.*COMMIT.*EXPIRY"), open_store(Wrong()):
        pass


def test_an_expiry_survives_the_store() -> None:
    clock = ManualClock()
    backend = UntimedBackend(clock)
    with connect(backend=backend, settings=Settings(), clock=clock) as store:
        store.task_state(TASK).set("a", 1, retention=timedelta(hours=1))
    with connect(backend=backend, settings=Settings(), clock=clock) as store:
        assert store.task_state(TASK).get("a") == 1
        clock.advance(timedelta(hours=1))
        assert store.task_state(TASK).get("a") is None
        assert store.task_state(TASK).keys() == []


def test_canonical_scopes_reach_the_backend() -> None:
    backend = MinimalBackend()
    with open_store(backend) as store:
        spellings: list[Asset | AssetScope] = [
            Asset(uri=ORDERS.uri),
            ORDERS,
            Asset("orders"),
            AssetScope(uri=ORDERS.uri),
        ]
        for number, spelling in enumerate((*spellings, AssetScope(name="orders"))):
            store.asset_state[spelling].set(f"key {number}", number)
    scopes = {scope for scope, key in backend.rows if key.startswith("key ")}
    assert scopes == {AssetScope(name=ORDERS.uri)}  # the name by which it was first known


def test_a_backend_with_registrations_of_its_own_keeps_them() -> None:
    class Own(MinimalBackend):
        async def aregister_asset(self, asset: Asset) -> AssetScope:
            return AssetScope(name=asset.name.upper())

    backend = Own()
    with open_store(backend) as store:
        store.asset_state[ORDERS].set("a", 1)
        store.asset_state[AssetScope(name="as it is")].set("a", 1)
        with pytest.raises(StoreError, match=r"Own.*Capability\.ASSETS"):
            store.register(ORDERS)
    assert {scope for scope, _ in backend.rows} == {AssetScope(name="ORDERS"), AssetScope(name="as it is")}


@pytest.mark.anyio
async def test_one_asset_that_is_registered_at_once_has_one_scope() -> None:
    written = anyio.Event()

    class Slow(MinimalBackend):
        looks = 0

        async def aget(self, scope: Scope, key: str, *, session: Any = None) -> str | None:
            if key.startswith("canonical:"):
                self.looks += 1
                if self.looks == 1:
                    await written.wait()  # until the other has registered the asset that was not there before
            return await super().aget(scope, key)

    backend = Slow()
    scopes: list[AssetScope] = []

    async def register() -> None:
        scopes.append(await backend.aregister_asset(ORDERS))

    async with anyio.create_task_group() as group:
        group.start_soon(register)
        while not backend.looks:
            await checkpoint()
        await register()
        written.set()
    assert scopes == [AssetScope(name="orders")] * 2
