"""What an operation costs: statements, and hops to a thread and back. Counts, not times."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from asyncstore import Asset, ManualClock, Store, VersionConflictError, connect

from .support import TASK, Connections

pytestmark = pytest.mark.anyio

ORDERS = Asset("orders", uri="s3://bucket/orders")

BEGIN, COMMIT, ROLLBACK, SELECT, REVISION = "BEGIN IMMEDIATE", "COMMIT", "ROLLBACK", "SELECT", "UPDATE revision"
TASK_ROW, ASSET_ROW, INSTANCE = "INSERT task_state", "INSERT asset_state", "INSERT task_instance"


class Hops:
    """Count how often a thread reported to this event loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        loop = asyncio.get_running_loop()
        report = loop.call_soon_threadsafe

        def counted(*args: Any, **options: Any) -> asyncio.Handle:
            self.count += 1
            return report(*args, **options)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)


@dataclass(frozen=True)
class Cost:
    """An operation, its sync twin, what they run as SQL, and in how many hops the async one does."""

    run: Callable[[Store], Awaitable[object]]
    twin: Callable[[Store], object]
    statements: list[str]
    hops: int = 1
    prepare: Callable[[Store], Awaitable[object]] | None = None


def upsert(row: str, times: int = 1) -> list[str]:
    # Alone it is a statement of its own. The counter of revisions stands where this process left it: it is only read.
    return [row] if times == 1 else [BEGIN, SELECT, *[row] * times, COMMIT]


async def conflict(store: Store) -> None:
    with pytest.raises(VersionConflictError):
        await store.task_state(TASK).aset("key", 2, if_version=99)


def sync_conflict(store: Store) -> None:
    with pytest.raises(VersionConflictError):
        store.task_state(TASK).set("key", 2, if_version=99)


async def one_key(store: Store) -> None:
    await store.task_state(TASK).aclear()
    await store.task_state(TASK).aset("key", 1)


async def no_instance(store: Store) -> None:
    await store.task_state(TASK).aclear()


async def no_asset(store: Store) -> None:
    await store.adelete_asset(ORDERS)
    store.core._assets.clear()  # pyright: ignore[reportPrivateUsage]  # as in a new process


async def unresolved(store: Store) -> None:
    store.core._assets.clear()  # pyright: ignore[reportPrivateUsage]  # as in a new process


def inc(value: Any) -> int:
    return int(value or 0) + 1


