"""Cancelled or interrupted at every step, a store is as it was or as it should be, and goes on working."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from asyncstore import (
    Asset,
    DatabaseSettings,
    ManualClock,
    Settings,
    Store,
    StoreClosedError,
    TaskScope,
    connect,
)

from .support import PATIENCE, TASK, Connection, Connections

pytestmark = pytest.mark.anyio

ORDERS = Asset("orders", uri="s3://bucket/orders")
OTHER = TaskScope("dag", "run", "other")


@pytest.fixture(autouse=True)
async def quiet() -> AsyncIterator[None]:
    """Hold that nothing is reported behind anybody's back, and that no thread stays."""
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    yield
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)
    assert said == []
    names = [thread.name for thread in threading.enumerate()]
    # The private loop of sync calls is one for the process, once another test needed it.
    assert [each for each in names if each.startswith("asyncstore") and "sync calls" not in each] == []


class Steps:
    """Count the places before and after each statement, and step in at one of them."""

    def __init__(self, connections: Connections, at: int, action: Callable[[], object]) -> None:
        self.count = 0
        self.at = at
        self.action = action
        self.connections = connections

    def __enter__(self) -> Steps:
        for raw in self.connections.opened:
            self.install(raw)
        self.connections.prepare = self.install  # type: ignore[method-assign]  # those that are opened meanwhile
        return self

    def install(self, raw: Connection) -> None:
        raw.before = raw.after = self.step

    def __exit__(self, *error: object) -> None:
        for raw in self.connections.opened:
            raw.before = raw.after = None
        del self.connections.prepare

    def step(self, _: str) -> None:
        self.count += 1
        if self.count == self.at:
            self.action()


@dataclass(frozen=True)
class Case:
    """An operation, and its sync twin."""

    run: Callable[[Store], Awaitable[object]]
    twin: Callable[[Store], object]


CASES: dict[str, Case] = {
    "get": Case(lambda s: s.task_state(TASK).aget("key"), lambda s: s.task_state(TASK).get("key")),
    "get_many": Case(lambda s: s.task_state(TASK).aget_many(["key"]), lambda s: s.task_state(TASK).get_many(["key"])),
    "set": Case(lambda s: s.task_state(TASK).aset("key", 2), lambda s: s.task_state(TASK).set("key", 2)),
    "set in a new instance": Case(
        lambda s: s.task_state(OTHER).aset("key", 2), lambda s: s.task_state(OTHER).set("key", 2)
    ),
    "set_many": Case(
        lambda s: s.task_state(TASK).aset_many({"key": 2, "b": 2}),
        lambda s: s.task_state(TASK).set_many({"key": 2, "b": 2}),
    ),
    "update": Case(
        lambda s: s.task_state(TASK).aupdate("key", lambda n: n + 1),
        lambda s: s.task_state(TASK).update("key", lambda n: n + 1),
    ),
    "advance": Case(lambda s: s.task_state(TASK).aadvance("key", 2), lambda s: s.task_state(TASK).advance("key", 2)),
    "delete": Case(lambda s: s.task_state(TASK).adelete("key"), lambda s: s.task_state(TASK).delete("key")),
    "clear": Case(lambda s: s.task_state(TASK).aclear(), lambda s: s.task_state(TASK).clear()),
    "asset set": Case(lambda s: s.asset_state[ORDERS].aset("key", 2), lambda s: s.asset_state[ORDERS].set("key", 2)),
    "asset set of a new one": Case(
        lambda s: s.asset_state[Asset("new")].aset("key", 2), lambda s: s.asset_state[Asset("new")].set("key", 2)
    ),
    "delete_run": Case(lambda s: s.adelete_run("dag", "run"), lambda s: s.delete_run("dag", "run")),
    "cleanup": Case(lambda s: s.acleanup(), lambda s: s.cleanup()),
}


async def reset(store: Store, clock: ManualClock) -> None:
    """Put the state where every case begins."""
    for scope in (TASK, OTHER):
        await store.task_state(scope).aclear()
    await store.task_state(TASK).aset_many({"key": 1, "b": 1})
    await store.task_state(TASK).aset("expired", 1, retention=timedelta(microseconds=1))
    clock.advance(timedelta(microseconds=1))
    await store.asset_state[ORDERS].aset("key", 1)
    await store.asset_state[Asset("new")].aclear()
    await store.adelete_asset(Asset("new"))
    store.core._assets.clear()  # pyright: ignore[reportPrivateUsage]  # as in a new process


async def whole(store: Store) -> list[Any]:
    """Give all that the cases change."""
    expired: list[Any] = []
    await store.backend.acleanup(dry_run=True, on_batch=lambda batch: expired.extend(batch.rows))
    return [
        *[await store.task_state(scope).aget_many(["key", "b"]) for scope in (TASK, OTHER)],
        await store.asset_state[ORDERS].aget_many(["key"]),
        await store.asset_state[Asset("new")].aget_many(["key"]),
        len(expired),
    ]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(url: str, clock: ManualClock, connections: Connections) -> AsyncIterator[Store]:
    async with connect(url, clock=clock) as store:
        yield store
    assert connections.all_closed()


