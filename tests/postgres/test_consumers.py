"""Consumers on PostgreSQL: late commits, exactly once, processes, the server's clock."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from asyncstore import DatabaseSettings, MetastoreBackend, OutcomeUnknownError, Settings, connect
from tests.consumers.processes import divided, killed_at_every_await
from tests.consumers.support import ORDERS, QUICK, SETTINGS, record
from tests.consumers.transactions import INSERT, TransactionTests, row
from tests.postgres.proxy import Proxy
from tests.postgres.store_support import eventually
from tests.postgres.support import connected

pytestmark = pytest.mark.anyio

_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


class TestPostgresql(TransactionTests):
    @pytest.fixture
    def url(self, database_url: str) -> str:
        return database_url


async def test_an_event_whose_transaction_commits_late_is_not_skipped(database_url: str) -> None:
    """A session holds a recorded event back while others record and a consumer reads: it gets all, in order."""
    seen: list[Any] = []
    engine = create_async_engine(database_url)
    backend = MetastoreBackend(database_url, lock_timeout=20.0)
    async with backend, connect(backend=backend, settings=SETTINGS) as store:
        await record(store, 2)
        watcher = await store.aclaim_watcher(ORDERS, "late", owner="tests")
        other = await store.aclaim_watcher(ORDERS, "other", owner="tests")

        async def read() -> None:
            events: Any = store.events(ORDERS, consumer="loader").__aiter__()
            async with aclosing(events):
                async for event in events:
                    seen.append(event.payload)
                    if len(seen) == 6:
                        return

        reading = asyncio.create_task(read())
        async with AsyncSession(engine) as session:
            await backend.acommit(await watcher.prepare("late", None, None), session=session)
            waiting = [
                asyncio.create_task(other.acommit(await other.prepare(f"after {number}", None, None)))
                for number in range(3)
            ]
            async with connected(database_url) as bare:

                async def held() -> bool:
                    return bool(await bare.fetchval(_WAITING))

                await eventually(held, "the others to wait for the session")
                await eventually(lambda: seen == [0, 1], "the consumer to read what is there")
                await asyncio.sleep(10 * QUICK.poll_interval)  # many looks of the consumer
            assert seen == [0, 1]
            await session.commit()
        async with asyncio.timeout(20):
            await asyncio.gather(reading, *waiting)
    await engine.dispose()
    assert seen == [0, 1, "late", "after 0", "after 1", "after 2"]


async def test_leases_run_by_the_clock_of_the_server(database_url: str) -> None:
    options = QUICK.model_copy(update={"lease": 0.3, "heartbeat": 0.1})
    async with connect(database_url, settings=Settings(consumers=options)) as store:
        await record(store, 1)
        events: Any = store.events(ORDERS, consumer="loader").__aiter__()
        async with aclosing(events):
            await anext(events)
            async with connected(database_url) as bare:
                left = "SELECT lease_until - (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM"
                seen: set[bool] = set()
                for _ in range(10):  # longer than the lease
                    await asyncio.sleep(0.05)
                    seen.add(0 < await bare.fetchval(f"{left} asyncstore_member") <= 300_000)
                assert seen == {True}


async def test_others_record_and_it_is_heard_within_a_look(database_url: str) -> None:
    async with (
        connect(database_url, settings=SETTINGS) as here,
        connect(database_url, settings=SETTINGS) as there,
    ):
        await record(here, 1)
        events: Any = here.events(ORDERS, consumer="loader").__aiter__()
        async with aclosing(events), asyncio.timeout(20):
            await anext(events)
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0.05)
            await record(there, 1)
            assert (await waiting).payload == 0


async def test_behind_a_pooler_in_transaction_mode(pgbouncer_url: str, database_url: str) -> None:
    async with connected(database_url) as bare:
        await bare.execute("CREATE TABLE handled (event_id bigint PRIMARY KEY)")
        database = DatabaseSettings(url=pgbouncer_url, pooler="transaction")
        async with connect(settings=Settings(database=database, consumers=QUICK)) as store:
            recorded = await record(store, 4)
            events: Any = store.events(ORDERS, consumer="loader").__aiter__()
            async with aclosing(events), asyncio.timeout(20):
                for _ in recorded:
                    event = await anext(events)
                    async with event.transaction() as session:
                        await session.execute(INSERT, row(event))
                        await store.asset_state[ORDERS].aset("last", event.id, session=session)
            assert await store.asset_state[ORDERS].aget("last") == recorded[-1].id
        found = await bare.fetch("SELECT event_id FROM handled ORDER BY event_id")
        assert [each["event_id"] for each in found] == [event.id for event in recorded]


@pytest.mark.parametrize("made", [False, True])
async def test_a_connection_that_is_lost_around_the_commit_leaves_each_event_handled_once(
    proxy: Proxy, database_url: str, made: bool
) -> None:
    async with connected(database_url) as bare:
        await bare.execute("CREATE TABLE handled (event_id bigint PRIMARY KEY)")
        async with connect(proxy.through(database_url), settings=SETTINGS) as store:
            recorded = await record(store, 6)
            attempts: list[tuple[int, int]] = []
            events: Any = store.events(ORDERS, consumer="loader").__aiter__()
            async with aclosing(events), asyncio.timeout(30):
                while len(attempts) < 6 + (not made):
                    event = await anext(events)
                    attempts.append((event.id, event.attempt))
                    lost: AbstractContextManager[object] = nullcontext()
                    if len(attempts) == 4:
                        cut = proxy.swallow_answer if made else proxy.cut_before
                        cut("Q", containing=b"COMMIT;")
                        lost = pytest.raises(OutcomeUnknownError)
                    with lost:
                        async with event.transaction() as session:
                            await session.execute(INSERT, row(event))
            ids = [event.id for event in recorded]
            again = [] if made else [(ids[3], 2)]
            assert sorted(attempts) == sorted([*((each, 1) for each in ids), *again])
            (facts,) = await store.alist_consumers()
            assert (facts.in_hand, facts.waiting, facts.failed) == (0, 0, 0)
        found = await bare.fetch("SELECT event_id FROM handled ORDER BY event_id")
        assert [each["event_id"] for each in found] == ids


@pytest.mark.crash
@pytest.mark.timeout(300)
async def test_processes_divide_a_log_and_what_a_killed_one_had_comes_again(database_url: str) -> None:
    await divided(database_url)


@pytest.mark.crash
@pytest.mark.timeout(300)
async def test_killed_at_every_await_a_transaction_handles_each_event_once(database_url: str) -> None:
    assert await killed_at_every_await(database_url) == ([], [])
