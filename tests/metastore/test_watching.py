"""`awatch`: the last state is never missed, whoever wrote it, and one task looks for all."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from asyncstore import (
    Asset,
    AssetInactiveError,
    AssetNotFoundError,
    ManualClock,
    MemoryBackend,
    MetastoreBackend,
    Store,
    StoreClosedError,
    StoreUnavailableError,
    TaskScope,
    connect,
)
from asyncstore.accessors.base import StateAccessor
from asyncstore.backends import watching
from asyncstore.changes import Clear, Commit, Put
from asyncstore.scopes import AssetScope

from .support import PATIENCE, TASK, Child, Connections

pytestmark = pytest.mark.anyio

ORDERS = Asset("orders", uri="s3://bucket/orders")
Values = AsyncGenerator[Any, None]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "INTERVAL", 0.001)


@pytest.fixture
def seldom(often: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for other processes so seldom that it cannot matter."""
    del often
    monkeypatch.setattr(watching, "INTERVAL", 2 * PATIENCE)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["file", "memory", "dict"])
async def store(request: pytest.FixtureRequest, url: str, clock: ManualClock) -> AsyncIterator[Store]:
    if request.param == "dict":
        opened = connect(backend=MemoryBackend(clock=clock), clock=clock)
    else:
        opened = connect(url if request.param == "file" else "sqlite://", clock=clock)
    async with opened as store:
        yield store
    assert pollers() == []


def watch(state: StateAccessor, key: str = "key") -> aclosing[Values]:
    return aclosing(cast("Values", state.awatch(key)))


def pollers() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if "poller" in task.get_name() and not task.cancelling()]


async def following(values: Values) -> Any:
    """Read the next value, which must come."""
    async with asyncio.timeout(PATIENCE):
        return await anext(values)


async def until(values: Values, wanted: Callable[[Any], bool]) -> list[Any]:
    """Read until a value is the wanted one; gives all that were read."""
    seen: list[Any] = []
    async with asyncio.timeout(PATIENCE):
        async for value in values:
            seen.append(value)
            if wanted(value):
                return seen
    raise AssertionError("the watch ended")


async def test_what_is_there_and_what_comes(store: Store) -> None:
    for state in (store.task_state(TASK), store.asset_state[ORDERS]):
        async with watch(state) as values:
            assert await following(values) is None
            await state.aset("key", 1)
            assert await following(values) == 1
            await state.aset("key", 1)  # every write counts
            assert await following(values) == 1
            await state.adelete("key")
            assert await following(values) is None
            await state.aset_many({"key": 2, "other": 3})
            assert await following(values) == 2
            await state.aclear()
            assert await following(values) is None
        assert pollers() == []


async def test_the_last_of_many_writes_is_never_missed(store: Store, seldom: None) -> None:
    state = store.task_state(TASK)
    for _ in range(5):
        async with watch(state) as values:
            await following(values)
            writes = [asyncio.create_task(state.aupdate("key", lambda n: n + 1, default=0)) for _ in range(20)]
            last = 0
            while last < 20:
                value = await following(values)
                assert value > last
                last = value
            await asyncio.gather(*writes)
        await state.adelete("key")


async def test_every_moment_of_a_write(url: str, connections: Connections, seldom: None) -> None:
    """Write while the watch reads: before its statement, after it, and between the read and the wait."""
    async with connect(url) as store:
        state = store.task_state(TASK)
        await state.aset("key", 0)
        reader = connections.opened[1]
        for moment in ("before", "after"):
            written = 0

            def write(sql: str) -> None:
                nonlocal written
                if sql.startswith("SELECT") and written < 3:
                    written += 1
                    state.set("key", written)

            async with watch(state) as values:
                setattr(reader, moment, write)
                await until(values, lambda value: value == 3)
                setattr(reader, moment, None)
            await state.aset("key", 0)


async def test_a_write_whose_writer_was_cancelled_is_seen(url: str, connections: Connections, seldom: None) -> None:
    async with connect(url) as store:
        state = store.task_state(TASK)
        await state.aset("key", "old")
        loop = asyncio.get_running_loop()
        async with watch(state) as values:
            assert await following(values) == "old"
            waiting = asyncio.ensure_future(anext(values))
            await first_look(store, connections)
            go = threading.Event()

            def wait(sql: str) -> None:
                if sql == "COMMIT":
                    loop.call_soon_threadsafe(task.cancel)
                    assert go.wait(PATIENCE)

            connections.opened[0].before = wait
            task = asyncio.create_task(state.aset("key", "new"))
            await asyncio.wait([task])
            assert task.cancelled()
            connections.opened[0].before = None
            go.set()
            async with asyncio.timeout(PATIENCE):
                assert await waiting == "new"