class Cancel:
    """Cancel a task from the thread that works for it, and go on when the loop has seen to it."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.task: asyncio.Task[Any] | None = None

    def __call__(self) -> None:
        passed = threading.Event()
        self.loop.call_soon_threadsafe(self._cancel, passed, 5)
        assert passed.wait(PATIENCE)

    def _cancel(self, passed: threading.Event, rounds: int) -> None:
        assert self.task is not None
        if rounds == 5:
            self.task.cancel()
        if rounds:
            self.loop.call_soon(self._cancel, passed, rounds - 1)
        else:
            passed.set()


async def ended(task: asyncio.Task[Any]) -> BaseException | None:
    """Wait for the end of a task; gives how it failed."""
    await asyncio.wait([task])
    return asyncio.CancelledError() if task.cancelled() else task.exception()


@pytest.mark.parametrize("name", CASES)
async def test_cancelled_at_every_statement(
    name: str, store: Store, clock: ManualClock, connections: Connections
) -> None:
    case = CASES[name]
    await reset(store, clock)
    old = await whole(store)
    with Steps(connections, 0, lambda: None) as steps:
        await case.run(store)
    new = await whole(store)
    assert steps.count >= 2
    for at in range(1, steps.count + 1):
        await reset(store, clock)
        cancel = Cancel()
        with Steps(connections, at, cancel):
            cancel.task = asyncio.ensure_future(case.run(store))
            assert isinstance(await ended(cancel.task), asyncio.CancelledError)
            await store.task_state(OTHER).adelete("none")  # behind it in the queue
        assert await whole(store) in (old, new)
        assert not connections.in_transaction()


@pytest.mark.parametrize("name", CASES)
async def test_cancelled_before_its_turn(name: str, store: Store, clock: ManualClock, connections: Connections) -> None:
    await reset(store, clock)
    old = await whole(store)
    entered, release = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        assert release.wait(PATIENCE)

    for rounds in range(4):
        entered.clear()
        release.clear()
        with Steps(connections, 0, hold) as steps:
            # One operation each on the lane of writes and on that of reads; the first of them holds both.
            steps.at = 1
            writing = asyncio.ensure_future(store.task_state(OTHER).adelete("none"))
            await asyncio.to_thread(entered.wait, PATIENCE)
            entered.clear()
            steps.at = steps.count + 1
            reading = asyncio.ensure_future(store.task_state(OTHER).aget("nor this"))
            await asyncio.to_thread(entered.wait, PATIENCE)
            task = asyncio.ensure_future(CASES[name].run(store))
            for _ in range(rounds):
                await asyncio.sleep(0)
            task.cancel()
            assert isinstance(await ended(task), asyncio.CancelledError)
            release.set()
            await asyncio.gather(writing, reading)
        assert await whole(store) == old


@pytest.mark.parametrize("name", CASES)
async def test_cancelled_after_so_many_turns_of_the_loop(name: str, store: Store, clock: ManualClock) -> None:
    await reset(store, clock)
    old = await whole(store)
    await CASES[name].run(store)
    new = await whole(store)
    for turns in range(12):
        await reset(store, clock)
        task = asyncio.ensure_future(CASES[name].run(store))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        assert await ended(task) is None or task.cancelled()
        await store.task_state(OTHER).adelete("none")
        assert await whole(store) in (old, new)


async def test_a_hundred_cancelled_at_once(store: Store, clock: ManualClock, connections: Connections) -> None:
    await reset(store, clock)
    state = store.task_state(TASK)
    tasks = [asyncio.ensure_future(state.aupdate("key", lambda n: n + 1)) for _ in range(100)]
    for _ in range(30):
        await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    done = [result for result in results if isinstance(result, int)]
    cancelled = [result for result in results if isinstance(result, asyncio.CancelledError)]
    assert len(done) + len(cancelled) == 100
    await state.adelete("none")
    assert len(done) == len(set(done))
    assert len(done) <= await state.aget("key") - 1 <= 100
    assert not connections.in_transaction()


# Opening and closing.


@pytest.mark.parametrize("ready", [False, True], ids=["new", "ready"])
async def test_opening_is_cancelled_at_every_statement(url: str, ready: bool, connections: Connections) -> None:
    if ready:
        async with connect(url):
            pass
    at = 0
    while True:
        at += 1
        cancel = Cancel()
        store = connect(url if ready else url.replace("state.db", f"{at}.db"))
        with Steps(connections, at, cancel) as steps:
            cancel.task = asyncio.ensure_future(store.__aenter__())
            error = await ended(cancel.task)
        if steps.count < at:
            break
        assert isinstance(error, asyncio.CancelledError)
        assert connections.all_closed()
        with pytest.raises(StoreClosedError):
            store.task_state(TASK)
        async with store:  # it may be entered again
            await store.task_state(TASK).aset("key", at)
    assert error is None
    assert at > (5 if ready else 12)
    await store.__aexit__(None, None, None)
    assert connections.all_closed()


async def test_opening_is_cancelled_after_so_many_turns(url: str, connections: Connections) -> None:
    async with connect(url):
        pass
    for turns in range(30):
        store = connect(url)
        task = asyncio.ensure_future(store.__aenter__())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        if await ended(task) is None:
            await store.__aexit__(None, None, None)
        assert connections.all_closed()


async def test_a_scope_that_ends_while_opening_waits_for_a_lock(url: str, path: Path, connections: Connections) -> None:
    async with connect(url):
        pass
    waiting = asyncio.Event()
    loop = asyncio.get_running_loop()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("UPDATE asyncstore_revision SET value = value")

        def begin(raw: Connection) -> None:
            raw.before = lambda _: loop.call_soon_threadsafe(waiting.set)

        connections.prepare = begin  # type: ignore[method-assign]
        settings = Settings(database=DatabaseSettings(lock_timeout=2 * PATIENCE))
        began = time.monotonic()
        with anyio.CancelScope() as scope:

            async def cancel() -> None:
                await waiting.wait()
                scope.cancel()

            async with anyio.create_task_group() as group:
                group.start_soon(cancel)
                async with connect(url, settings=settings):
                    raise AssertionError("it cannot be open")
    assert scope.cancelled_caught
    assert time.monotonic() - began < PATIENCE  # it did not wait for the lock to its end
    assert connections.all_closed()


@pytest.mark.parametrize("how", ["task", "scope"])
async def test_the_block_is_cancelled(how: str, url: str, connections: Connections) -> None:
    async def block() -> None:
        async with connect(url) as store:
            await store.task_state(TASK).aset("key", 1)
            entered.set()
            await asyncio.Event().wait()

    entered = asyncio.Event()
    if how == "task":
        task = asyncio.ensure_future(block())
        await entered.wait()
        task.cancel()
        assert isinstance(await ended(task), asyncio.CancelledError)
    else:
        async with anyio.create_task_group() as group:
            group.start_soon(block)
            await entered.wait()
            group.cancel_scope.cancel()
    assert connections.all_closed()


async def test_closing_is_cancelled_after_so_many_turns(url: str, connections: Connections) -> None:
    for turns in range(12):
        store = connect(url)
        await store.__aenter__()
        writing = asyncio.ensure_future(store.task_state(TASK).aset("key", turns))
        await asyncio.sleep(0)
        task = asyncio.ensure_future(store.__aexit__(None, None, None))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await ended(task)
        if turns:  # else it had not begun
            assert connections.all_closed()
        else:
            await store.__aexit__(None, None, None)
        error = await ended(writing)
        assert error is None or isinstance(error, StoreClosedError)
    async with connect(url) as store:
        assert await store.task_state(TASK).aget("key", default=0) in range(12)


async def test_closing_twice_and_entering_twice(url: str, connections: Connections) -> None:
    store = connect(url)
    both = [asyncio.ensure_future(store.__aenter__()) for _ in range(2)]
    errors = [await ended(task) for task in both]
    assert sorted(str(error) for error in errors) == [
        "None",
        "the store is open already; enter it once, or connect anew",
    ]
    await asyncio.gather(*(store.__aexit__(None, None, None) for _ in range(3)))
    assert connections.all_closed()


# Interrupted: sync code in the main thread.


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore::asyncstore.BlockingCallWarning")
async def test_interrupted_at_every_statement(
    name: str, store: Store, clock: ManualClock, connections: Connections
) -> None:
    case = CASES[name]
    await reset(store, clock)
    old = await whole(store)
    with Steps(connections, 0, lambda: None) as steps:
        case.twin(store)
    new = await whole(store)
    for at in range(1, steps.count + 1):
        await reset(store, clock)
        with Steps(connections, at, interrupt), pytest.raises(KeyboardInterrupt):
            case.twin(store)
        assert not connections.in_transaction()
        assert await whole(store) in (old, new)


@pytest.mark.filterwarnings("ignore::asyncstore.BlockingCallWarning")
async def test_opening_is_interrupted_at_every_statement(url: str, connections: Connections) -> None:
    at = 0
    while True:
        at += 1
        with Steps(connections, at, interrupt) as steps:
            try:
                with connect(url.replace("state.db", f"{at}.db")):
                    break
            except KeyboardInterrupt:
                pass
        assert steps.count >= at
        assert connections.all_closed()
        with connect(url.replace("state.db", f"{at}.db")) as store:
            store.task_state(TASK).set("key", 1)
    assert at > 12
