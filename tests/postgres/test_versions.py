"""Versions grow with every write of a key, also of one that waited for others that wrote and deleted it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from asyncstore import Asset, Commit, MetastoreBackend, Put, Scope, TaskScope
from asyncstore.backends.metastore.batching import Job
from asyncstore.backends.metastore.postgresql.writing import Write, WriteJob, commits, drawn_in, puts
from tests.postgres.client import Connection
from tests.postgres.processes import PATIENCE
from tests.postgres.store_support import eventually
from tests.postgres.support import connected

pytestmark = pytest.mark.anyio

OTHER = TaskScope("dag", "run", "other")


@pytest.fixture
async def backend(database_url: str) -> AsyncGenerator[MetastoreBackend]:
    async with MetastoreBackend(database_url) as backend:
        yield backend


def statement(put: Put, beside: int, plain: bool) -> tuple[str, Any]:
    """Give what writes a key, together with others of the same kind."""
    wanted = [put, *(Put(put.scope, f"beside {number}", "1") for number in range(beside))]
    loop = asyncio.get_running_loop()
    batch: list[WriteJob] = [Job(Write(Commit((each,)), PATIENCE), loop.create_future()) for each in wanted]
    found = puts(batch, None) if plain else commits(batch, None)
    assert found is not None
    return found


async def waits(connection: Connection) -> bool:
    found = await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    return bool(found)


@pytest.mark.parametrize("kind", ["together", "of any kind", "only if absent"])
@pytest.mark.parametrize("asset", [True, False], ids=["asset", "task"])
async def test_a_new_row_that_waited(backend: MetastoreBackend, database_url: str, asset: bool, kind: str) -> None:
    scope: Scope = await backend.aregister_asset(Asset("orders")) if asset else TaskScope("dag", "run", "task")
    await backend.aset(scope, "elsewhere", "1")  # a task instance is made before
    put = Put(scope, "key", "late", if_version=0 if kind == "only if absent" else None)
    late, late_arguments = statement(put, 2, kind == "together")
    early, early_arguments = statement(Put(scope, "key", "early"), 0, plain=False)
    async with connected(database_url) as one, connected(database_url) as two, connected(database_url) as watching:
        await one.execute("BEGIN")
        await one.fetch(early, *early_arguments)
        writing = asyncio.ensure_future(two.fetch(late, *late_arguments))  # draws, and waits for the other
        await eventually(lambda: waits(watching), "the other to wait")
        version = drawn_in(early, [tuple(row.values()) for row in await one.fetch(early, *early_arguments)])
        assert version > 0
        await one.execute("DELETE FROM asyncstore_asset_state WHERE key = 'key'")
        await one.execute("DELETE FROM asyncstore_task_state WHERE key = 'key'")
        assert not writing.done()
        await one.execute("COMMIT")
        await writing
    entry = await backend.aget_entry(scope, "key")
    assert entry is not None
    assert entry.text == "late"
    assert entry.version > version
    told = [row["version"] if "version" in row else row["number"] for row in writing.result()]
    assert entry.version in told


@pytest.mark.parametrize("plain", [True, False], ids=["together", "of any kind"])
async def test_a_row_that_is_there_and_waited(backend: MetastoreBackend, database_url: str, plain: bool) -> None:
    await backend.aset(OTHER, "key", "0")
    late, late_arguments = statement(Put(OTHER, "key", "late"), 2 if plain else 0, plain)
    early, early_arguments = statement(Put(OTHER, "key", "early"), 0, plain=True)
    async with connected(database_url) as one, connected(database_url) as two, connected(database_url) as watching:
        await one.execute("BEGIN")
        await one.fetch(early, *early_arguments)
        writing = asyncio.ensure_future(two.fetch(late, *late_arguments))
        await eventually(lambda: waits(watching), "the other to wait")
        version = drawn_in(early, [tuple(row.values()) for row in await one.fetch(early, *early_arguments)])
        await one.execute("COMMIT")
        await writing
    entry = await backend.aget_entry(OTHER, "key")
    assert entry is not None
    assert entry.text == "late"
    assert entry.version > version > 0
