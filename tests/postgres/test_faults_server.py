"""The server restarted, killed, frozen, full, read-only or in an administrator's hands, under load."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager

import pytest
from anyio.to_thread import run_sync

from asyncstore import (
    OutcomeUnknownError,
    SchemaError,
    Store,
    StoreBusyError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from tests.postgres.client import asyncpg
from tests.postgres.databases import Databases
from tests.postgres.server import Server
from tests.postgres.store_load import Load
from tests.postgres.store_support import GRACE, ORDERS, audited, look, opened
from tests.postgres.support import connected

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="session")
def database_template(postgres: Databases) -> str:
    return audited(postgres)


@pytest.fixture(scope="module")
def own() -> Generator[Server]:
    """Give a server that the tests of this module may stop."""
    with Server(fsync=True) as server:
        yield server


@pytest.fixture
def own_url(own: Server) -> Generator[str]:
    database = own.create_database(template=audited(own))
    yield own.url(database)
    own.expect_no_connections(database)
    own.drop_database(database)


@asynccontextmanager
async def loaded(url: str, **options: object) -> AsyncGenerator[tuple[Store, Load]]:
    """Write and read all the time, and hold in the end what was said against what is there."""
    async with opened(url, **{"operation_timeout": 10.0, **options}) as store:
        load = Load(store)
        await load.start()
        try:
            yield store, load
            await load.progress()
        finally:
            await load.stop()
        load.judge(await look(url))


Do = Callable[[Server], object]


def kill(server: Server) -> None:
    server.kill()
    server.start()


def fast(server: Server) -> None:
    """Restart, telling those who are connected."""
    server.restart("fast")


def immediate(server: Server) -> None:
    """Restart as after a crash."""
    server.restart("immediate")


@pytest.mark.parametrize("do", [fast, immediate, kill])
async def test_a_restart_under_load(do: Do, own: Server, own_url: str) -> None:
    async with loaded(own_url) as (_, load):
        await run_sync(do, own)
        await load.progress()
        assert load.refused == [], "what could not be done is tried until the server is back"


async def test_a_server_that_stands_still_and_goes_on(own: Server, own_url: str) -> None:
    async with opened(own_url, operation_timeout=1.0) as store:
        await store.asset_state[ORDERS].aset("there", 1)
        await run_sync(own.freeze)
        began = time.monotonic()
        outcomes = await asyncio.gather(
            store.asset_state[ORDERS].aget("there"),
            store.asset_state[ORDERS].aset("there", 2),
            store.asset_state[ORDERS].akeys(),
            return_exceptions=True,
        )
        assert time.monotonic() - began < 1 + GRACE
        kinds: list[type[object]] = [type(outcome) for outcome in outcomes]
        assert kinds == [StoreUnavailableError, OutcomeUnknownError, StoreUnavailableError]
        await run_sync(own.thaw)
        assert await store.asset_state[ORDERS].aget("there") in (1, 2)
        await store.asset_state[ORDERS].aset("there", 3)
        assert await store.asset_state[ORDERS].aget("there") == 3


async def test_a_server_that_stands_still_for_a_while_loses_nothing(own: Server, own_url: str) -> None:
    async with loaded(own_url, operation_timeout=2.0) as (_, load):
        await run_sync(own.freeze)
        await asyncio.sleep(0.3)
        await run_sync(own.thaw)
        await load.progress()
        assert load.refused == []
        assert load.unknown == 0


async def test_every_connection_terminated_again_and_again(database_url: str) -> None:
    end = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'asyncstore'"
    )
    async with connected(database_url) as bare, loaded(database_url) as (_, load):
        for _ in range(15):
            await load.progress()
            assert await bare.fetchval(end) >= 2
        assert load.refused == []


async def test_every_statement_cancelled_again_and_again(database_url: str) -> None:
    cancel = (
        "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'asyncstore' AND state = 'active'"
    )
    async with connected(database_url) as bare, loaded(database_url) as (_, load):
        cancelled = 0
        for _ in range(5000):
            cancelled += await bare.fetchval(cancel)
            await asyncio.sleep(0)
            if cancelled >= 20:
                break
        assert cancelled > 0
        assert load.refused == []
        assert load.unknown == 0, "whoever is cancelled is told"


async def test_a_server_without_room_for_another_connection(own: Server, own_url: str) -> None:
    own.configure(superuser_reserved_connections=3)
    async with opened(own_url, operation_timeout=1.0) as store, contextlib.AsyncExitStack() as crowd:
        await store.asset_state[ORDERS].aset("there", 1)
        await store.asset_state[ORDERS].aget("there")
        login = own_url.replace("postgres@", "crowd@", 1)
        own.fetch("DO $$ BEGIN CREATE ROLE crowd LOGIN SUPERUSER; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        with contextlib.suppress(Exception):
            while True:
                await crowd.enter_async_context(connected(login))
        assert await store.asset_state[ORDERS].aget("there") == 1, "connections that are open go on"
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="max_connections"):
            async with opened(own_url, operation_timeout=0.5):
                pass
        assert time.monotonic() - began < 0.5 + GRACE
        waiting = asyncio.ensure_future(_open(own_url))
        await asyncio.sleep(0.05)
        await crowd.aclose()
        await waiting


async def _open(url: str) -> None:
    async with opened(url, operation_timeout=5.0) as store:
        await store.asset_state[ORDERS].aget("there")


async def test_a_timeout_for_statements(database_url: str, postgres: Databases) -> None:
    name = database_url.rpartition("/")[2]
    async with connected(database_url) as bare:
        await bare.execute(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " PERFORM pg_sleep(20); RETURN NEW; END $$;"
            "CREATE TRIGGER dawdle BEFORE INSERT OR UPDATE ON asyncstore_asset_state"
            " FOR EACH ROW WHEN (NEW.key = 'slow') EXECUTE FUNCTION dawdle()"
        )
        await bare.execute(f'ALTER DATABASE "{name}" SET statement_timeout = 100')
    async with opened(database_url, operation_timeout=5.0) as store:
        state = store.asset_state[ORDERS]
        began = time.monotonic()
        outcomes = await asyncio.gather(
            state.aset("first", 1),
            state.aset("slow", 1),
            *(state.aset(f"key{number}", number) for number in range(5)),
            return_exceptions=True,
        )
        assert time.monotonic() - began < 5 + GRACE
        assert isinstance(outcomes[1], StoreBusyError)
        assert "nothing was written" in str(outcomes[1])
        assert [outcomes[0], *outcomes[2:]] == [None] * 6, "the others do not suffer"
        assert await state.akeys() == ["first", *(f"key{number}" for number in range(5))]


async def test_a_database_that_may_only_be_read_for_a_while(database_url: str, postgres: Databases) -> None:
    name = database_url.rpartition("/")[2]
    async with opened(database_url) as store:
        await store.asset_state[ORDERS].aset("there", 1)
    postgres.fetch(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    async with opened(database_url, operation_timeout=2) as store:
        state = store.asset_state[ORDERS]
        assert await state.aget("there") == 1
        began = time.monotonic()
        writes: list[Callable[[], Awaitable[object]]] = [
            lambda: state.aset("there", 2),
            lambda: state.aset_many({"a": 1, "b": 2}),
            lambda: store.adelete_run("dag", "run"),
        ]
        for write in writes:
            with pytest.raises(StoreReadOnlyError):
                await write()
        assert time.monotonic() - began < 3 * (2 + GRACE)
        postgres.fetch(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        await state.aset("there", 3)
        assert await state.aget("there") == 3


async def test_a_deadlock_with_somebody_else(database_url: str) -> None:
    keys = ["a", "b", "c"]
    async with opened(database_url) as store, connected(database_url) as bare:
        state = store.asset_state[ORDERS]
        await state.aset_many(dict.fromkeys(keys, 0))
        lock = "SELECT FROM asyncstore_asset_state WHERE key = $1 FOR UPDATE"
        for number in range(3):
            await bare.execute("SET lock_timeout = '10s'; SET deadlock_timeout = '20ms'")
            await bare.execute("BEGIN")
            await bare.fetch(lock, "c")
            running = asyncio.ensure_future(state.aset_many(dict.fromkeys(keys, number)))
            await asyncio.sleep(0.15)  # the store has the others by now, and waits
            with contextlib.suppress(asyncpg.DeadlockDetectedError):
                await bare.fetch(lock, "a")
            await bare.execute("ROLLBACK")
            await running
            assert await state.aget_many(keys) == dict.fromkeys(keys, number)


async def test_a_schema_that_is_made_anew_under_a_store(database_url: str) -> None:
    async with opened(database_url) as store:
        state = store.asset_state[ORDERS]
        await state.aset("there", 1)
        await asyncio.gather(*(state.aset(f"key{number}", 1) for number in range(4)))
        await store.backend.adowngrade("base")  # type: ignore[attr-defined]
        with pytest.raises(SchemaError, match="asyncstore db upgrade"):
            await state.aget("there")
        with pytest.raises(SchemaError, match="asyncstore db upgrade"):
            await state.aset("there", 2)
        await store.backend.aupgrade()  # type: ignore[attr-defined]
        await state.aset("there", 3)
        assert await state.aget("there") == 3
        await asyncio.gather(*(state.aset(f"key{number}", 2) for number in range(4)))
        assert await state.akeys() == ["key0", "key1", "key2", "key3", "there"]
