"""Garbage collection that takes long, meets a lock, or loses its connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime

import pytest

from asyncstore import CleanupBatch, Commit, MetastoreBackend, Put, StoreUnavailableError
from tests.postgres.databases import Databases
from tests.postgres.held import held, rows_of
from tests.postgres.processes import PATIENCE
from tests.postgres.proxy import Proxy
from tests.postgres.store_support import TASK
from tests.postgres.support import connected
from tests.postgres.wire import Wire

pytestmark = pytest.mark.anyio

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
#: Counts how often the deletion of one row began, also where it was undone.
_DAWDLE = """
CREATE SEQUENCE begun;
CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM nextval('begun'), pg_sleep(1.5);
  RETURN OLD;
END $$;
CREATE TRIGGER dawdle BEFORE DELETE ON asyncstore_task_state
FOR EACH ROW WHEN (OLD.key = 'slow') EXECUTE FUNCTION dawdle()
"""
_LEFT = "SELECT count(*) FROM asyncstore_task_state"
_END = (
    "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
    " WHERE application_name = 'asyncstore' AND datname = current_database()"
)


async def fill(backend: MetastoreBackend, keys: list[str]) -> None:
    """Lay down rows that have expired, and one that has not."""
    expired = tuple(Put(TASK, key, "1", LONG_AGO) for key in keys)
    await backend.acommit(Commit((*expired, Put(TASK, "fresh", "1"))))


async def left(url: str) -> int:
    async with connected(url) as bare:
        return int(await bare.fetchval(_LEFT))


async def test_everything_at_once_for_longer_than_an_operation_may_take(database_url: str) -> None:
    async with connected(database_url) as bare:
        await bare.execute(_DAWDLE)
        async with MetastoreBackend(database_url, operation_timeout=0.5) as backend:
            await fill(backend, ["before", "slow", "zero"])
            async with asyncio.timeout(PATIENCE):
                report = await backend.acleanup(batch_size=0)
            assert (report.deleted, report.dry_run) == (3, False)
            assert await backend.alist_keys(TASK) == ["fresh"]
        assert await bare.fetchval("SELECT last_value FROM begun") == 1, "it was not begun anew"
        assert await bare.fetchval(_LEFT) == 1


@pytest.fixture
async def backend(wire: Wire, proxy: Proxy, database_url: str) -> AsyncGenerator[MetastoreBackend]:
    del wire  # hears every connection from its beginning
    async with MetastoreBackend(proxy.through(database_url), lock_timeout=0.3, operation_timeout=30.0) as backend:
        yield backend


@pytest.mark.parametrize("locked", ["key00", "key05", "key19"])
async def test_a_locked_row_is_waited_for_once(
    locked: str, backend: MetastoreBackend, wire: Wire, database_url: str
) -> None:
    await fill(backend, [f"key{number:02}" for number in range(20)])
    seen: list[int] = []

    def note(batch: CleanupBatch) -> None:
        seen.append(batch.done)

    async with held(database_url, rows_of(locked)):
        with wire.counting() as sent:
            report = await backend.acleanup(batch_size=2, on_batch=note)
    assert report.deleted == 19
    assert seen == [*range(2, 20, 2), 19]
    attempts = [each for each in sent if each == "SELECT delete_expired"]
    assert len(attempts) == len(seen) + 1, "a batch, and one for which the row was locked"
    assert (await backend.acleanup(batch_size=2)).deleted == 1
    assert await backend.alist_keys(TASK) == ["fresh"]


async def test_a_locked_row_where_all_goes_at_once(backend: MetastoreBackend, wire: Wire, database_url: str) -> None:
    await fill(backend, [f"key{number:02}" for number in range(20)])
    async with held(database_url, rows_of("key07")):
        with wire.counting() as sent:
            assert (await backend.acleanup()).deleted == 19
    assert sent.count("SELECT delete_expired") == 2
    assert (await backend.acleanup()).deleted == 1


Cut = Callable[[Proxy, Databases, str], object]
CUTS: dict[str, Cut] = {
    "rst": lambda proxy, _, __: proxy.cut("rst"),
    "fin": lambda proxy, _, __: proxy.cut("fin"),
    "terminated": lambda _, postgres, database: postgres.fetch(_END, database=database),
}


@pytest.mark.parametrize("how", CUTS)
async def test_a_connection_that_ends_between_two_pages(
    how: str, backend: MetastoreBackend, proxy: Proxy, postgres: Databases, database_url: str
) -> None:
    await fill(backend, [f"key{number}" for number in range(2500)])
    pages: list[int] = []

    def cut(batch: CleanupBatch) -> None:
        pages.append(len(batch.rows))
        if len(pages) == 1:
            CUTS[how](proxy, postgres, database_url.rpartition("/")[2])

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(StoreUnavailableError):
            await backend.acleanup(dry_run=True, on_batch=cut)
        assert pages == [1000]
        assert (await backend.acleanup(dry_run=True, on_batch=cut)).deleted == 2500
    assert pages == [1000, 1000, 1000, 500]
    assert await left(database_url) == 2501