COSTS: dict[str, Cost] = {
    # Task state.
    "get": Cost(lambda s: s.task_state(TASK).aget("key"), lambda s: s.task_state(TASK).get("key"), [SELECT]),
    "get absent": Cost(lambda s: s.task_state(TASK).aget("no"), lambda s: s.task_state(TASK).get("no"), [SELECT]),
    "get_entry": Cost(
        lambda s: s.task_state(TASK).aget_entry("key"), lambda s: s.task_state(TASK).get_entry("key"), [SELECT]
    ),
    "get_many": Cost(
        lambda s: s.task_state(TASK).aget_many(["key", "other", "no"]),
        lambda s: s.task_state(TASK).get_many(["key", "other", "no"]),
        [SELECT],
    ),
    "get_many of nothing": Cost(
        lambda s: s.task_state(TASK).aget_many([]), lambda s: s.task_state(TASK).get_many([]), [], 0
    ),
    "keys": Cost(lambda s: s.task_state(TASK).akeys("k"), lambda s: s.task_state(TASK).keys("k"), [SELECT]),
    "set": Cost(
        lambda s: s.task_state(TASK).aset("key", 2), lambda s: s.task_state(TASK).set("key", 2), upsert(TASK_ROW)
    ),
    "set a new key": Cost(
        lambda s: s.task_state(TASK).aset("new", 2),
        lambda s: s.task_state(TASK).set("new", 2),
        upsert(TASK_ROW),
        prepare=one_key,
    ),
    "set in a new instance": Cost(
        lambda s: s.task_state(TASK).aset("key", 1),
        lambda s: s.task_state(TASK).set("key", 1),
        [TASK_ROW, BEGIN, SELECT, TASK_ROW, INSTANCE, TASK_ROW, COMMIT],
        prepare=no_instance,
    ),
    "set if_version": Cost(
        lambda s: s.task_state(TASK).aset("key", 2, if_version=0),
        lambda s: s.task_state(TASK).set("key", 2, if_version=0),
        [BEGIN, SELECT, SELECT, TASK_ROW, INSTANCE, TASK_ROW, COMMIT],
        prepare=no_instance,
    ),
    "set another version": Cost(conflict, sync_conflict, [BEGIN, SELECT, ROLLBACK]),
    "set_many": Cost(
        lambda s: s.task_state(TASK).aset_many({"key": 1, "b": 2, "c": 3}),
        lambda s: s.task_state(TASK).set_many({"key": 1, "b": 2, "c": 3}),
        upsert(TASK_ROW, 3),
    ),
    "set_many of nothing": Cost(
        lambda s: s.task_state(TASK).aset_many({}), lambda s: s.task_state(TASK).set_many({}), [], 0
    ),
    "update": Cost(
        lambda s: s.task_state(TASK).aupdate("key", inc),
        lambda s: s.task_state(TASK).update("key", inc),
        [SELECT, BEGIN, SELECT, SELECT, TASK_ROW, COMMIT],
        2,
    ),
    "advance": Cost(
        lambda s: s.task_state(TASK).aadvance("key", 5),
        lambda s: s.task_state(TASK).advance("key", 5),
        [SELECT, BEGIN, SELECT, SELECT, TASK_ROW, COMMIT],
        2,
        prepare=one_key,
    ),
    "advance back": Cost(
        lambda s: s.task_state(TASK).aadvance("key", 0), lambda s: s.task_state(TASK).advance("key", 0), [SELECT]
    ),
    "delete": Cost(
        lambda s: s.task_state(TASK).adelete("key"),
        lambda s: s.task_state(TASK).delete("key"),
        [BEGIN, "DELETE task_state", "DELETE task_instance", COMMIT],
        prepare=one_key,
    ),
    "delete absent": Cost(
        lambda s: s.task_state(TASK).adelete("no"),
        lambda s: s.task_state(TASK).delete("no"),
        [BEGIN, "DELETE task_state", COMMIT],
    ),
    "clear": Cost(
        lambda s: s.task_state(TASK).aclear(),
        lambda s: s.task_state(TASK).clear(),
        [BEGIN, "DELETE task_instance", COMMIT],
    ),
    "clear all": Cost(
        lambda s: s.task_state(TASK).aclear(all_map_indices=True),
        lambda s: s.task_state(TASK).clear(all_map_indices=True),
        [BEGIN, "DELETE task_instance", COMMIT],
    ),
    # Asset state, of an asset that was used before.
    "asset get": Cost(
        lambda s: s.asset_state[ORDERS].aget("key"), lambda s: s.asset_state[ORDERS].get("key"), [SELECT]
    ),
    "asset get the first time": Cost(
        lambda s: s.asset_state[ORDERS].aget("key"),
        lambda s: s.asset_state[ORDERS].get("key"),
        [SELECT, SELECT],
        2,
        prepare=unresolved,
    ),
    "asset get of a new one": Cost(
        lambda s: s.asset_state[ORDERS].aget("key"),
        lambda s: s.asset_state[ORDERS].get("key"),
        [SELECT, BEGIN, SELECT, SELECT, "INSERT asset", COMMIT, SELECT],
        3,
        prepare=no_asset,
    ),
    "asset set": Cost(
        lambda s: s.asset_state[ORDERS].aset("key", 2),
        lambda s: s.asset_state[ORDERS].set("key", 2),
        upsert(ASSET_ROW),
    ),
    "asset set_many": Cost(
        lambda s: s.asset_state[ORDERS].aset_many({"key": 1, "b": 2}),
        lambda s: s.asset_state[ORDERS].set_many({"key": 1, "b": 2}),
        upsert(ASSET_ROW, 2),
    ),
    "asset delete": Cost(
        lambda s: s.asset_state[ORDERS].adelete("key"),
        lambda s: s.asset_state[ORDERS].delete("key"),
        [BEGIN, SELECT, "DELETE asset_state", COMMIT],
    ),
    "asset clear": Cost(
        lambda s: s.asset_state[ORDERS].aclear(),
        lambda s: s.asset_state[ORDERS].clear(),
        [BEGIN, SELECT, "DELETE asset_state", COMMIT],
    ),
    # The store.
    "register": Cost(lambda s: s.aregister(ORDERS), lambda s: s.register(ORDERS), [SELECT, SELECT], 2),
    "deactivate": Cost(
        lambda s: s.adeactivate(ORDERS), lambda s: s.deactivate(ORDERS), [BEGIN, "UPDATE asset", COMMIT]
    ),
    "activate": Cost(lambda s: s.aactivate(ORDERS), lambda s: s.activate(ORDERS), [BEGIN, "UPDATE asset", COMMIT]),
    "delete_run": Cost(
        lambda s: s.adelete_run("dag", "none"),
        lambda s: s.delete_run("dag", "none"),
        [BEGIN, SELECT, "DELETE task_instance", COMMIT],
    ),
    "cleanup of nothing": Cost(
        lambda s: s.acleanup(), lambda s: s.cleanup(), [SELECT, BEGIN, "DELETE task_state", COMMIT], 2
    ),
    "events": Cost(lambda s: s.events().alist(), lambda s: s.events().list(), [SELECT]),
}


