"""Garbage collection: exactly what has expired, batch by batch, beside those who write."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import tracemalloc
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from asyncstore import (
    NEVER_EXPIRE,
    Asset,
    CleanupBatch,
    ManualClock,
    MetastoreBackend,
    Settings,
    StateStoreSettings,
    Store,
    TaskScope,
    connect,
)

from .support import TASK, Connections

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)


async def fill(store: Store, expiring: int, lasting: int) -> None:
    """Write rows that expire after a second, and rows that don't, some in the same task instances."""
    for number in range(4):
        state = store.task_state(TaskScope("dag", f"run-{number % 2}", "task", number))
        if keys := range(number, expiring, 4):
            await state.aset_many({f"expiring-{key}": key for key in keys}, retention=SECOND)
        if number % 2:
            await state.aset_many({f"lasting-{key}": key for key in range(number, lasting, 2)}, retention=NEVER_EXPIRE)


def rows(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as raw:
        tables = ("task_state", "task_instance", "asset_state")
        return {name: raw.execute(f"SELECT count(*) FROM asyncstore_{name}").fetchone()[0] for name in tables}


@pytest.mark.parametrize("batch_size", [0, 1, 7, 20, 1000])
async def test_exactly_what_has_expired_goes(url: str, path: Path, batch_size: int) -> None:
    clock = ManualClock()
    settings = Settings(state_store=StateStoreSettings(state_cleanup_batch_size=batch_size))
    async with connect(url, clock=clock, settings=settings) as store:
        await fill(store, 20, 10)
        await store.asset_state[Asset("orders")].aset("key", 1)
        before = rows(path)
        assert before == {"task_state": 29, "task_instance": 4, "asset_state": 1}
        clock.advance(SECOND - timedelta(microseconds=1))
        assert (await store.acleanup()).deleted == 0
        assert rows(path) == before
        clock.advance(timedelta(microseconds=1))  # from that instant
        batches: list[CleanupBatch] = []
        report = await store.acleanup(on_batch=batches.append)
        assert (report.deleted, report.dry_run, report.skipped) == (20, False, None)
        sizes = [20] if batch_size == 0 else [min(batch_size, 20 - n) for n in range(0, 20, batch_size)]
        assert [batch.done for batch in batches] == list(itertools.accumulate(sizes))
        assert {batch.total for batch in batches} == {20}
        assert rows(path) == {"task_state": 9, "task_instance": 2, "asset_state": 1}
        assert (await store.acleanup(on_batch=batches.append)).deleted == 0


async def test_a_dry_run_lists_and_deletes_nothing(url: str, path: Path) -> None:
    clock = ManualClock(datetime(1969, 1, 1, tzinfo=UTC))  # times before 1970 are negative
    async with connect(url, clock=clock) as store:
        await fill(store, 20, 10)
        clock.advance(SECOND)
        before = rows(path)
        found: list[tuple[TaskScope, str]] = []
        report = await store.acleanup(
            dry_run=True, on_batch=lambda batch: found.extend((row.scope, row.key) for row in batch.rows)
        )
        assert (report.deleted, report.dry_run) == (20, True)
        assert len(set(found)) == len(found) == 20
        assert {key for _, key in found} == {f"expiring-{number}" for number in range(20)}
        assert all(scope.map_index == int(key.rpartition("-")[2]) % 4 for scope, key in found)
        assert (await store.acleanup(dry_run=True)).deleted == 20
        assert rows(path) == before


async def test_an_interruption_between_batches_keeps_what_was_done(url: str, path: Path) -> None:
    clock = ManualClock()
    settings = Settings(state_store=StateStoreSettings(state_cleanup_batch_size=5))

    def interrupt(batch: CleanupBatch) -> None:
        if batch.done == 10:
            raise KeyboardInterrupt

    async with connect(url, clock=clock, settings=settings) as store:
        await fill(store, 20, 10)
        clock.advance(SECOND)
        with pytest.raises(KeyboardInterrupt):
            await store.acleanup(on_batch=interrupt)
        assert rows(path)["task_state"] == 19
        report = await store.acleanup()
        assert report.deleted == 10
        assert rows(path) == {"task_state": 9, "task_instance": 2, "asset_state": 0}


async def test_a_cancellation_between_batches_keeps_what_was_done(
    url: str, path: Path, connections: Connections
) -> None:
    clock = ManualClock()
    async with connect(url, clock=clock) as store:
        await fill(store, 40, 10)
        clock.advance(SECOND)

        def cancel(batch: CleanupBatch) -> None:
            if batch.done == 20:
                task.cancel()

        task = asyncio.create_task(store.backend.acleanup(batch_size=10, on_batch=cancel))
        await asyncio.wait([task])
        assert task.cancelled()
        await store.task_state(TASK).adelete("none")
        left = rows(path)["task_state"] - 9
        assert left in {10, 20}  # the third batch may have begun
        assert not connections.in_transaction()
        assert (await store.acleanup()).deleted == left


async def test_in_batches_while_another_connection_writes(url: str, path: Path) -> None:
    clock = ManualClock()
    async with connect(url, clock=clock) as store, connect(url, clock=clock) as other:
        await fill(store, 400, 10)
        clock.advance(SECOND)
        begun, done = asyncio.Event(), asyncio.Event()
        written = 0

        async def write() -> None:
            nonlocal written
            while not done.is_set():
                # Into the instances that are being emptied, and keys that are about to go.
                state = other.task_state(TaskScope("dag", f"run-{written % 2}", "task", written % 2))
                await state.aset(f"expiring-{written % 2}", written, retention=NEVER_EXPIRE)
                await state.aset(f"new-{written}", written, retention=NEVER_EXPIRE)
                written += 1
                if written == 2:
                    begun.set()

        writing = asyncio.create_task(write())
        await begun.wait()
        report = await store.backend.acleanup(batch_size=10)
        done.set()
        await writing
        assert report.deleted == 398  # what was overwritten first does not expire
        kept = rows(path)
        assert kept["task_state"] == 9 + 2 + written
        assert kept["task_instance"] == 3
        for number in range(2):
            state = store.task_state(TaskScope("dag", f"run-{number}", "task", number))
            assert await state.aget(f"expiring-{number}") in range(written)


async def test_what_expires_meanwhile_is_left_for_the_next_time(url: str) -> None:
    clock = ManualClock()
    async with connect(url, clock=clock) as store:
        state = store.task_state(TASK)
        await state.aset_many({str(n): n for n in range(4)}, retention=SECOND)
        await state.aset("later", 1, retention=2 * SECOND)
        clock.advance(SECOND)
        report = await store.backend.acleanup(batch_size=2, on_batch=lambda _: clock.advance(SECOND))
        assert report.deleted == 4
        assert (await store.acleanup()).deleted == 1


EXPIRED = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :rows - 1)
INSERT INTO asyncstore_task_state (task_instance_id, key, value, version, updated_at, expires_at)
SELECT 1 + i % 1000, 'key-' || i, '"0123456789012345678901234567890123456789"', 1 + i, 0, 1 + i FROM n
"""

INSTANCES = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999)
INSERT INTO asyncstore_task_instance (id, dag_id, run_id, task_id, map_index)
SELECT 1 + i, 'dag', 'run', 'task', i FROM n
"""


@pytest.mark.parametrize(
    ("how", "count", "batches"),
    [("whole", 100_000, 1), ("batches", 100_000, 20), ("dry run", 20_000, 20)],
    ids=["whole", "batches", "dry run"],
)
async def test_many_rows_in_bounded_memory(url: str, path: Path, how: str, count: int, batches: int) -> None:
    async with MetastoreBackend(url) as backend:
        with closing(sqlite3.connect(path, isolation_level=None)) as raw:
            raw.execute("PRAGMA synchronous = OFF")
            raw.execute("BEGIN")
            raw.execute(INSTANCES)
            raw.execute(EXPIRED, {"rows": count})
            raw.execute("COMMIT")
        done: list[int] = []
        tracemalloc.start()
        try:
            report = await backend.acleanup(
                dry_run=how == "dry run",
                batch_size=5000 if how == "batches" else 0,
                on_batch=lambda batch: done.append(batch.done),
            )
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert report.deleted == count
        assert done == [count // batches * n for n in range(1, batches + 1)]
        assert peak < 3_000_000  # all rows at once are more
        left = rows(path)
        assert left["task_state"] == (count if how == "dry run" else 0)
        assert left["task_instance"] == (1000 if how == "dry run" else 0)
