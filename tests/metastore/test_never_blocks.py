"""No operation blocks the event loop: a detector fails whatever waits for a file, a lock or a socket on it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from blockbuster import BlockBuster, BlockingError, blockbuster_ctx

import asyncstore
from asyncstore import Asset, AssetScope, Event, ManualClock, MetastoreBackend, Store, TaskScope, connect
from asyncstore.backends.metastore.sqlite import opened
from asyncstore.backends.metastore.sqlite.lane import Lane
from asyncstore.backends.metastore.sqlite.target import Target
from asyncstore.records import WatcherState

from .support import TASK, locked

pytestmark = pytest.mark.anyio

ORDERS = Asset("orders", uri="s3://bucket/orders")


@pytest.fixture(autouse=True)
def detector() -> Iterator[BlockBuster]:
    """Fail every blocking call on an event loop that has a frame of these packages below it."""
    with blockbuster_ctx(["asyncstore", "triggers"]) as found:
        yield found


async def everything(store: Store, clock: ManualClock) -> None:
    await every_accessor(store)
    await every_operation(store, clock)
    await every_watcher(store)
    backend = store.backend
    assert isinstance(backend, MetastoreBackend)
    assert await backend.arevision()
    await backend.aupgrade()


async def every_accessor(store: Store) -> None:
    for state in (store.task_state(TASK), store.asset_state[ORDERS]):
        await state.aset("key", 1)
        assert await state.aget("key") == 1
        assert await state.aget_entry("key")
        await state.aset_many({"a": 1, "b": 2})
        assert await state.aget_many(["a", "b", "c"]) == {"a": 1, "b": 2}
        assert await state.akeys() == ["a", "b", "key"]
        assert await state.aupdate("key", lambda value: value + 1) == 2
        assert await state.aadvance("key", 3)
        async with aclosing(cast("AsyncGenerator[Any]", state.awatch("key"))) as values:
            assert await anext(values) == 3
            await state.aset("key", 4)
            assert await anext(values) == 4
        await state.adelete("a")
        await state.aclear()


async def every_operation(store: Store, clock: ManualClock) -> None:
    mapped = TaskScope("dag", "run", "task", 3)
    await store.task_state(mapped).aset("key", 1, retention=timedelta(seconds=1))
    await store.task_state(mapped).aclear(all_map_indices=True)
    async with store.task_context(mapped, inlets=[ORDERS], outlets=[Asset("report")]) as context:
        await context.task_state.aset("key", 1, retention=timedelta(seconds=1))
        await context.asset_state[ORDERS].aset("key", 1)
    await store.task_state(TASK).aset("key", 1)
    clock.advance(timedelta(seconds=2))
    assert (await store.acleanup(dry_run=True, on_batch=lambda _: None)).deleted == 1
    assert (await store.acleanup()).deleted == 1
    assert await store.adelete_run("dag", "run") == 1
    assert (await store.aregister(ORDERS)).name == "orders"
    await store.adeactivate(ORDERS)
    clock.advance(timedelta(days=8))
    assert (await store.asweep_assets(dry_run=True)).deleted == 1
    assert (await store.asweep_assets()).deleted == 1
    await store.aactivate(ORDERS)
    await store.adelete_asset(Asset("report"))


async def every_watcher(store: Store) -> None:
    watcher = await store.aclaim_watcher(ORDERS, "new-orders", owner="test")
    await watcher.acommit(await watcher.prepare({"id": 1}, "key", {"watermark": 1}))
    await watcher.areport(WatcherState.DONE, error="none")
    assert len(await store.alist_watchers()) == 1
    assert len(await store.events(ORDERS).alist()) == 1
    log = store.events(AssetScope(name="orders"))
    async with aclosing(cast("AsyncGenerator[Event]", log.__aiter__())) as events:
        assert (await anext(events)).key == "key"


async def test_on_a_new_file(url: str) -> None:
    clock = ManualClock()
    async with connect(url, clock=clock) as store:
        await everything(store, clock)


async def test_in_memory() -> None:
    clock = ManualClock()
    async with connect("sqlite://", clock=clock) as store:
        await every_accessor(store)
        await every_operation(store, clock)
        await every_watcher(store)


async def test_on_a_backend_that_opens_at_its_first_call(url: str) -> None:
    backend = MetastoreBackend(url)
    try:
        await backend.aset(TASK, "key", "1")
        assert await backend.aget(TASK, "key") == "1"
    finally:
        await backend.aclose()


async def test_while_somebody_holds_the_lock(url: str, path: Path) -> None:
    async with connect(url) as store:
        state = store.task_state(TASK)
        await state.aset("key", 1)
        with locked(path):
            writing = [asyncio.create_task(state.aset("key", value)) for value in range(10)]
            assert await state.aget("key") == 1
        await asyncio.gather(*writing)
        with locked(path):
            writing = [asyncio.create_task(state.aset("key", 1)) for _ in range(10)]
            assert await state.aget("key") == 9
            for task in writing:
                task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
        assert await state.aget("key") in {1, 9}


async def test_while_closing_under_way(url: str) -> None:
    store = connect(url)
    await store.__aenter__()
    writing = [asyncio.create_task(store.task_state(TASK).aset("key", value)) for value in range(20)]
    await asyncio.sleep(0)
    await store.__aexit__(None, None, None)
    results = await asyncio.gather(*writing, return_exceptions=True)
    assert all(result is None or isinstance(result, asyncstore.StoreClosedError) for result in results)


class _OnTheLoop(Lane):
    """A lane that forgot its thread."""

    def send(self, function: Callable[[], object]) -> None:
        function()


def no_identity(_: Target) -> None:
    return None


async def test_the_detector_bites(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "Lane", _OnTheLoop)
    async with connect(url) as store:
        with pytest.raises(BlockingError, match=r"os\.stat"):
            await store.task_state(TASK).aget("key")
    monkeypatch.setattr(Target, "identity", no_identity)
    async with connect(url) as store:
        with pytest.raises(BlockingError, match=r"sqlite3\.(Connection|Cursor)\.execute"):
            await store.task_state(TASK).aget("key")
        with pytest.raises(BlockingError, match=r"sqlite3\.(Connection|Cursor)\.execute"):
            await store.task_state(TASK).aset("key", 1)


async def test_the_detector_leaves_the_user_alone(tmp_path: Path) -> None:
    # It looks below asyncstore only: what a test does on its own loop is its own affair.
    raw = sqlite3.connect(tmp_path / "own.db")
    raw.execute("CREATE TABLE t (a)")
    raw.close()
