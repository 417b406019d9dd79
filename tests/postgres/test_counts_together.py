"""What operations at the same time cost on PostgreSQL: statements, each of which is one round trip."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from asyncstore import Asset, Commit, Delete, MetastoreBackend, NewEvent, Put, Store, TaskScope
from asyncstore.backends.metastore.postgresql.write_lane import WriteLane
from tests.postgres.proxy import Proxy
from tests.postgres.store_support import ORDERS, TASK, eventually
from tests.postgres.wire import Wire, stored

pytestmark = pytest.mark.anyio

NEW = TaskScope("dag", "run", "new")
OTHERS = [TaskScope("dag", "run", "mapped", index) for index in range(64)]


@pytest.fixture
async def store(wire: Wire, proxy: Proxy, database_url: str) -> AsyncGenerator[Store]:
    async with stored(proxy, database_url) as store:
        yield store


async def together(wire: Wire, calls: Callable[[], list[Awaitable[object]]]) -> list[str]:
    async def run() -> None:
        await asyncio.gather(*calls())

    return await wire.last(2, run)


async def test_reads_at_once_are_one_beside_the_first(store: Store, wire: Wire) -> None:
    state = store.task_state(TASK)
    assert await together(wire, lambda: [state.aget(str(n)) for n in range(64)]) == ["GET_TASK", "GET_TASKS"]
    state_of = store.asset_state[ORDERS]
    found = await together(wire, lambda: [state_of.aget(str(number)) for number in range(64)])
    assert found == ["GET_ASSET", "GET_ASSETS"]


@pytest.mark.parametrize("entries", [True, False])
async def test_reads_of_each_kind_are_one(store: Store, wire: Wire, entries: bool) -> None:
    def calls() -> list[Awaitable[object]]:
        return [
            *(store.task_state(TASK).aget(str(number)) for number in range(30)),
            *(store.asset_state[ORDERS].aget(str(number)) for number in range(30)),
            *(store.asset_state[ORDERS].aget_entry(str(number)) for number in range(30 if entries else 0)),
        ]

    found = await together(wire, calls)
    assert found[0] == "GET_TASK"
    assert sorted(found[1:]) == ["GET_ASSETS", *["GET_ASSET_ENTRIES"] * entries, "GET_TASKS"]


async def test_writes_at_once_are_one_beside_the_first(store: Store, wire: Wire) -> None:
    state = store.task_state(TASK)
    await state.aset_many({str(number): 0 for number in range(64)})
    assert await together(wire, lambda: [state.aset(str(n), n) for n in range(64)]) == ["PUT_TASK", "PUT_TASKS"]
    of_asset = store.asset_state[ORDERS]
    await of_asset.aset_many({str(number): 0 for number in range(64)})
    found = await together(wire, lambda: [of_asset.aset(str(number), number) for number in range(64)])
    assert found == ["PUT_ASSET", "PUT_ASSETS"]


async def test_writes_of_new_task_instances_at_once(store: Store, wire: Wire) -> None:
    async def run() -> None:
        await asyncio.gather(*(store.task_state(scope).aset("key", 1) for scope in OTHERS))

    await run()
    await store.task_state(OTHERS[0]).aclear(all_map_indices=True)
    found = await wire.last(1, run)
    assert found == ["PUT_TASK", "COMMIT", "PUT_TASKS"]


async def test_writes_of_all_kinds_at_once_are_one(store: Store, wire: Wire) -> None:
    def calls() -> list[Awaitable[object]]:
        return [
            *(store.task_state(TASK).aset("key", number) for number in range(10)),
            *(store.task_state(TASK).adelete(str(number)) for number in range(10)),
            *(store.asset_state[ORDERS].aset("key", number) for number in range(10)),
            *(store.task_state(NEW).aset_many({"a": 1, "b": 2}) for _ in range(10)),
        ]

    assert await together(wire, calls) == ["PUT_TASK", "COMMIT"]


async def test_a_read_behind_a_write_of_its_key(store: Store, wire: Wire) -> None:
    state = store.task_state(TASK)

    def calls() -> list[Awaitable[object]]:
        return [state.aset("key", 1), state.aget("key"), state.aset("key", 2), state.aget("key"), state.adelete("key")]

    # The first read is behind what is on its way; the second one is behind a write of its own batch, which says all.
    found = await together(wire, calls)
    assert found == ["PUT_TASK", "COMMIT", "GET_TASK", "COMMIT"]
    # Elsewhere nobody waits.
    found = await together(wire, lambda: [state.aset("other", 1), state.aget("elsewhere"), state.aget("b")])
    assert sorted(found) == ["GET_TASK", "GET_TASK", "PUT_TASK"]


async def test_a_read_after_the_answer_of_a_write_does_not_go_with_the_writes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: WriteLane, reading: object) -> None:
        raise AssertionError("a read that waits for its turn")

    monkeypatch.setattr(WriteLane, "read", refuse)

    async def use(key: str) -> None:
        state = store.task_state(TASK)
        for number in range(5):
            await state.aset(key, number)
            assert await state.aget(key) == number

    await asyncio.gather(*(use(f"{number}") for number in range(20)))


async def test_an_event_with_its_checkpoint_is_one(store: Store, wire: Wire) -> None:
    watcher = await store.aclaim_watcher(ORDERS, "watcher", owner="test")
    lease = watcher.lease
    numbers = iter(range(10))

    async def run() -> None:
        changes = Put(lease.asset, "watermark", "1"), Delete(lease.asset, "old")
        await store.backend.acommit(Commit(changes, (NewEvent("1", f"key {next(numbers)}"),), lease))

    found = await wire.last(2, run)
    assert found == ["COMMIT"]


async def test_events_of_many_watchers_at_once_are_one_beside_the_first(store: Store, wire: Wire) -> None:
    assets = [Asset(f"asset {number}") for number in range(32)]
    watchers = [await store.aclaim_watcher(asset, "watcher", owner="test") for asset in assets]

    def calls() -> list[Awaitable[object]]:
        return [
            store.backend.acommit(
                Commit((Put(watcher.lease.asset, "watermark", "1"),), (NewEvent("1"),), watcher.lease)
            )
            for watcher in watchers
        ]

    assert await together(wire, calls) == ["COMMIT", "COMMIT"]


async def test_a_thousand_watches_have_one_listener(store: Store, wire: Wire, proxy: Proxy) -> None:
    connections = proxy.connections
    seen: list[tuple[int, Any]] = []

    async def watch(number: int) -> None:
        async for value in store.task_state(OTHERS[number % 64]).awatch(f"key {number}"):
            seen.append((number, value))  # noqa: PERF401 - seen while it goes on

    with wire.counting() as found:
        tasks = [asyncio.ensure_future(watch(number)) for number in range(1000)]
        await eventually(lambda: len(seen) == 1000 and "SELECT pg_advisory_lock_shared" in wire.sent, "all to watch")
        seen.clear()
        await store.task_state(OTHERS[7]).aset("key 7", "changed")
        await eventually(lambda: (7, "changed") in seen, "one to see its change")
    assert found.count("LISTEN") == 1
    assert found.count("SELECT pg_advisory_lock_shared") == 1
    assert proxy.connections <= connections + 3  # the listener's, and the two that read
    assert seen == [(7, "changed")]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_a_new_connection_adds(wire: Wire, proxy: Proxy, database_url: str) -> None:
    async with MetastoreBackend(proxy.through(database_url)) as backend:
        with wire.counting() as first:
            await backend.aget(TASK, "key")
        with wire.counting() as second:
            await backend.aget(TASK, "key")
    assert second == ["GET_TASK"]
    # Who we are, which schema, and the largest version: each prepared and run once, as the read itself is.
    assert len(first) <= 8, first
    assert first[-2:] == ["prepare GET_TASK", "GET_TASK"]