@pytest.fixture
async def store(url: str, connections: Connections) -> AsyncIterator[Store]:
    async with connect(url) as store:
        await store.task_state(TASK).aset_many({"key": 1, "other": 2})
        await store.asset_state[ORDERS].aset("key", 1)
        yield store


@pytest.mark.parametrize("name", COSTS)
async def test_async(name: str, store: Store, connections: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = COSTS[name]
    if cost.prepare is not None:
        await cost.prepare(store)
    hops = Hops(monkeypatch)
    with connections.counting() as statements:
        await cost.run(store)
    assert statements == cost.statements
    assert hops.count == cost.hops
    assert threading.get_ident() not in connections.threads


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.filterwarnings("ignore::asyncstore.BlockingCallWarning")
async def test_sync_twin(name: str, store: Store, connections: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = COSTS[name]
    if cost.prepare is not None:
        await cost.prepare(store)
    hops = Hops(monkeypatch)
    with connections.counting() as statements:
        cost.twin(store)
    assert statements == cost.statements
    assert hops.count == 0
    assert connections.threads <= {threading.get_ident()}


async def test_concurrent_reads_share_the_hop(
    store: Store, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    hops = Hops(monkeypatch)
    with connections.counting() as statements:
        await asyncio.gather(*(store.task_state(TASK).aget("key") for _ in range(50)))
    # The first goes out at once, alone; the others as of one moment.
    assert statements == [SELECT, "BEGIN", *[SELECT] * 49, COMMIT]
    assert hops.count == 2
    assert len(connections.threads) == 1


async def test_connecting_to_a_file_that_is_ready(
    url: str, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(url):
        pass
    hops = Hops(monkeypatch)
    with connections.counting() as statements:
        async with connect(url):
            pass
    # The revision, and four settings of the two connections; nothing is written, nothing of Alembic is loaded.
    assert sorted(statements) == sorted(
        [*["PRAGMA foreign_keys", "PRAGMA synchronous"] * 2, "PRAGMA query_only", SELECT, SELECT]
    )
    assert hops.count == 3  # the settings, the database, and closing it


async def test_a_cleanup_in_batches(url: str, connections: Connections) -> None:
    clock = ManualClock()
    async with connect(url, clock=clock) as store:
        await store.task_state(TASK).aset_many({str(n): n for n in range(5)}, retention=timedelta(seconds=1))
        clock.advance(timedelta(seconds=2))
        with connections.counting() as statements:
            await store.backend.acleanup(batch_size=3)

    def batch(rows: int) -> list[str]:
        return [BEGIN, SELECT, *["DELETE task_state"] * rows, "DELETE task_instance", COMMIT]

    assert statements == [SELECT, *batch(3), *batch(2)]


async def test_a_watch_reads_once_for_every_state_it_yields(store: Store, connections: Connections) -> None:
    texts = store.task_state(TASK).awatch("key")
    with connections.counting() as statements:
        assert await anext(texts) == 1
    assert statements.count(SELECT) == 1
    with connections.counting() as statements:
        await store.task_state(TASK).aset("key", 2)
        assert await anext(texts) == 2
    # The poller's first look, which may be before or after, wakes everybody once.
    assert statements.count(SELECT) <= 2
    await texts.aclose()  # type: ignore[attr-defined]  # an async generator
