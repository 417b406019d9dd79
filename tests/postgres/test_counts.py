"""What an operation costs on PostgreSQL: statements, each of which is one round trip. Counts, not times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from asyncstore import Store, TaskScope, VersionConflictError
from tests.postgres.proxy import Proxy
from tests.postgres.store_support import ORDERS, TASK
from tests.postgres.wire import Wire, reset, stored

pytestmark = pytest.mark.anyio

NEW = TaskScope("dag", "run", "new")


@pytest.fixture
async def store(wire: Wire, proxy: Proxy, database_url: str) -> AsyncGenerator[Store]:
    async with stored(proxy, database_url) as store:
        yield store


async def rested(store: Store) -> None:
    await store.adeactivate(ORDERS)


async def active(store: Store) -> None:
    await store.aactivate(ORDERS)


async def unresolved(store: Store) -> None:
    store.core._assets.clear()  # pyright: ignore[reportPrivateUsage]  # as in a new process


async def unregistered(store: Store) -> None:
    await store.adelete_asset(ORDERS)
    await unresolved(store)


async def conflict(store: Store) -> None:
    with pytest.raises(VersionConflictError):
        await store.task_state(TASK).aset("key", 2, if_version=99)


def sync_conflict(store: Store) -> None:
    with pytest.raises(VersionConflictError):
        store.task_state(TASK).set("key", 2, if_version=99)


def inc(value: Any) -> int:
    return int(value or 0) + 1


@dataclass(frozen=True)
class Cost:
    """An operation, its sync twin, and what they send once their connections have prepared it."""

    run: Callable[[Store], Awaitable[object]]
    twin: Callable[[Store], object]
    statements: list[str]
    prepare: Callable[[Store], Awaitable[object]] | None = None


COSTS: dict[str, Cost] = {
    # Task state.
    "get": Cost(lambda s: s.task_state(TASK).aget("key"), lambda s: s.task_state(TASK).get("key"), ["GET_TASK"]),
    "get absent": Cost(lambda s: s.task_state(NEW).aget("key"), lambda s: s.task_state(NEW).get("key"), ["GET_TASK"]),
    "get_entry": Cost(
        lambda s: s.task_state(TASK).aget_entry("key"),
        lambda s: s.task_state(TASK).get_entry("key"),
        ["GET_TASK_ENTRY"],
    ),
    "get_many": Cost(
        lambda s: s.task_state(TASK).aget_many(["key", "other", "no"]),
        lambda s: s.task_state(TASK).get_many(["key", "other", "no"]),
        ["SELECT task_instance"],
    ),
    "get_many of nothing": Cost(
        lambda s: s.task_state(TASK).aget_many([]), lambda s: s.task_state(TASK).get_many([]), []
    ),
    "keys": Cost(
        lambda s: s.task_state(TASK).akeys("k"), lambda s: s.task_state(TASK).keys("k"), ["SELECT task_instance"]
    ),
    "set": Cost(lambda s: s.task_state(TASK).aset("key", 2), lambda s: s.task_state(TASK).set("key", 2), ["PUT_TASK"]),
    "set a new key": Cost(
        lambda s: s.task_state(TASK).aset("new", 2), lambda s: s.task_state(TASK).set("new", 2), ["PUT_TASK", "COMMIT"]
    ),
    "set in a new instance": Cost(
        lambda s: s.task_state(NEW).aset("key", 1), lambda s: s.task_state(NEW).set("key", 1), ["PUT_TASK", "COMMIT"]
    ),
    "set if_version": Cost(
        lambda s: s.task_state(NEW).aset("key", 2, if_version=0),
        lambda s: s.task_state(NEW).set("key", 2, if_version=0),
        ["COMMIT"],
    ),
    "set another version": Cost(conflict, sync_conflict, ["COMMIT"]),
    "set_many": Cost(
        lambda s: s.task_state(TASK).aset_many({"key": 1, "b": 2, "c": 3}),
        lambda s: s.task_state(TASK).set_many({"key": 1, "b": 2, "c": 3}),
        ["COMMIT"],
    ),
    "set_many of nothing": Cost(
        lambda s: s.task_state(TASK).aset_many({}), lambda s: s.task_state(TASK).set_many({}), []
    ),
    "update": Cost(
        lambda s: s.task_state(TASK).aupdate("key", inc),
        lambda s: s.task_state(TASK).update("key", inc),
        ["GET_TASK_ENTRY", "COMMIT"],
    ),
    "advance": Cost(
        lambda s: s.task_state(TASK).aadvance("key", 5),
        lambda s: s.task_state(TASK).advance("key", 5),
        ["GET_TASK_ENTRY", "COMMIT"],
    ),
    "advance back": Cost(
        lambda s: s.task_state(TASK).aadvance("key", 0),
        lambda s: s.task_state(TASK).advance("key", 0),
        ["GET_TASK_ENTRY"],
    ),
    "delete": Cost(lambda s: s.task_state(TASK).adelete("key"), lambda s: s.task_state(TASK).delete("key"), ["COMMIT"]),
    "delete absent": Cost(
        lambda s: s.task_state(NEW).adelete("no"), lambda s: s.task_state(NEW).delete("no"), ["COMMIT"]
    ),
    "clear": Cost(lambda s: s.task_state(TASK).aclear(), lambda s: s.task_state(TASK).clear(), ["COMMIT"]),
    "clear all": Cost(
        lambda s: s.task_state(TASK).aclear(all_map_indices=True),
        lambda s: s.task_state(TASK).clear(all_map_indices=True),
        ["COMMIT"],
    ),
    # Asset state, of an asset that was used before.
    "asset get": Cost(
        lambda s: s.asset_state[ORDERS].aget("key"), lambda s: s.asset_state[ORDERS].get("key"), ["GET_ASSET"]
    ),
    "asset get_entry": Cost(
        lambda s: s.asset_state[ORDERS].aget_entry("key"),
        lambda s: s.asset_state[ORDERS].get_entry("key"),
        ["GET_ASSET_ENTRY"],
    ),
    "asset get the first time": Cost(
        lambda s: s.asset_state[ORDERS].aget("key"),
        lambda s: s.asset_state[ORDERS].get("key"),
        ["SELECT asset", "GET_ASSET"],
        unresolved,
    ),
    "asset get of a new one": Cost(
        lambda s: s.asset_state[ORDERS].aget("key"),
        lambda s: s.asset_state[ORDERS].get("key"),
        [
            *["SELECT asset", "BEGIN", "SET", "SELECT pg_advisory_xact_lock", "SELECT asset", "SELECT asset"],
            *["INSERT asset", "COMMIT", "GET_ASSET"],
        ],
        unregistered,
    ),
    "asset set": Cost(
        lambda s: s.asset_state[ORDERS].aset("key", 2), lambda s: s.asset_state[ORDERS].set("key", 2), ["PUT_ASSET"]
    ),
    "asset set a new key": Cost(
        lambda s: s.asset_state[ORDERS].aset("new", 2),
        lambda s: s.asset_state[ORDERS].set("new", 2),
        ["PUT_ASSET", "COMMIT"],
    ),
    "asset set_many": Cost(
        lambda s: s.asset_state[ORDERS].aset_many({"key": 1, "b": 2}),
        lambda s: s.asset_state[ORDERS].set_many({"key": 1, "b": 2}),
        ["COMMIT"],
    ),
    "asset advance": Cost(
        lambda s: s.asset_state[ORDERS].aadvance("key", 5),
        lambda s: s.asset_state[ORDERS].advance("key", 5),
        ["GET_ASSET_ENTRY", "COMMIT"],
    ),
    "asset delete": Cost(
        lambda s: s.asset_state[ORDERS].adelete("key"), lambda s: s.asset_state[ORDERS].delete("key"), ["COMMIT"]
    ),
    "asset clear": Cost(lambda s: s.asset_state[ORDERS].aclear(), lambda s: s.asset_state[ORDERS].clear(), ["COMMIT"]),
    # The store.
    "register": Cost(
        lambda s: s.aregister(ORDERS), lambda s: s.register(ORDERS), ["SELECT asset", "SELECT asset"], active
    ),
    "deactivate": Cost(
        lambda s: s.adeactivate(ORDERS),
        lambda s: s.deactivate(ORDERS),
        ["BEGIN", "SET", "SELECT pg_advisory_xact_lock", "UPDATE asset", "SELECT asyncstore_tell_all", "COMMIT"],
    ),
    "activate": Cost(
        lambda s: s.aactivate(ORDERS),
        lambda s: s.activate(ORDERS),
        ["BEGIN", "SET", "SELECT pg_advisory_xact_lock", "UPDATE asset", "SELECT asyncstore_tell_all", "COMMIT"],
        rested,
    ),
    "events": Cost(lambda s: s.events().alist(), lambda s: s.events().list(), ["SELECT event"]),
}


async def cost_of(cost: Cost, store: Store, wire: Wire, run: Callable[[], Awaitable[object]]) -> list[str]:
    """Run an operation until its connections are open and have prepared what it needs; gives what it sends then."""
    sent: list[str] = []
    for _ in range(3):
        await store.aregister(ORDERS)
        await store.aactivate(ORDERS)
        await store.task_state(NEW).aclear()
        await reset(store)
        if cost.prepare is not None:
            await cost.prepare(store)
        sent = await wire.last(1, run)
    return sent


@pytest.mark.parametrize("name", COSTS)
async def test_async(name: str, store: Store, wire: Wire) -> None:
    cost = COSTS[name]
    assert await cost_of(cost, store, wire, lambda: cost.run(store)) == cost.statements


@pytest.mark.parametrize("name", COSTS)
async def test_sync_twin(name: str, store: Store, wire: Wire) -> None:
    cost = COSTS[name]
    assert await cost_of(cost, store, wire, lambda: asyncio.to_thread(cost.twin, store)) == cost.statements
