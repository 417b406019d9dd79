"""What an offloaded value costs: one request and one statement. Counts, not times."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import pytest

from asyncstore import Asset, MetastoreBackend, Store
from tests.metastore.support import Connections, watch_connections
from tests.offload.s3 import Proxy
from tests.offload.support import TASK
from tests.offload.test_object_storage import store_on
from tests.postgres import proxy as postgres_proxy
from tests.postgres.wire import Wire

pytestmark = pytest.mark.anyio

ORDERS = Asset("orders", uri="s3://orders")
MANY = {f"key {number}": number for number in range(20)}

Operation = Callable[[Store], Awaitable[object]]
OPERATIONS: dict[str, tuple[Operation, list[str]]] = {
    "set": (lambda store: store.task_state(TASK).aset("key", [2]), ["PUT"]),
    "get": (lambda store: store.task_state(TASK).aget("key"), ["GET"]),
    "get_entry": (lambda store: store.task_state(TASK).aget_entry("key"), ["GET"]),
    "get of an absent key": (lambda store: store.task_state(TASK).aget("none"), []),
    "set of an asset": (lambda store: store.asset_state[ORDERS].aset("key", [2]), ["PUT"]),
    "get of an asset": (lambda store: store.asset_state[ORDERS].aget("key"), ["GET"]),
    "get_many": (lambda store: store.task_state(TASK).aget_many(MANY), ["GET"] * 20),
}


async def lay_down(store: Store) -> None:
    await store.task_state(TASK).aset_many({**MANY, "key": [1]})
    await store.asset_state[ORDERS].aset("key", [1])


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncstore.offload.collecting._DELAY", 3600)  # what was replaced goes with the store's end


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Connections:
    return watch_connections(monkeypatch)


@pytest.fixture
async def on_sqlite(connections: Connections, proxy: Proxy, bucket: str, tmp_path: Path) -> AsyncGenerator[Store]:
    async with (
        MetastoreBackend(f"sqlite+aiosqlite:///{tmp_path}/state.db") as backend,
        store_on(f"s3://lake@{bucket}/", backend) as store,
    ):
        await lay_down(store)
        yield store


@pytest.mark.parametrize("name", OPERATIONS)
async def test_one_request_and_one_statement_on_sqlite(
    on_sqlite: Store, connections: Connections, proxy: Proxy, name: str
) -> None:
    run, requests = OPERATIONS[name]
    await run(on_sqlite)
    proxy.requests.clear()
    with connections.counting() as statements:
        await run(on_sqlite)
    assert len(statements) == 1, statements
    assert [method for method, _ in proxy.requests] == requests


async def test_several_values_are_one_transaction_on_sqlite(on_sqlite: Store, connections: Connections) -> None:
    with connections.counting() as statements:
        await on_sqlite.task_state(TASK).aset_many(MANY)
    assert [each for each in statements if "task_state" in each] == ["INSERT task_state"] * len(MANY)
    assert statements.count("COMMIT") == 1


@pytest.fixture
async def on_postgresql(wire: Wire, proxy: Proxy, bucket: str, database_url: str) -> AsyncGenerator[Store]:
    with postgres_proxy.Proxy.to(database_url) as before:
        async with (
            MetastoreBackend(before.through(database_url)) as backend,
            store_on(f"s3://lake@{bucket}/", backend) as store,
        ):
            await lay_down(store)
            yield store


@pytest.mark.parametrize("name", OPERATIONS)
async def test_one_request_and_one_statement_on_postgresql(
    on_postgresql: Store, wire: Wire, proxy: Proxy, name: str
) -> None:
    run, requests = OPERATIONS[name]
    await run(on_postgresql)
    await run(on_postgresql)
    proxy.requests.clear()
    with wire.counting() as statements:
        await run(on_postgresql)
    assert len(statements) == 1, statements
    assert [method for method, _ in proxy.requests] == requests


async def test_several_values_are_one_statement_on_postgresql(on_postgresql: Store, wire: Wire) -> None:
    statements = await wire.last(3, lambda: on_postgresql.task_state(TASK).aset_many(MANY))
    assert len(statements) == 1, statements