async def first_look(store: Store, connections: Connections) -> None:
    """Let the poller look for the first time, which wakes everybody once, and those who wait read."""
    async with asyncio.timeout(PATIENCE):
        while "PRAGMA data_version" not in connections.statements:  # noqa: ASYNC110 - said by another thread
            await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.sleep(0)
        await store.backend.aget(TASK, "none")  # behind theirs in the queue


async def test_another_process_commits(url: str) -> None:
    writer = """
from asyncstore import TaskScope, connect
with connect(sys.argv[1]) as store:
    state = store.task_state(TaskScope("dag", "run", "task"))
    say("ready")
    while True:
        value = hear()
        state.delete("key") if value is None else state.set("key", value)
        say("done")
"""
    async with connect(url) as store:
        with Child(writer, url) as child:
            assert await asyncio.to_thread(child.hear) == "ready"
            async with watch(store.task_state(TASK)) as values:
                assert await following(values) is None
                for value in (1, 2, None, "three"):
                    child.say(value)
                    assert (await until(values, lambda found, value=value: found == value))[-1] == value  # type: ignore[misc]


async def test_another_store_and_another_thread_write(url: str) -> None:
    async with connect(url) as store, connect(url) as other, watch(store.task_state(TASK)) as values:
        await following(values)
        await other.task_state(TASK).aset("key", 1)
        assert (await until(values, lambda value: value == 1))[-1] == 1
        await asyncio.to_thread(store.task_state(TASK).set, "key", 2)
        assert (await until(values, lambda value: value == 2))[-1] == 2


async def test_values_expire(store: Store, clock: ManualClock) -> None:
    state = store.task_state(TASK)
    await state.aset("key", 1, retention=timedelta(seconds=10))
    async with watch(state) as values:
        assert await following(values) == 1
        waiting = asyncio.ensure_future(anext(values))
        clock.advance(timedelta(seconds=9))
        await state.aset("key", 2, retention=timedelta(seconds=10))
        assert await waiting == 2
        waiting = asyncio.ensure_future(anext(values))
        clock.advance(timedelta(seconds=9))
        await asyncio.sleep(0.005)
        assert not waiting.done()
        clock.advance(timedelta(seconds=1))
        async with asyncio.timeout(PATIENCE):
            assert await waiting is None


async def test_an_asset_that_is_deactivated_or_deleted(store: Store, seldom: None) -> None:
    state = store.asset_state[AssetScope(name="orders")]
    changes: list[tuple[Callable[[], Any], type[Exception]]] = [
        (lambda: store.adeactivate(ORDERS), AssetInactiveError),
        (lambda: store.adelete_asset(ORDERS), AssetNotFoundError),
    ]
    for change, error in changes:
        await store.aregister(ORDERS)
        await store.aactivate(ORDERS)
        async with watch(state) as values:
            assert await following(values) is None
            waiting = asyncio.ensure_future(anext(values))
            await asyncio.sleep(0)
            await change()
            with pytest.raises(error):
                async with asyncio.timeout(PATIENCE):
                    await waiting


async def test_several_hundred_watches_share_one_poller(url: str, connections: Connections) -> None:
    async with connect(url) as store, AsyncExitStack() as stack:
        scopes = [TaskScope("dag", "run", "task", index) for index in range(300)]
        watches = [await stack.enter_async_context(watch(store.task_state(scope))) for scope in scopes]
        assert await asyncio.gather(*(anext(values) for values in watches)) == [None] * 300
        assert pollers() == ["asyncstore watch poller"]
        waiting = [asyncio.ensure_future(anext(values)) for values in watches]
        await store.task_state(scopes[7]).aset("key", 1)
        assert await waiting[7] == 1
        assert not any(each.done() for each in (*waiting[:7], *waiting[8:]))
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
    assert pollers() == []
    assert connections.all_closed()


async def test_a_write_wakes_only_those_whom_it_concerns(url: str, connections: Connections, seldom: None) -> None:
    async with connect(url) as store, AsyncExitStack() as stack:
        states: list[StateAccessor] = [store.task_state(TaskScope("dag", "run", "task", n)) for n in range(10)]
        states += [store.asset_state[Asset(f"asset-{n}")] for n in range(10)]
        watches = [await stack.enter_async_context(watch(state)) for state in states]
        for values in watches:
            await following(values)
        waiting = [asyncio.ensure_future(anext(values)) for values in watches]
        await first_look(store, connections)
        for number, write in ((3, states[3].aset), (14, states[14].aset)):  # type: ignore[attr-defined]
            with connections.counting() as statements:
                await write("key", 1)
                assert await waiting[number] == 1
            assert statements.count("SELECT") == 1
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)


