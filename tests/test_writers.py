"""Who wrote what: `Entry.updated_by`, for everybody who can write, by every operation."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from asyncstore import (
    Asset,
    AssetStoreAccessor,
    BlockingCallWarning,
    DeliveredEvent,
    MemoryBackend,
    Store,
    TaskContext,
    TaskScope,
    TaskStoreAccessor,
    connect,
)
from tests.triggers.support import run_to_the_end
from triggers import AssetWatcher, BaseEventTrigger, HandlerRunner, TriggerEvent, on_event

pytestmark = pytest.mark.anyio

TASK = TaskScope("a dag", "run/1", "task", 2)
TASK_WRITER = "task:a%20dag/run%2F1/task/2"
ORDERS, REPORT = Asset("orders", uri="s3://warehouse/orders/"), Asset("report")
State = TaskStoreAccessor | AssetStoreAccessor


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str | None:
    if request.param == "memory":
        return None
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('writers')}/state.db"
    return str(request.getfixturevalue("database_url"))


@pytest.fixture
async def store(url: str | None) -> AsyncGenerator[Store]:
    async with connect(url, backend=None if url else MemoryBackend()) as store:
        yield store


async def writers(state: State) -> dict[str, str | None]:
    """Give who wrote each key."""
    entries = {key: await state.aget_entry(key) for key in await state.akeys()}
    return {key: entry.updated_by for key, entry in entries.items() if entry is not None}


async def write(state: State) -> None:
    """Write by every operation that there is."""
    await state.aset("set", 1)
    await state.aset("overwritten", 0)
    await state.aset("overwritten", 1)
    await state.aset("if_version", 1, if_version=0)
    await state.aset_many({"many 1": 1, "many 2": 2})
    await state.aupdate("update", lambda value: value + 1, default=0)
    await state.aadvance("advance", 1)


def write_sync(state: State) -> None:
    state.set("set", 1)
    state.set("overwritten", 0)
    state.set("overwritten", 1)
    state.set("if_version", 1, if_version=0)
    state.set_many({"many 1": 1, "many 2": 2})
    state.update("update", lambda value: value + 1, default=0)
    state.advance("advance", 1)


KEYS = ("advance", "if_version", "many 1", "many 2", "overwritten", "set", "update")


def all_by(writer: str | None) -> dict[str, str | None]:
    return dict.fromkeys(KEYS, writer)


# Tasks.


async def test_an_async_task(store: Store) -> None:
    async with store.task_context(TASK, inlets=[ORDERS], outlets=[REPORT]) as context:
        for state in (context.task_state, context.asset_state[ORDERS], context.asset_state[REPORT]):
            await write(state)
    for state in (store.task_state(TASK), store.asset_state[ORDERS], store.asset_state[REPORT]):
        assert await writers(state) == all_by(TASK_WRITER)


def in_context(store: Store) -> None:
    with store.task_context(TASK, inlets=[ORDERS], outlets=[REPORT]) as context:
        for state in (context["task_state"], context["asset_state"][ORDERS], context["asset_state"][REPORT]):
            write_sync(state)


async def in_a_worker_thread(store: Store) -> None:
    await anyio.to_thread.run_sync(in_context, store)


async def in_a_plain_thread(store: Store) -> None:
    await asyncio.to_thread(in_context, store)


async def on_the_loop(store: Store) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BlockingCallWarning)
        in_context(store)


async def from_an_async_context(store: Store) -> None:
    # As a sync function does that an async task hands its context to.
    async with store.task_context(TASK, inlets=[ORDERS], outlets=[REPORT]) as context:
        for state in (context.task_state, context.asset_state[ORDERS], context.asset_state[REPORT]):
            await anyio.to_thread.run_sync(write_sync, state)


@pytest.mark.parametrize("run", [in_a_worker_thread, in_a_plain_thread, on_the_loop, from_an_async_context])
async def test_a_sync_task(store: Store, run: Callable[[Store], Any]) -> None:
    await run(store)
    for state in (store.task_state(TASK), store.asset_state[ORDERS], store.asset_state[REPORT]):
        assert await writers(state) == all_by(TASK_WRITER)


async def test_the_only_asset_of_a_task_without_subscript(store: Store) -> None:
    async with store.task_context(TASK, outlets=[REPORT]) as context:
        await write(context.asset_state)
    assert await writers(store.asset_state[REPORT]) == all_by(TASK_WRITER)


async def test_tasks_that_take_turns(store: Store) -> None:
    for index in (0, 1, 0):
        scope = TaskScope("dag", "run", "task", index)
        async with store.task_context(scope, outlets=[REPORT]) as context:
            await context.asset_state.aset("last", index)
        entry = await store.asset_state[REPORT].aget_entry("last")
        assert entry is not None
        assert entry.updated_by == f"task:dag/run/task/{index}"


@pytest.fixture
async def engine(url: str | None) -> AsyncGenerator[AsyncEngine]:
    engine = create_async_engine(url or "sqlite+aiosqlite://")
    yield engine
    await engine.dispose()


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
async def test_a_task_in_a_transaction_of_its_own(store: Store, engine: AsyncEngine) -> None:
    async with store.task_context(TASK, outlets=[REPORT]) as context, engine.begin() as connection:
        await context.task_state.aset("set", 1, session=connection)
        await context.asset_state.aset_many({"a": 1, "b": 2}, session=connection)
    assert await writers(store.task_state(TASK)) == {"set": TASK_WRITER}
    assert await writers(store.asset_state[REPORT]) == {"a": TASK_WRITER, "b": TASK_WRITER}


async def test_a_function_that_handles_events(store: Store) -> None:
    watcher = await store.aclaim_watcher(ORDERS, "by hand", owner="test")
    event, _ = await watcher.acommit(await watcher.prepare({"order": 1}, None, None))
    handled = asyncio.Event()

    @on_event(ORDERS, name="loader", outlets=[REPORT])
    async def load(event: DeliveredEvent, context: TaskContext) -> None:
        await write(context.task_state)
        await write(context.asset_state[REPORT])
        handled.set()

    running = asyncio.create_task(HandlerRunner(store, [load]).run())
    with anyio.fail_after(20):
        await handled.wait()
        running.cancel()
        await asyncio.wait([running])
    scope = TaskScope("loader", f"event-{event.id}", "on_event")
    for state in (store.task_state(scope), store.asset_state[REPORT]):
        assert await writers(state) == all_by(f"task:loader/event-{event.id}/on_event/-1")


# Watchers.


class Looking(BaseEventTrigger):
    async def run(self) -> AsyncIterator[TriggerEvent]:
        yield TriggerEvent(1, checkpoint={"checkpoint": 1})
        yield TriggerEvent(2, checkpoint={REPORT: {"checkpoint": 1}})
        await write(self.asset_state)
        await anyio.to_thread.run_sync(write_sync, self.asset_state[REPORT])


async def test_a_watcher(store: Store) -> None:
    await run_to_the_end(store, Asset(ORDERS.name, ORDERS.uri, watchers=[AssetWatcher("look", Looking())]))
    for asset in (ORDERS, REPORT):
        expected = {"checkpoint": "watcher:orders/look", **all_by("watcher:orders/look")}
        assert await writers(store.asset_state[asset]) == expected


async def test_a_watcher_that_is_claimed_by_hand(store: Store) -> None:
    watcher = await store.aclaim_watcher(ORDERS, "by hand", owner="test")
    await write(watcher.asset_state)
    assert await writers(store.asset_state[ORDERS]) == all_by("watcher:orders/by hand")


# A program that does not say who it is.


async def test_a_program_by_the_store_itself(store: Store) -> None:
    for state in (store.task_state(TASK), store.asset_state[ORDERS]):
        await write(state)
        assert await writers(state) == all_by(None)


async def test_who_wrote_last(store: Store) -> None:
    async with store.task_context(TASK, outlets=[REPORT]) as context:
        await write(context.task_state)
        await write(context.asset_state)
    for state in (store.task_state(TASK), store.asset_state[REPORT]):
        await state.aset("set", 2)
        await state.adelete("if_version")
        expected = {**all_by(TASK_WRITER), "set": None}
        del expected["if_version"]
        assert await writers(state) == expected