def test_which_changes_concern_a_watch() -> None:
    async def check() -> None:
        mine = TaskScope("dag", "run", "task", 3)
        waiter = watching._Waiter("key", mine, ("",))  # pyright: ignore[reportPrivateUsage]
        assert waiter.concerns(Put(mine, "key", "1"))
        assert waiter.concerns(Clear(mine))
        assert waiter.concerns(Clear(TaskScope("dag", "run", "task"), all_map_indices=True))
        assert not waiter.concerns(Clear(TaskScope("dag", "run", "task")))
        assert not waiter.concerns(Clear(TaskScope("dag", "run", "other"), all_map_indices=True))
        assert not waiter.concerns(Put(AssetScope(1), "key", "1"))
        waiter.scope = AssetScope(1, "orders")
        assert waiter.concerns(Put(AssetScope(1), "key", "1"))
        assert waiter.concerns(Put(AssetScope(name="orders"), "key", "1"))
        assert waiter.concerns(Put(AssetScope(uri="s3://bucket/orders"), "key", "1"))
        assert not waiter.concerns(Put(AssetScope(2, "orders"), "key", "1"))
        waiter.scope = None
        assert waiter.concerns(Put(AssetScope(2), "key", "1"))

    asyncio.run(check())


async def test_the_poller_ends_with_the_last_watch(url: str) -> None:
    async with connect(url) as store:
        state = store.task_state(TASK)
        async with watch(state) as one:
            await following(one)
            async with watch(state, "other") as two:
                await following(two)
                assert len(pollers()) == 1
            assert len(pollers()) == 1
        assert pollers() == []
        async with watch(state) as again:
            await following(again)
            assert len(pollers()) == 1
        assert pollers() == []


async def test_an_error_of_the_database_reaches_the_reader(url: str, path: Path) -> None:
    async with connect(url) as store, watch(store.task_state(TASK)) as values:
        assert await following(values) is None
        waiting = asyncio.ensure_future(anext(values))
        path.rename(path.with_name("moved"))
        with pytest.raises(StoreUnavailableError, match="was deleted or replaced"):
            async with asyncio.timeout(PATIENCE):
                await waiting
    assert pollers() == []


async def test_closing_the_store_ends_its_watches(url: str, connections: Connections) -> None:
    async with connect(url) as store:
        values = cast("Values", store.task_state(TASK).awatch("key"))
        assert await following(values) is None
        waiting = asyncio.ensure_future(anext(values))
        await asyncio.sleep(0)
    with pytest.raises(StoreClosedError):
        async with asyncio.timeout(PATIENCE):
            await waiting
    assert pollers() == []
    assert connections.all_closed()  # the poller has not opened it again
    assert len(connections.opened) == 2


async def test_a_poller_outlives_an_error(url: str, path: Path) -> None:
    async with connect(url) as store, connect(url) as other:
        async with watch(store.task_state(TASK)) as values:
            assert await following(values) is None
            hidden = path.with_name("hidden")
            for _ in range(3):
                os.rename(path, hidden)
                os.rename(hidden, path)
                await asyncio.sleep(0.002)
        async with watch(store.task_state(TASK)) as values:
            assert await following(values) is None
            await other.task_state(TASK).aset("key", 1)
            assert (await until(values, lambda value: value == 1))[-1] == 1


def test_two_loops_watch_one_backend(url: str) -> None:
    backend = MetastoreBackend(url)
    ready = threading.Barrier(3, timeout=PATIENCE)
    found: list[Any] = []

    async def follow() -> None:
        async with connect(backend=backend) as store, watch(store.task_state(TASK)) as values:
            await following(values)
            ready.wait()
            found.append((await until(values, lambda value: value == "last"))[-1])
        assert pollers() == []

    threads = [threading.Thread(target=asyncio.run, args=(follow(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    ready.wait()
    backend.set(TASK, "key", '"first"')
    backend.set(TASK, "key", '"last"')
    for thread in threads:
        thread.join(PATIENCE)
    assert found == ["last", "last"]
    backend.run_blocking(backend.aclose)


def test_a_watch_that_a_dead_loop_left_is_forgotten(url: str) -> None:
    backend = MetastoreBackend(url)
    hub = backend._database.hub  # pyright: ignore[reportPrivateUsage]
    loop = asyncio.new_event_loop()
    texts = backend.awatch(TASK, "key")
    assert loop.run_until_complete(anext(texts)) is None
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert hub._by_key  # pyright: ignore[reportPrivateUsage]
    backend.set(TASK, "key", "1")
    assert not hub._by_key  # pyright: ignore[reportPrivateUsage]
    hub.committed(Commit((Put(TASK, "key", "1"),)))
    backend.run_blocking(backend.aclose)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del texts
        gc.collect()
